#include "blockcore/drivers/qcow2/header.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"

#include <inttypes.h>
#include <string.h>

enum extension_type {
    EXTENSION_END = 0,
    EXTENSION_BACKING_FORMAT = 0xe2792acau,
    EXTENSION_FEATURE_NAMES = 0x6803f857u,
    EXTENSION_BITMAPS = 0x23852875u,
    EXTENSION_CRYPTO = 0x0537be77u,
    EXTENSION_DATA_FILE = 0x44415441u,
};

#define EXTENSION_HEADER_BYTES 8
#define BITMAPS_EXTENSION_BYTES 24
#define CRYPTO_EXTENSION_BYTES 16
#define FEATURE_NAME_BYTES 46
#define FEATURE_ENTRY_BYTES 48
#define FEATURE_NAMES_CLUSTER_BITS_MIN 12
#define FORMAT_NAME_MAX 63
#define DATA_FILE_NAME_MAX 4095

/* The bytes of an extension inside the cluster. */
struct extension {
    const uint8_t *data;
    size_t bytes;
};

enum feature_kind {
    FEATURE_INCOMPATIBLE,
    FEATURE_COMPATIBLE,
    FEATURE_AUTOCLEAR,
};

/* Names as QEMU's images have them, so that older programs tell the user the same words. */
static const struct {
    enum feature_kind kind;
    uint8_t bit;
    const char *name;
} feature_names[] = {
    { FEATURE_INCOMPATIBLE, 0, "dirty bit" },
    { FEATURE_INCOMPATIBLE, 1, "corrupt bit" },
    { FEATURE_INCOMPATIBLE, 2, "external data file" },
    { FEATURE_INCOMPATIBLE, 3, "compression type" },
    { FEATURE_INCOMPATIBLE, 4, "extended L2 entries" },
    { FEATURE_COMPATIBLE, 0, "lazy refcounts" },
    { FEATURE_AUTOCLEAR, 0, "bitmaps" },
    { FEATURE_AUTOCLEAR, 1, "raw external data" },
};

uint64_t qcow2_l1_entries_for(const struct qcow2_header *header, uint64_t size)
{
    uint32_t entry_bits = header->incompatible & QCOW2_EXTENDED_L2 ? 4 : 3;
    uint32_t entries_bits = header->cluster_bits - entry_bits;
    uint32_t table_bits = header->cluster_bits + entries_bits; /* guest bytes of one L2 table, as a power of two */
    return div_round_up(size, UINT64_C(1) << table_bits);
}

struct error *qcow2_header_measure(const void *data, size_t bytes, size_t *cluster_bytes)
{
    const uint8_t *header = data;
    if (bytes < QCOW2_V2_HEADER_BYTES || load_be32(header) != QCOW2_MAGIC)
        return error_new("not a qcow2 image");
    uint32_t version = load_be32(header + 4);
    if (version != 2 && version != 3)
        return error_new("qcow2 version %" PRIu32 " is not supported", version);
    uint32_t cluster_bits = load_be32(header + 20);
    if (cluster_bits < QCOW2_CLUSTER_BITS_MIN || cluster_bits > QCOW2_CLUSTER_BITS_MAX)
        return error_new("the cluster size (2 to the power of %" PRIu32 ") is not between 512 bytes and 2 MiB",
                         cluster_bits);
    *cluster_bytes = (size_t)1 << cluster_bits;
    return NULL;
}

static void read_v2_fields(const uint8_t *data, struct qcow2_header *header)
{
    header->version = load_be32(data + 4);
    header->cluster_bits = load_be32(data + 20);
    header->size = load_be64(data + QCOW2_FIELD_SIZE);
    header->crypt_method = load_be32(data + 32);
    header->l1_entries = load_be32(data + QCOW2_FIELD_L1);
    header->l1_offset = load_be64(data + QCOW2_FIELD_L1 + 4);
    header->reftable_offset = load_be64(data + QCOW2_FIELD_REFTABLE);
    header->reftable_clusters = load_be32(data + QCOW2_FIELD_REFTABLE + 8);
    header->snapshot_count = load_be32(data + 60);
    header->snapshots_offset = load_be64(data + 64);
    header->refcount_order = 4;
    header->header_bytes = QCOW2_V2_HEADER_BYTES;
}

static struct error *read_v3_fields(const uint8_t *data, size_t bytes, struct qcow2_header *header)
{
    if (bytes < QCOW2_V3_HEADER_BYTES_MIN)
        return error_new("the header is cut off after %zu bytes", bytes);
    header->incompatible = load_be64(data + QCOW2_FIELD_INCOMPATIBLE);
    header->compatible = load_be64(data + 80);
    header->autoclear = load_be64(data + QCOW2_FIELD_AUTOCLEAR);
    header->refcount_order = load_be32(data + 96);
    header->header_bytes = load_be32(data + 100);
    if (header->header_bytes < QCOW2_V3_HEADER_BYTES_MIN || header->header_bytes % 8 || header->header_bytes > bytes)
        return error_new("the header length %" PRIu32 " is not valid", header->header_bytes);
    if (header->header_bytes > 104)
        header->compression = data[104];
    if (header->header_bytes > QCOW2_HEADER_BYTES) {
        header->tail = xmalloc(header->header_bytes - QCOW2_HEADER_BYTES);
        memcpy(header->tail, data + QCOW2_HEADER_BYTES, header->header_bytes - QCOW2_HEADER_BYTES);
    }
    return NULL;
}

/* Finds the extension at *@position and moves behind it. False at the end of the list. */
static struct error *next_extension(const uint8_t *data, size_t end, size_t *position, uint32_t *type,
                                    struct extension *extension)
{
    *type = EXTENSION_END;
    if (*position + EXTENSION_HEADER_BYTES > end)
        return NULL;
    uint32_t found = load_be32(data + *position);
    uint32_t bytes = load_be32(data + *position + 4);
    size_t start = *position + EXTENSION_HEADER_BYTES;
    if (found == EXTENSION_END)
        return NULL;
    if (bytes > end - start)
        return error_new("header extension 0x%08" PRIx32 " of %" PRIu32 " bytes does not fit", found, bytes);
    *type = found;
    *extension = (struct extension){ data + start, bytes };
    *position = start + (size_t)align_up(bytes, 8);
    return NULL;
}

static struct error *take_backing_format(struct extension extension, struct qcow2_header *header)
{
    if (extension.bytes > FORMAT_NAME_MAX)
        return error_new("the name of the backing format is %zu bytes long", extension.bytes);
    free(header->backing_format);
    header->backing_format = xstrndup((const char *)extension.data, extension.bytes);
    return NULL;
}

static struct error *take_data_file(struct extension extension, struct qcow2_header *header)
{
    if (extension.bytes > DATA_FILE_NAME_MAX)
        return error_new("the name of the data file is %zu bytes long, at most %d are allowed", extension.bytes,
                         DATA_FILE_NAME_MAX);
    if (memchr(extension.data, 0, extension.bytes))
        return error_new("the name of the data file has a zero byte in it");
    free(header->data_file);
    header->data_file = xstrndup((const char *)extension.data, extension.bytes);
    return NULL;
}

static void keep_extension(uint32_t type, struct extension extension, struct qcow2_header *header)
{
    header->kept = xrealloc_array(header->kept, header->kept_count + 1, sizeof(*header->kept));
    uint8_t *data = xmalloc(extension.bytes ? extension.bytes : 1);
    memcpy(data, extension.data, extension.bytes);
    header->kept[header->kept_count++] = (struct qcow2_extension){ type, extension.bytes, data };
}

static struct error *take_bitmaps(struct extension extension, struct qcow2_header *header)
{
    if (extension.bytes < BITMAPS_EXTENSION_BYTES)
        return error_new("the bitmaps extension is only %zu bytes long", extension.bytes);
    header->has_bitmaps = true;
    header->bitmap_count = load_be32(extension.data);
    header->bitmap_directory_bytes = load_be64(extension.data + 8);
    header->bitmap_directory_offset = load_be64(extension.data + 16);
    return NULL;
}

static struct error *take_crypto(struct extension extension, struct qcow2_header *header)
{
    if (extension.bytes != CRYPTO_EXTENSION_BYTES)
        return error_new("the encryption extension is %zu bytes long", extension.bytes);
    header->has_crypto = true;
    header->crypto_offset = load_be64(extension.data);
    header->crypto_bytes = load_be64(extension.data + 8);
    return NULL;
}

/* Does qcow2_header_format make it? */
static bool is_made_from_fields(uint32_t type)
{
    return type == EXTENSION_BACKING_FORMAT || type == EXTENSION_DATA_FILE;
}

static struct error *read_extensions(const uint8_t *data, size_t end, struct qcow2_header *header,
                                     struct extension *names)
{
    size_t position = header->header_bytes;
    for (;;) {
        uint32_t type;
        struct extension extension;
        struct error *err = next_extension(data, end, &position, &type, &extension);
        if (err || type == EXTENSION_END)
            return err;
        if (type == EXTENSION_BACKING_FORMAT)
            err = take_backing_format(extension, header);
        else if (type == EXTENSION_DATA_FILE)
            err = take_data_file(extension, header);
        else if (type == EXTENSION_BITMAPS)
            err = take_bitmaps(extension, header);
        else if (type == EXTENSION_CRYPTO)
            err = take_crypto(extension, header);
        else if (type == EXTENSION_FEATURE_NAMES)
            *names = extension;
        if (err)
            return err;
        if (!is_made_from_fields(type))
            keep_extension(type, extension, header);
    }
}

/* The name that the image gives to an incompatible feature; the caller frees it. */
static char *feature_name(struct extension names, unsigned bit)
{
    for (size_t at = 0; at + FEATURE_ENTRY_BYTES <= names.bytes; at += FEATURE_ENTRY_BYTES) {
        const uint8_t *entry = names.data + at;
        if (entry[0] == FEATURE_INCOMPATIBLE && entry[1] == bit && entry[2])
            return xstrndup((const char *)entry + 2, FEATURE_NAME_BYTES);
    }
    return xasprintf("incompatible feature bit %u", bit);
}

static struct error *refuse_unknown_features(const struct qcow2_header *header, struct extension names)
{
    uint64_t unknown = header->incompatible & ~(uint64_t)QCOW2_INCOMPATIBLE_KNOWN;
    if (!unknown)
        return NULL;
    CLEANUP(free) char *list = NULL;
    for (unsigned bit = 0; bit < 64; bit++) {
        if (!(unknown >> bit & 1))
            continue;
        CLEANUP(free) char *name = feature_name(names, bit);
        char *longer = list ? xasprintf("%s, '%s'", list, name) : xasprintf("'%s'", name);
        free(list);
        list = longer;
    }
    return error_new("the image uses features that are not supported: %s", list);
}

static struct error *read_backing_name(const uint8_t *data, size_t bytes, struct qcow2_header *header)
{
    uint64_t offset = load_be64(data + QCOW2_FIELD_BACKING);
    uint32_t length = load_be32(data + 16);
    if (offset == 0 || length == 0)
        return NULL;
    if (length > QCOW2_BACKING_NAME_MAX)
        return error_new("the backing file name is %" PRIu32 " bytes long, at most %d are allowed", length,
                         QCOW2_BACKING_NAME_MAX);
    if (!range_inside(range_make(offset, length), bytes) || offset < header->header_bytes)
        return error_new("the backing file name at offset %" PRIu64 " is not inside the first cluster", offset);
    if (memchr(data + offset, 0, length))
        return error_new("the backing file name has a zero byte in it");
    header->backing_file = xstrndup((const char *)data + offset, length);
    return NULL;
}

/* Is there a table of @bytes bytes that starts at a cluster and ends where offsets make sense? */
static struct error *check_table(const struct qcow2_header *header, const char *what, uint64_t offset, uint64_t bytes)
{
    uint64_t cluster_bytes = UINT64_C(1) << header->cluster_bits;
    if (!is_aligned(offset, cluster_bytes))
        return error_new("the %s at offset %" PRIu64 " does not start at a cluster", what, offset);
    if (offset < cluster_bytes && bytes > 0)
        return error_new("the %s overlaps the header", what);
    if (!range_inside(range_make(offset, bytes), QCOW2_HOST_OFFSET_END))
        return error_new("the %s at offset %" PRIu64 " ends outside of any file", what, offset);
    return NULL;
}

static struct error *check_l1(const struct qcow2_header *header)
{
    if ((header->incompatible & QCOW2_EXTENDED_L2) && header->cluster_bits < QCOW2_EXTENDED_CLUSTER_BITS_MIN)
        return error_new("the image has subclusters, but its clusters are smaller than 16 KiB");
    if (header->size > INT64_MAX)
        return error_new("the size %" PRIu64 " is too large", header->size);
    if (header->l1_entries > QCOW2_L1_BYTES_MAX / sizeof(uint64_t))
        return error_new("the L1 table of %" PRIu32 " entries is larger than 32 MiB", header->l1_entries);
    if (header->l1_entries < qcow2_l1_entries_for(header, header->size))
        return error_new("the L1 table of %" PRIu32 " entries is too small for %" PRIu64 " bytes", header->l1_entries,
                         header->size);
    return check_table(header, "L1 table", header->l1_offset, header->l1_entries * sizeof(uint64_t));
}

static struct error *check_refcounts(const struct qcow2_header *header)
{
    if (header->refcount_order > 6)
        return error_new("a refcount width of 2 to the power of %" PRIu32 " bits is not valid", header->refcount_order);
    if (header->reftable_clusters == 0)
        return error_new("the image has no refcount table");
    uint64_t bytes = (uint64_t)header->reftable_clusters << header->cluster_bits;
    if (bytes > QCOW2_REFTABLE_BYTES_MAX)
        return error_new("the refcount table of %" PRIu32 " clusters is larger than 8 MiB", header->reftable_clusters);
    return check_table(header, "refcount table", header->reftable_offset, bytes);
}

static struct error *check_compression(const struct qcow2_header *header)
{
    bool flagged = header->incompatible & QCOW2_COMPRESSION;
    if (header->compression > QCOW2_ZSTD)
        return error_new("compression type %u is not supported", header->compression);
    if (flagged != (header->compression != QCOW2_DEFLATE))
        return error_new("the compression type %u contradicts the feature bits", header->compression);
    return NULL;
}

static struct error *check_fields(const struct qcow2_header *header)
{
    if (header->crypt_method > 2)
        return error_new("encryption method %" PRIu32 " is not supported", header->crypt_method);
    if (header->snapshot_count > QCOW2_SNAPSHOTS_MAX)
        return error_new("%" PRIu32 " snapshots are too many", header->snapshot_count);
    if ((header->autoclear & QCOW2_BITMAPS) && !header->has_bitmaps)
        return error_new("the image says that it has bitmaps, but has no bitmaps extension");
    struct error *err = check_l1(header);
    if (!err)
        err = check_refcounts(header);
    if (!err)
        err = check_table(header, "snapshot table", header->snapshots_offset, header->snapshot_count);
    if (!err && header->has_crypto)
        err = check_table(header, "LUKS header", header->crypto_offset, header->crypto_bytes);
    if (!err)
        err = check_compression(header);
    return err;
}

/* Extensions end where the backing file name begins: its place lies behind them. */
static size_t extensions_end(const uint8_t *data, size_t bytes, const struct qcow2_header *header)
{
    uint64_t backing = load_be64(data + QCOW2_FIELD_BACKING);
    return backing > header->header_bytes && backing < bytes ? (size_t)backing : bytes;
}

struct error *qcow2_header_parse(const void *data, size_t bytes, struct qcow2_header *out)
{
    size_t cluster_bytes;
    struct error *err = qcow2_header_measure(data, bytes, &cluster_bytes);
    if (err)
        return err;
    if (bytes > cluster_bytes)
        bytes = cluster_bytes;

    CLEANUP(qcow2_header_fini) struct qcow2_header header = { 0 };
    read_v2_fields(data, &header);
    if (header.version >= 3)
        err = read_v3_fields(data, bytes, &header);
    struct extension names = { 0 };
    if (!err)
        err = read_extensions(data, extensions_end(data, bytes, &header), &header, &names);
    if (!err)
        err = refuse_unknown_features(&header, names);
    if (!err)
        err = read_backing_name(data, bytes, &header);
    if (!err)
        err = check_fields(&header);
    if (err)
        return err;
    *out = header;
    header = (struct qcow2_header){ 0 };
    return NULL;
}

void qcow2_header_fini(struct qcow2_header *header)
{
    free(steal(&header->backing_file));
    free(steal(&header->backing_format));
    free(steal(&header->data_file));
    free(steal(&header->tail));
    for (size_t i = 0; i < header->kept_count; i++)
        free(header->kept[i].data);
    free(steal(&header->kept));
    header->kept_count = 0;
}

void qcow2_header_set_crypto(struct qcow2_header *header, uint64_t offset, uint64_t bytes)
{
    uint8_t data[CRYPTO_EXTENSION_BYTES];
    store_be64(data, offset);
    store_be64(data + 8, bytes);
    header->has_crypto = true;
    header->crypto_offset = offset;
    header->crypto_bytes = bytes;
    keep_extension(EXTENSION_CRYPTO, (struct extension){ data, sizeof(data) }, header);
}

/* Bytes of the fields, before the first extension. */
static size_t fixed_bytes(const struct qcow2_header *header)
{
    if (header->version < 3)
        return QCOW2_V2_HEADER_BYTES;
    return header->tail ? header->header_bytes : QCOW2_HEADER_BYTES;
}

static void format_fields(const struct qcow2_header *header, uint8_t *out)
{
    store_be32(out, QCOW2_MAGIC);
    store_be32(out + 4, header->version);
    store_be32(out + 20, header->cluster_bits);
    store_be64(out + QCOW2_FIELD_SIZE, header->size);
    store_be32(out + 32, header->crypt_method);
    store_be32(out + QCOW2_FIELD_L1, header->l1_entries);
    store_be64(out + QCOW2_FIELD_L1 + 4, header->l1_offset);
    store_be64(out + QCOW2_FIELD_REFTABLE, header->reftable_offset);
    store_be32(out + QCOW2_FIELD_REFTABLE + 8, header->reftable_clusters);
    store_be32(out + 60, header->snapshot_count);
    store_be64(out + 64, header->snapshots_offset);
    if (header->version < 3)
        return;
    store_be64(out + QCOW2_FIELD_INCOMPATIBLE, header->incompatible);
    store_be64(out + 80, header->compatible);
    store_be64(out + QCOW2_FIELD_AUTOCLEAR, header->autoclear);
    store_be32(out + 96, header->refcount_order);
    store_be32(out + 100, (uint32_t)fixed_bytes(header));
    out[104] = header->compression;
    if (header->tail)
        memcpy(out + QCOW2_HEADER_BYTES, header->tail, fixed_bytes(header) - QCOW2_HEADER_BYTES);
}

/* Where the next extension goes. */
static size_t format_extension(uint8_t *out, size_t position, uint32_t type, const void *data, size_t bytes)
{
    store_be32(out + position, type);
    store_be32(out + position + 4, (uint32_t)bytes);
    memcpy(out + position + EXTENSION_HEADER_BYTES, data, bytes);
    return position + EXTENSION_HEADER_BYTES + (size_t)align_up(bytes, 8);
}

static size_t format_feature_names(uint8_t *out, size_t position)
{
    uint8_t table[ARRAY_SIZE(feature_names) * FEATURE_ENTRY_BYTES] = { 0 };
    for (size_t i = 0; i < ARRAY_SIZE(feature_names); i++) {
        uint8_t *entry = table + i * FEATURE_ENTRY_BYTES;
        entry[0] = (uint8_t)feature_names[i].kind;
        entry[1] = feature_names[i].bit;
        memcpy(entry + 2, feature_names[i].name, strlen(feature_names[i].name));
    }
    return format_extension(out, position, EXTENSION_FEATURE_NAMES, table, sizeof(table));
}

static size_t extension_bytes(size_t data_bytes)
{
    return EXTENSION_HEADER_BYTES + (size_t)align_up(data_bytes, 8);
}

static size_t string_extension_bytes(const char *string)
{
    return string ? extension_bytes(strlen(string)) : 0;
}

/* Everything but the table of names. */
static size_t needed_bytes(const struct qcow2_header *header)
{
    size_t needed = fixed_bytes(header) + EXTENSION_HEADER_BYTES;
    needed += header->backing_file ? strlen(header->backing_file) : 0;
    needed += string_extension_bytes(header->backing_format) + string_extension_bytes(header->data_file);
    for (size_t i = 0; i < header->kept_count; i++)
        needed += extension_bytes(header->kept[i].bytes);
    return needed;
}

/* The table is a courtesy. It nearly fills a small cluster, and would leave no room for what comes later: the name of a
 * backing file, the extension that leads to bitmaps. An image keeps the table that it has: it may know features that we
 * do not. */
static bool wants_feature_names(const struct qcow2_header *header)
{
    if (header->cluster_bits < FEATURE_NAMES_CLUSTER_BITS_MIN)
        return false;
    for (size_t i = 0; i < header->kept_count; i++) {
        if (header->kept[i].type == EXTENSION_FEATURE_NAMES)
            return false;
    }
    return header->version >= 3;
}

static struct error *check_fits(const struct qcow2_header *header)
{
    size_t cluster_bytes = (size_t)1 << header->cluster_bits;
    size_t name_bytes = header->backing_file ? strlen(header->backing_file) : 0;
    size_t format_bytes = header->backing_format ? strlen(header->backing_format) : 0;
    size_t needed = needed_bytes(header);
    if (name_bytes > QCOW2_BACKING_NAME_MAX || format_bytes > FORMAT_NAME_MAX ||
        (needed > cluster_bytes && needed - name_bytes <= cluster_bytes))
        return error_new("backing-file: the name is too long: %zu bytes do not fit into the header", name_bytes);
    if (header->data_file && strlen(header->data_file) > DATA_FILE_NAME_MAX)
        return error_new("data-file: the name of %zu bytes is too long", strlen(header->data_file));
    if (needed > cluster_bytes)
        return error_new("the header of %zu bytes does not fit into a cluster of %zu", needed, cluster_bytes);
    return NULL;
}

/* All extensions and their end; returns where the next thing may be. */
static size_t format_extensions(const struct qcow2_header *header, bool with_names, uint8_t *out)
{
    size_t position = fixed_bytes(header);
    if (header->backing_format)
        position = format_extension(out, position, EXTENSION_BACKING_FORMAT, header->backing_format,
                                    strlen(header->backing_format));
    if (header->data_file)
        position = format_extension(out, position, EXTENSION_DATA_FILE, header->data_file, strlen(header->data_file));
    for (size_t i = 0; i < header->kept_count; i++) {
        const struct qcow2_extension *kept = &header->kept[i];
        if (with_names || kept->type != EXTENSION_FEATURE_NAMES)
            position = format_extension(out, position, kept->type, kept->data, kept->bytes);
    }
    size_t names = extension_bytes(ARRAY_SIZE(feature_names) * FEATURE_ENTRY_BYTES);
    size_t cluster_bytes = (size_t)1 << header->cluster_bits;
    if (with_names && wants_feature_names(header) && needed_bytes(header) + names <= cluster_bytes)
        position = format_feature_names(out, position);
    return position + EXTENSION_HEADER_BYTES; /* the end of the list: type and length zero */
}

/* Where it ends. */
static size_t format_name(const struct qcow2_header *header, size_t position, uint8_t *out)
{
    if (!header->backing_file)
        return position;
    size_t bytes = strlen(header->backing_file);
    store_be64(out + QCOW2_FIELD_BACKING, position);
    store_be32(out + QCOW2_FIELD_BACKING + 8, (uint32_t)bytes);
    memcpy(out + position, header->backing_file, bytes);
    return position + bytes;
}

struct error *qcow2_header_format(const struct qcow2_header *header, void *cluster, size_t *used)
{
    struct error *err = check_fits(header);
    if (err)
        return err;
    memset(cluster, 0, (size_t)1 << header->cluster_bits);
    format_fields(header, cluster);
    size_t end = format_name(header, format_extensions(header, true, cluster), cluster);
    if (used)
        *used = end;
    return NULL;
}

bool qcow2_header_has_room_for_bitmaps(const struct qcow2_header *header)
{
    for (size_t i = 0; i < header->kept_count; i++) {
        if (header->kept[i].type == EXTENSION_BITMAPS)
            return true;
    }
    /* The name of the backing file follows the extensions. It is copied to behind the place where it is. */
    size_t name_bytes = header->backing_file ? strlen(header->backing_file) : 0;
    size_t now = needed_bytes(header);
    size_t then = now - name_bytes + extension_bytes(BITMAPS_EXTENSION_BYTES);
    return header->has_bitmaps || max_u64(then, now) + name_bytes <= UINT64_C(1) << header->cluster_bits;
}

bool qcow2_header_format_short(const struct qcow2_header *header, size_t name_at, void *cluster)
{
    size_t name_bytes = header->backing_file ? strlen(header->backing_file) : 0;
    size_t most = needed_bytes(header) - name_bytes;
    uint8_t *out = xcalloc(1, max_u64((size_t)1 << header->cluster_bits, most));
    format_fields(header, out);
    size_t end = format_extensions(header, false, out);
    bool fits = end <= QCOW2_SECTOR_BYTES && (name_bytes == 0 || end <= name_at);
    if (fits) {
        format_name(header, name_at, out);
        memcpy(cluster, out, QCOW2_SECTOR_BYTES);
    }
    free(out);
    return fits;
}
