#include "blockcore/drivers/qcow2/bitmaps_ahead.h"

#include "blockcore/base/memory.h"
#include "blockcore/drivers/qcow2/snapshots.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/write_ahead.h"
#include "blockcore/runtime/coroutine.h"

#include <errno.h>
#include <string.h>

#define SECTOR 512u
#define WRITE_BYTES (1u << 20)
#define SECTORS_AT_ONCE 256 /* looked at before others get a turn */

/* A bitmap may go from memory without the image being told; then the image has more bits than anybody needs. */
struct ahead_item {
    char *name;
    unsigned granularity_bits;
    struct range place; /* of its bits in the file */
    uint8_t *bits;      /* as the file has them, of all clusters */
};

struct ahead_items {
    size_t count;
    struct ahead_item *list;
};

struct qcow2_ahead {
    struct write_ahead *regions;
    struct ahead_items *items;
};

static void item_fini(struct ahead_item *item)
{
    free(item->bits);
    free(item->name);
}

bool qcow2_ahead_wanted(const struct qcow2 *q)
{
    return q->write_ahead && q->geometry.version >= 3;
}

struct ahead_items *ahead_items_create(void)
{
    return xcalloc(1, sizeof(struct ahead_items));
}

void ahead_items_free(struct ahead_items *items)
{
    if (!items)
        return;
    for (size_t i = 0; i < items->count; i++)
        item_fini(&items->list[i]);
    free(items->list);
    free(items);
}

struct co_mutex *qcow2_ahead_hold(struct qcow2 *q)
{
    return q->ahead ? co_mutex_hold(write_ahead_mutex(q->ahead->regions)) : NULL;
}

/* Bits --------------------------------------------------------------------------------------------------------- */

static struct range granules_of(const struct ahead_item *item, struct range range)
{
    uint64_t granule = UINT64_C(1) << item->granularity_bits;
    uint64_t count = item->place.bytes * 8;
    uint64_t first = min_u64(range.offset / granule, count);
    return range_between(first, min_u64(div_round_up(range_end(range), granule), count));
}

static void set_bit(uint8_t *bits, uint64_t bit, bool value)
{
    uint8_t mask = (uint8_t)(1u << (bit % 8));
    bits[bit / 8] = value ? bits[bit / 8] | mask : bits[bit / 8] & (uint8_t)~mask;
}

static bool get_bit(const uint8_t *bits, uint64_t bit)
{
    return bits[bit / 8] & (1u << (bit % 8));
}

static void set_bits(uint8_t *bits, struct range range, bool value)
{
    uint64_t bit = range.offset;
    uint64_t end = range_end(range);
    for (; bit < end && bit % 8; bit++)
        set_bit(bits, bit, value);
    if (end - bit >= 8) {
        memset(bits + bit / 8, value ? 0xff : 0, (end - bit) / 8);
        bit = align_down(end, 8);
    }
    for (; bit < end; bit++)
        set_bit(bits, bit, value);
}

/* Sectors of the file that hold these bits. */
static int write_bits(struct qcow2 *q, const struct ahead_item *item, struct range granules) CO_FN;

static int write_bits(struct qcow2 *q, const struct ahead_item *item, struct range granules)
{
    if (granules.bytes == 0)
        return 0;
    uint64_t at = align_down(granules.offset / 8, SECTOR);
    uint64_t end = align_up(div_round_up(range_end(granules), 8), SECTOR);
    int ret = 0;
    for (; at < end && ret == 0; at += WRITE_BYTES)
        ret = child_pwrite(q->file, item->place.offset + at, item->bits + at, min_u64(end - at, WRITE_BYTES), 0);
    return ret;
}

/* Bits behind the end of the disk stay clear. */
static int arm(struct node *node, struct range range)
{
    struct qcow2 *q = node_state(node);
    struct ahead_items *items = q->ahead->items;
    int ret = qcow2_may_write(q);
    for (size_t i = 0; items && i < items->count && ret == 0; i++) {
        struct ahead_item *item = &items->list[i];
        struct range inside = range_intersect(range, range_make(0, q->header.size));
        struct range granules = granules_of(item, inside);
        set_bits(item->bits, granules, true);
        ret = write_bits(q, item, granules);
    }
    return ret;
}

static int flush(struct node *node)
{
    struct qcow2 *q = node_state(node);
    const struct ahead_items *items = q->ahead->items;
    return items && items->count > 0 ? child_flush(q->file) : 0;
}

/* Settling ----------------------------------------------------------------------------------------------------- */

/* NULL: it must be left as it is. A granule that is larger than a region may be needed by another region. */
static struct dirty_bitmap *may_settle(const struct qcow2 *q, const struct ahead_item *item, struct range range)
{
    uint64_t granule = UINT64_C(1) << item->granularity_bits;
    struct dirty_bitmap *bitmap = dirty_bitmap_find(q->node, item->name);
    if (!bitmap || dirty_bitmap_granularity(bitmap) != granule || !is_aligned(range.offset, granule) ||
        (!is_aligned(range_end(range), granule) && range_end(range) < dirty_bitmap_length(bitmap)))
        return NULL;
    return !dirty_bitmap_is_busy(bitmap) || dirty_bitmap_is_followed(bitmap) ? bitmap : NULL;
}

/* The bits of @granules become what memory has, in one sector of them. True: that changes it. */
static bool take_sector(struct ahead_item *item, struct dirty_bitmap *from, uint64_t at, struct range granules)
{
    uint8_t fresh[SECTOR];
    dirty_bitmap_read(from, at, fresh, SECTOR);
    struct range inside = range_intersect(granules, range_make(at * 8, SECTOR * 8));
    for (uint64_t bit = at * 8; bit < inside.offset; bit++)
        set_bit(fresh, bit - at * 8, get_bit(item->bits, bit));
    for (uint64_t bit = range_end(inside); bit < (at + SECTOR) * 8; bit++)
        set_bit(fresh, bit - at * 8, get_bit(item->bits, bit));
    if (memcmp(item->bits + at, fresh, SECTOR) == 0)
        return false;
    memcpy(item->bits + at, fresh, SECTOR);
    return true;
}

/* Others get a turn now and then, and may begin to use the bitmap. */
static void settle_item(struct qcow2 *q, struct ahead_item *item, struct range range) CO_FN CONTROL_FN;

static void settle_item(struct qcow2 *q, struct ahead_item *item, struct range range)
{
    struct range granules = granules_of(item, range_intersect(range, range_make(0, q->header.size)));
    unsigned turns = 0;
    for (uint64_t at = align_down(granules.offset / 8, SECTOR); at * 8 < range_end(granules); at += SECTOR) {
        struct dirty_bitmap *bitmap = may_settle(q, item, range);
        if (!bitmap)
            return;
        if (take_sector(item, bitmap, at, granules))
            (void)child_pwrite(q->file, item->place.offset + at, item->bits + at, SECTOR, 0);
        if (++turns % SECTORS_AT_ONCE == 0)
            co_yield ();
    }
}

static void settle(struct node *node, struct range range)
{
    struct qcow2 *q = node_state(node);
    struct ahead_items *items = q->ahead->items;
    for (size_t i = 0; items && i < items->count && qcow2_may_write(q) == 0; i++)
        settle_item(q, &items->list[i], range);
}

static int stabilise(struct node *node)
{
    struct qcow2 *q = node_state(node);
    const struct ahead_items *items = q->ahead->items;
    if (!items || items->count == 0)
        return 0;
    int ret = qcow2_may_write(q);
    if (ret == 0)
        ret = qcow2_sync(q);
    return ret < 0 ? ret : qcow2_flush_children(q);
}

/* Writing a bitmap anew ---------------------------------------------------------------------------------------- */

static const struct ahead_item *find_item(const struct qcow2 *q, const char *name)
{
    const struct ahead_items *items = q->ahead->items;
    for (size_t i = 0; items && i < items->count; i++) {
        if (strcmp(items->list[i].name, name) == 0)
            return &items->list[i];
    }
    return NULL;
}

/* What the image has already stays; whoever uses the bitmap may have taken bits away for a time. */
static void gather_bits(struct qcow2 *q, struct ahead_item *item, struct dirty_bitmap *from)
{
    const struct ahead_item *old = find_item(q, item->name);
    if (old && old->granularity_bits != item->granularity_bits)
        old = NULL;
    for (uint64_t at = 0; at < item->place.bytes; at += SECTOR)
        dirty_bitmap_read(from, at, item->bits + at, SECTOR);
    for (uint64_t i = 0; old && i < min_u64(old->place.bytes, item->place.bytes); i++)
        item->bits[i] |= old->bits[i];
    struct range disk = range_make(0, q->header.size);
    struct range armed = range_make(0, 0);
    while ((armed = write_ahead_next_armed(q->ahead->regions, range_end(armed))).bytes > 0)
        set_bits(item->bits, granules_of(item, range_intersect(armed, disk)), true);
}

static int write_item(struct qcow2 *q, struct ahead_item *item, struct dirty_bitmap *from, struct qcow2_bitmap *bitmap)
    CO_FN;

static int write_item(struct qcow2 *q, struct ahead_item *item, struct dirty_bitmap *from, struct qcow2_bitmap *bitmap)
{
    CLEANUP(free) uint64_t *table = try_calloc(bitmap->table_entries, sizeof(uint64_t));
    item->bits = try_calloc(1, item->place.bytes);
    if (!table || !item->bits)
        return -ENOMEM;
    gather_bits(q, item, from);
    int ret = snapshot_alloc(q, item->place.bytes, &item->place.offset);
    if (ret < 0)
        return ret;
    for (uint32_t i = 0; i < bitmap->table_entries; i++)
        table[i] = item->place.offset + i * cluster_bytes(&q->geometry);
    ret = write_bits(q, item, range_make(0, item->place.bytes * 8));
    if (ret == 0)
        ret = qcow2_bitmap_write_table(q, table, bitmap);
    if (ret < 0)
        qcow2_bitmap_free_place(q, item->place);
    return ret;
}

int qcow2_ahead_write(struct qcow2 *q, struct dirty_bitmap *from, struct qcow2_bitmap *bitmap,
                      struct ahead_items *items)
{
    uint64_t entries = qcow2_bitmap_table_entries(q->header.size, bitmap->granularity_bits, q->header.cluster_bits);
    if (entries << q->header.cluster_bits > QCOW2_BITMAP_BYTES_MAX + cluster_bytes(&q->geometry))
        return -EFBIG;
    struct ahead_item item = {
        .name = xstrdup(dirty_bitmap_name(from)),
        .granularity_bits = bitmap->granularity_bits,
        .place.bytes = entries << q->header.cluster_bits,
    };
    bitmap->table_entries = (uint32_t)entries;
    int ret = write_item(q, &item, from, bitmap);
    if (ret < 0) {
        item_fini(&item);
        return ret;
    }
    items->list = xrealloc_array(items->list, items->count + 1, sizeof(item));
    items->list[items->count++] = item;
    return 0;
}

void qcow2_ahead_exchange(struct qcow2 *q, struct ahead_items *items)
{
    ahead_items_free(q->ahead->items);
    q->ahead->items = items;
}

void qcow2_ahead_forget(struct qcow2 *q, const char *name)
{
    struct ahead_items *items = q->ahead ? q->ahead->items : NULL;
    for (size_t i = 0; items && i < items->count; i++) {
        if (strcmp(items->list[i].name, name) != 0)
            continue;
        item_fini(&items->list[i]);
        items->list[i] = items->list[--items->count];
        return;
    }
}

/* Beginning and ending ----------------------------------------------------------------------------------------- */

int qcow2_ahead_begin(struct qcow2 *q)
{
    static const struct write_ahead_ops ops = { .arm = arm, .flush = flush, .stabilise = stabilise, .settle = settle };
    if (q->ahead)
        return 0;
    struct qcow2_ahead *ahead = xcalloc(1, sizeof(*ahead));
    ahead->regions = write_ahead_begin(q->node, &ops);
    if (!ahead->regions) {
        free(ahead);
        return -ENOMEM;
    }
    q->ahead = ahead;
    return 0;
}

void qcow2_ahead_end(struct qcow2 *q)
{
    struct qcow2_ahead *ahead = steal(&q->ahead);
    if (!ahead)
        return;
    write_ahead_end(ahead->regions);
    ahead_items_free(ahead->items);
    free(ahead);
}
