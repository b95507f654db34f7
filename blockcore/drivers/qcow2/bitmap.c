#include "blockcore/drivers/qcow2/bitmap.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"
#include "blockcore/drivers/qcow2/header.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TYPE_DIRTY_TRACKING 1
#define FLAGS_KNOWN (QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO | QCOW2_BITMAP_EXTRA_COMPATIBLE)

void qcow2_bitmap_fini(struct qcow2_bitmap *bitmap)
{
    free(steal(&bitmap->name));
    free(steal(&bitmap->extra));
}

void qcow2_bitmaps_free(struct qcow2_bitmap *list, uint32_t count)
{
    for (uint32_t i = 0; list && i < count; i++)
        qcow2_bitmap_fini(&list[i]);
    free(list);
}

struct qcow2_bitmap qcow2_bitmap_copy(const struct qcow2_bitmap *bitmap)
{
    struct qcow2_bitmap copy = *bitmap;
    copy.name = xcalloc(1, bitmap->name_bytes + 1u);
    memcpy(copy.name, bitmap->name, bitmap->name_bytes);
    if (bitmap->extra) {
        copy.extra = xmalloc(bitmap->extra_bytes);
        memcpy(copy.extra, bitmap->extra, bitmap->extra_bytes);
    }
    return copy;
}

uint64_t qcow2_bitmap_table_entries(uint64_t disk_bytes, uint32_t granularity_bits, uint32_t cluster_bits)
{
    uint64_t bytes = div_round_up(div_round_up(disk_bytes, UINT64_C(1) << granularity_bits), 8);
    return max_u64(div_round_up(bytes, UINT64_C(1) << cluster_bits), 1);
}

/* Reading ------------------------------------------------------------------------------------------------------- */

/* Length of the sequence that begins here, 0 when it is none of UTF-8: whatever shows names expects that. */
static size_t utf8_sequence(const uint8_t *text, size_t bytes)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    if (text[0] < 0x80)
        return text[0] ? 1 : 0;
    size_t length = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    if (text[0] < 0xc2 || text[0] > 0xf4 || length > bytes)
        return 0;
    uint32_t code = text[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (text[i] & 0x3f);
    }
    return code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : length;
}

static bool is_text(const uint8_t *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        size_t length = utf8_sequence(text + at, bytes - at);
        if (length == 0)
            return false;
        at += length;
    }
    return true;
}

static bool is_usable(const struct qcow2_bitmap *bitmap)
{
    return bitmap->type == TYPE_DIRTY_TRACKING && !(bitmap->flags & ~(uint32_t)FLAGS_KNOWN) &&
           bitmap->granularity_bits >= QCOW2_BITMAP_GRANULARITY_BITS_MIN &&
           bitmap->granularity_bits <= QCOW2_BITMAP_GRANULARITY_BITS_MAX &&
           bitmap->name_bytes <= QCOW2_BITMAP_NAME_MAX && is_text((const uint8_t *)bitmap->name, bitmap->name_bytes) &&
           (bitmap->extra_bytes == 0 || (bitmap->flags & QCOW2_BITMAP_EXTRA_COMPATIBLE));
}

static struct error *check_table(const struct qcow2_bitmap *bitmap, uint32_t cluster_bits)
{
    uint64_t cluster = UINT64_C(1) << cluster_bits;
    uint64_t bytes = bitmap->table_entries * sizeof(uint64_t);
    if (bitmap->table_entries == 0 || bitmap->table_entries > QCOW2_BITMAP_TABLE_ENTRIES_MAX ||
        (uint64_t)bitmap->table_entries << cluster_bits > QCOW2_BITMAP_BYTES_MAX + cluster)
        return error_new("a bitmap has a table of %" PRIu32 " entries, which cannot be", bitmap->table_entries);
    if (!is_aligned(bitmap->table_offset, cluster) || bitmap->table_offset == 0 ||
        !range_inside(range_make(bitmap->table_offset, bytes), QCOW2_HOST_OFFSET_END))
        return error_new("the table of a bitmap cannot be at offset %" PRIu64, bitmap->table_offset);
    return NULL;
}

/* Moves *@position behind the entry. */
static struct error *parse_entry(const uint8_t *data, size_t bytes, size_t *position, uint32_t cluster_bits,
                                 struct qcow2_bitmap *out)
{
    const uint8_t *entry = data + *position;
    size_t rest = bytes - *position;
    if (rest < QCOW2_BITMAP_ENTRY_BYTES)
        return error_new("the bitmap directory is cut off");
    struct qcow2_bitmap bitmap = {
        .table_offset = load_be64(entry),
        .table_entries = load_be32(entry + 8),
        .flags = load_be32(entry + QCOW2_BITMAP_FLAGS_OFFSET),
        .type = entry[16],
        .granularity_bits = entry[17],
        .name_bytes = load_be16(entry + 18),
        .extra_bytes = load_be32(entry + 20),
    };
    size_t whole = qcow2_bitmap_entry_bytes(&bitmap);
    if (bitmap.name_bytes == 0 || whole > rest)
        return error_new("the bitmap directory is cut off, or has a bitmap without a name");
    struct error *err = check_table(&bitmap, cluster_bits);
    if (err)
        return err;
    const uint8_t *extra = entry + QCOW2_BITMAP_ENTRY_BYTES;
    bitmap.name = xcalloc(1, bitmap.name_bytes + 1u);
    memcpy(bitmap.name, extra + bitmap.extra_bytes, bitmap.name_bytes);
    if (bitmap.extra_bytes) {
        bitmap.extra = xmalloc(bitmap.extra_bytes);
        memcpy(bitmap.extra, extra, bitmap.extra_bytes);
    }
    bitmap.usable = is_usable(&bitmap);
    *out = bitmap;
    *position += whole;
    return NULL;
}

static int compare_names(const void *left, const void *right)
{
    const struct qcow2_bitmap *a = *(const struct qcow2_bitmap *const *)left;
    const struct qcow2_bitmap *b = *(const struct qcow2_bitmap *const *)right;
    int order = memcmp(a->name, b->name, min_u64(a->name_bytes, b->name_bytes));
    return order ? order : (int)a->name_bytes - (int)b->name_bytes;
}

static struct error *check_names(const struct qcow2_bitmap *list, uint32_t count)
{
    CLEANUP(free) const struct qcow2_bitmap **sorted = xcalloc(count, sizeof(*sorted));
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = &list[i];
    qsort(sorted, count, sizeof(*sorted), compare_names);
    for (uint32_t i = 1; i < count; i++) {
        if (compare_names(&sorted[i - 1], &sorted[i]) == 0)
            return error_new("the bitmap directory has a name twice");
    }
    return NULL;
}

struct error *qcow2_bitmaps_parse(const void *data, size_t bytes, uint32_t count, uint32_t cluster_bits,
                                  struct qcow2_bitmap **out)
{
    if (count == 0 || count > QCOW2_BITMAPS_MAX || bytes > QCOW2_BITMAP_DIRECTORY_BYTES_MAX ||
        count > bytes / QCOW2_BITMAP_ENTRY_BYTES)
        return error_new("a bitmap directory of %zu bytes cannot have %" PRIu32 " bitmaps", bytes, count);
    struct qcow2_bitmap *list = xcalloc(count, sizeof(*list));
    struct error *err = NULL;
    size_t position = 0;
    for (uint32_t i = 0; i < count && !err; i++)
        err = parse_entry(data, bytes, &position, cluster_bits, &list[i]);
    if (!err && position != bytes)
        err = error_new("the bitmap directory has %zu bytes, but its bitmaps take %zu", bytes, position);
    if (!err)
        err = check_names(list, count);
    if (err)
        qcow2_bitmaps_free(list, count);
    else
        *out = list;
    return err;
}

/* Writing ------------------------------------------------------------------------------------------------------- */

size_t qcow2_bitmap_entry_bytes(const struct qcow2_bitmap *bitmap)
{
    return (size_t)align_up(QCOW2_BITMAP_ENTRY_BYTES + (uint64_t)bitmap->extra_bytes + bitmap->name_bytes, 8);
}

static void format_entry(const struct qcow2_bitmap *bitmap, uint8_t *out)
{
    memset(out, 0, qcow2_bitmap_entry_bytes(bitmap));
    store_be64(out, bitmap->table_offset);
    store_be32(out + 8, bitmap->table_entries);
    store_be32(out + QCOW2_BITMAP_FLAGS_OFFSET, bitmap->flags);
    out[16] = bitmap->type;
    out[17] = bitmap->granularity_bits;
    store_be16(out + 18, bitmap->name_bytes);
    store_be32(out + 20, bitmap->extra_bytes);
    uint8_t *extra = out + QCOW2_BITMAP_ENTRY_BYTES;
    if (bitmap->extra_bytes)
        memcpy(extra, bitmap->extra, bitmap->extra_bytes);
    memcpy(extra + bitmap->extra_bytes, bitmap->name, bitmap->name_bytes);
}

void qcow2_bitmaps_format(const struct qcow2_bitmap *list, uint32_t count, void *out)
{
    uint8_t *at = out;
    for (uint32_t i = 0; i < count; i++) {
        format_entry(&list[i], at);
        at += qcow2_bitmap_entry_bytes(&list[i]);
    }
}
