#include "blockcore/drivers/qcow2/create.h"

#include "blockcore/base/memory.h"

#include <inttypes.h>

#define CLUSTER_BYTES_DEFAULT (64 * 1024)
#define REFCOUNT_BITS_DEFAULT 16

static uint32_t log2_of(uint64_t power_of_two)
{
    return (uint32_t)__builtin_ctzll(power_of_two);
}

static bool wants_extended(const struct blockdev_create_options_qcow2 *options)
{
    return options->has_extended_l2 && options->extended_l2;
}

static bool wants_raw(const struct blockdev_create_options_qcow2 *options)
{
    return options->has_data_file_raw && options->data_file_raw;
}

/* What excludes what. */
static struct error *check_features(const struct blockdev_create_options_qcow2 *options)
{
    bool v2 = options->has_version && options->version == BLOCKDEV_QCOW2_VERSION_V2;
    if (v2 && options->data_file)
        return error_new("data-file: needs version 'v3'");
    if (wants_raw(options) && !options->data_file)
        return error_new("data-file-raw: needs data-file");
    if (wants_raw(options) && options->backing_file)
        return error_new("data-file-raw: a raw data file cannot show backing-file '%s'", options->backing_file);
    if (v2 && options->has_lazy_refcounts && options->lazy_refcounts)
        return error_new("lazy-refcounts: needs version 'v3'");
    if (v2 && options->has_compression_type && options->compression_type != QCOW2_COMPRESSION_TYPE_ZLIB)
        return error_new("compression-type: 'zstd' needs version 'v3'");
    if (wants_raw(options) && options->encrypt)
        return error_new("data-file-raw: a raw data file cannot be encrypted");
    if (v2 && options->encrypt && options->has_preallocation && options->preallocation != PREALLOC_MODE_OFF)
        return error_new("preallocation: of an encrypted image needs version 'v3'");
    if (options->backing_file && !options->has_backing_fmt)
        return error_new("backing-fmt: is missing; the format of backing-file '%s' is not guessed",
                         options->backing_file);
    if (options->has_backing_fmt && !options->backing_file)
        return error_new("backing-fmt: needs backing-file");
    if (options->backing_file && options->has_preallocation && options->preallocation != PREALLOC_MODE_OFF &&
        !wants_extended(options))
        return error_new("preallocation: would hide backing-file '%s'; with extended-l2 it does not",
                         options->backing_file);
    return NULL;
}

static struct error *check_numbers(const struct blockdev_create_options_qcow2 *options, uint64_t cluster, int64_t bits)
{
    bool v2 = options->has_version && options->version == BLOCKDEV_QCOW2_VERSION_V2;
    if (!is_power_of_two(cluster))
        return error_new("cluster-size: %" PRIu64 " is not a power of two between 512 bytes and 2 MiB", cluster);
    if (wants_extended(options) && v2)
        return error_new("extended-l2: needs version 'v3'");
    if (wants_extended(options) && cluster < 1u << QCOW2_EXTENDED_CLUSTER_BITS_MIN)
        return error_new("extended-l2: needs a cluster-size of at least 16 KiB, not %" PRIu64, cluster);
    if (!is_power_of_two((uint64_t)bits))
        return error_new("refcount-bits: %" PRId64 " is not a power of two up to 64", bits);
    if (v2 && bits != REFCOUNT_BITS_DEFAULT)
        return error_new("refcount-bits: %" PRId64 " needs version 'v3'", bits);
    return NULL;
}

static struct error *set_size(struct qcow2_header *header, uint64_t size)
{
    uint64_t entries = qcow2_l1_entries_for(header, size);
    if (size > INT64_MAX || entries > QCOW2_L1_BYTES_MAX / sizeof(uint64_t))
        return error_new("size: %" PRIu64 " is too large for clusters of %" PRIu64 " bytes", size,
                         UINT64_C(1) << header->cluster_bits);
    header->size = size;
    /* An empty disk has a table as well, which counts as used. */
    header->l1_entries = (uint32_t)max_u64(entries, 1);
    return NULL;
}

uint64_t creation_clusters(const struct creation *creation)
{
    uint64_t data = creation->geometry.data_file ? 0 : creation->data;
    return 1 + creation->reftable + creation->refblocks + creation->l1 + creation->luks + creation->l2 + data;
}

/* How many clusters each part takes. Refcount blocks count themselves and the table that leads to them. */
static void plan_refcounts(struct creation *creation)
{
    uint64_t entries = UINT64_C(1) << creation->geometry.refblock_bits;
    uint64_t pointers = cluster_bytes(&creation->geometry) / sizeof(uint64_t);
    uint64_t rest = creation_clusters(creation);
    uint64_t before;
    creation->reftable = 1;
    creation->refblocks = 1;
    do {
        before = creation->reftable + creation->refblocks;
        creation->refblocks = div_round_up(rest + before, entries);
        creation->reftable = div_round_up(creation->refblocks, pointers);
    } while (creation->reftable + creation->refblocks != before);
}

static struct error *plan(struct creation *creation)
{
    struct qcow2_header *header = &creation->header;
    uint64_t cluster = cluster_bytes(&creation->geometry);
    creation->l1 = div_round_up(header->l1_entries * sizeof(uint64_t), cluster);
    if (creation->preallocation != PREALLOC_MODE_OFF && header->size > 0) {
        creation->l2 = header->l1_entries;
        creation->data = div_round_up(header->size, cluster);
    }
    creation->luks = div_round_up(creation->crypt.bytes, cluster);
    plan_refcounts(creation);
    if (creation->reftable * cluster > QCOW2_REFTABLE_BYTES_MAX)
        return error_new("size: %" PRIu64 " is too large to be preallocated with this cluster size", header->size);
    header->reftable_offset = cluster;
    header->reftable_clusters = (uint32_t)creation->reftable;
    header->l1_offset = (1 + creation->reftable + creation->refblocks) * cluster;
    if (creation->luks > 0)
        qcow2_header_set_crypto(header, header->l1_offset + creation->l1 * cluster, creation->crypt.bytes);
    return NULL;
}

struct error *creation_plan(const struct blockdev_create_options_qcow2 *options, struct creation *creation)
{
    uint64_t cluster = options->has_cluster_size ? options->cluster_size : CLUSTER_BYTES_DEFAULT;
    int64_t bits = options->has_refcount_bits ? options->refcount_bits : REFCOUNT_BITS_DEFAULT;
    struct error *err = check_features(options);
    if (!err)
        err = check_numbers(options, cluster, bits);
    if (err)
        return err;
    struct qcow2_header *header = &creation->header;
    header->version = options->has_version && options->version == BLOCKDEV_QCOW2_VERSION_V2 ? 2 : 3;
    header->cluster_bits = log2_of(cluster);
    if (wants_extended(options))
        header->incompatible |= QCOW2_EXTENDED_L2;
    err = set_size(header, options->size);
    if (err)
        return err;
    header->refcount_order = log2_of((uint64_t)bits);
    if (options->has_lazy_refcounts && options->lazy_refcounts)
        header->compatible = QCOW2_LAZY_REFCOUNTS;
    if (options->has_compression_type && options->compression_type == QCOW2_COMPRESSION_TYPE_ZSTD) {
        header->compression = QCOW2_ZSTD;
        header->incompatible |= QCOW2_COMPRESSION;
    }
    if (options->data_file)
        header->incompatible |= QCOW2_DATA_FILE;
    if (wants_raw(options))
        header->autoclear |= QCOW2_DATA_FILE_RAW;
    header->crypt_method = creation->crypt.password ? QCOW2_CRYPT_LUKS : QCOW2_CRYPT_NONE;
    header->backing_file = xstrdup_or_null(options->backing_file);
    if (options->has_backing_fmt)
        header->backing_format = xstrdup(blockdev_driver_name(options->backing_fmt));
    creation->geometry = geometry_of(header);
    creation->preallocation = options->has_preallocation ? options->preallocation : PREALLOC_MODE_OFF;
    creation->raw_data = wants_raw(options);
    /* What is written to a raw data file without us shows in the disk where the tables say data: everywhere. */
    if (creation->raw_data && creation->preallocation == PREALLOC_MODE_OFF)
        creation->preallocation = PREALLOC_MODE_METADATA;
    return plan(creation);
}
