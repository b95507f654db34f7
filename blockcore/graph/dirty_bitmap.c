#include "blockcore/graph/dirty_bitmap.h"

#include "blockcore/base/dirty_map.h"
#include "blockcore/base/memory.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/layout.h"
#include "blockcore/graph/write_ahead.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/lane_lock.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Bits set before others get a turn: some milliseconds at most. */
#define BITS_AT_ONCE (UINT64_C(1) << 22)
#define RUNS_AT_ONCE 4096
#define COPY_BYTES 4096

/* All of a node's bitmaps. Made with the first of them, stays as long as the node. */
struct node_bitmaps {
    struct node *node;
    struct lane_lock lock; /* inside: set bits, look; alone: everything else */
    struct list list;      /* the newest first */
    _Atomic uint64_t length;
};

struct dirty_bitmap {
    struct list link;
    struct node_bitmaps *owner;
    char *name; /* NULL: without */
    unsigned granularity_bits;
    struct dirty_map map;
    _Atomic bool enabled;
    _Atomic bool inconsistent;
    unsigned users; /* it is busy with */
    bool persistent;
    bool readonly;
    bool copier;
    bool followed;
    bool planned;
};

static uint64_t bits_for(const struct dirty_bitmap *bitmap, uint64_t bytes)
{
    return div_round_up(bytes, UINT64_C(1) << bitmap->granularity_bits);
}

/* The granules that a range touches. */
static struct range bits_of(const struct dirty_bitmap *bitmap, struct range range)
{
    if (range.bytes == 0)
        return range_make(0, 0);
    return range_between(range.offset >> bitmap->granularity_bits, bits_for(bitmap, range_end(range)));
}

/* Length ------------------------------------------------------------------------------------------------------- */

/* Alone. A bitmap that cannot grow would miss writes. */
static void resize_bitmap(struct dirty_bitmap *bitmap, uint64_t length)
{
    if (bitmap->inconsistent || dirty_map_resize(&bitmap->map, bits_for(bitmap, length)))
        return;
    bitmap->inconsistent = true;
    bitmap->enabled = false;
}

/* Bits of a granule that now lies behind the end in part stay: the rest of it is still there. */
static void settle(struct node_bitmaps *bitmaps)
{
    if (likely(atomic_load(&bitmaps->length) == node_length(bitmaps->node)))
        return;
    lane_lock_alone(&bitmaps->lock);
    uint64_t length = node_length(bitmaps->node);
    struct dirty_bitmap *bitmap;
    list_for_each (bitmap, &bitmaps->list, link)
        resize_bitmap(bitmap, length);
    atomic_store(&bitmaps->length, length);
    lane_lock_open(&bitmaps->lock);
}

void node_settle_bitmaps(struct node *node)
{
    struct node_bitmaps *bitmaps = atomic_load(&node->bitmaps);
    if (bitmaps)
        settle(bitmaps);
}

uint64_t dirty_bitmap_length(struct dirty_bitmap *bitmap)
{
    settle(bitmap->owner);
    return atomic_load(&bitmap->owner->length);
}

/* Making ------------------------------------------------------------------------------------------------------- */

static struct node_bitmaps *bitmaps_of(struct node *node)
{
    struct node_bitmaps *bitmaps = atomic_load(&node->bitmaps);
    if (bitmaps)
        return bitmaps;
    bitmaps = xcalloc(1, sizeof(*bitmaps));
    bitmaps->node = node;
    bitmaps->length = node_length(node);
    list_init(&bitmaps->list);
    if (!lane_lock_init(&bitmaps->lock)) {
        free(bitmaps);
        return NULL;
    }
    atomic_store(&node->bitmaps, bitmaps);
    return bitmaps;
}

static struct error *check_new(struct node *node, const char *name)
{
    if (name && dirty_bitmap_find(node, name))
        return error_new("Bitmap already exists: %s", name);
    if (name && strlen(name) > DIRTY_BITMAP_NAME_MAX)
        return error_new("Bitmap name too long: %s", name);
    return NULL;
}

struct error *dirty_bitmap_create(struct node *node, const char *name, uint32_t granularity, struct dirty_bitmap **out)
{
    struct error *err = check_new(node, name);
    if (err)
        return err;
    struct node_bitmaps *bitmaps = bitmaps_of(node);
    if (!bitmaps)
        return error_errno(ENOMEM, "cannot make a bitmap of node '%s'", node_name(node));
    settle(bitmaps);
    struct dirty_bitmap *bitmap = xcalloc(1, sizeof(*bitmap));
    *bitmap = (struct dirty_bitmap){
        .owner = bitmaps,
        .granularity_bits = (unsigned)__builtin_ctz(granularity),
        .enabled = true,
    };
    if (!dirty_map_init(&bitmap->map, bits_for(bitmap, atomic_load(&bitmaps->length)))) {
        free(bitmap);
        return error_errno(ENOMEM, "cannot make a bitmap of node '%s' with granularity %" PRIu32, node_name(node),
                           granularity);
    }
    bitmap->name = xstrdup_or_null(name);
    lane_lock_alone(&bitmaps->lock);
    list_prepend(&bitmaps->list, &bitmap->link);
    lane_lock_open(&bitmaps->lock);
    settle(bitmaps); /* what it was made for may be over: a file can grow on another thread */
    *out = bitmap;
    return NULL;
}

static void bitmap_free(struct dirty_bitmap *bitmap)
{
    dirty_map_fini(&bitmap->map);
    free(bitmap->name);
    free(bitmap);
}

void dirty_bitmap_destroy(struct dirty_bitmap *bitmap)
{
    lane_lock_alone(&bitmap->owner->lock);
    list_remove(&bitmap->link);
    lane_lock_open(&bitmap->owner->lock);
    bitmap_free(bitmap);
}

void node_free_bitmaps(struct node *node)
{
    struct node_bitmaps *bitmaps = atomic_load(&node->bitmaps);
    if (!bitmaps)
        return;
    struct list *link;
    while ((link = list_take_first(&bitmaps->list)))
        bitmap_free(list_entry(link, struct dirty_bitmap, link));
    lane_lock_fini(&bitmaps->lock);
    free(bitmaps);
}

/* Finding ------------------------------------------------------------------------------------------------------ */

struct dirty_bitmap *dirty_bitmap_next(const struct node *node, const struct dirty_bitmap *after)
{
    const struct node_bitmaps *bitmaps = atomic_load(&node->bitmaps);
    if (!bitmaps)
        return NULL;
    const struct list *at = after ? &after->link : &bitmaps->list;
    for (at = at->next; at != &bitmaps->list; at = at->next) {
        struct dirty_bitmap *bitmap = list_entry((struct list *)(uintptr_t)at, struct dirty_bitmap, link);
        if (bitmap->name)
            return bitmap;
    }
    return NULL;
}

struct dirty_bitmap *dirty_bitmap_find(const struct node *node, const char *name)
{
    struct dirty_bitmap *bitmap = NULL;
    while ((bitmap = dirty_bitmap_next(node, bitmap))) {
        if (strcmp(bitmap->name, name) == 0)
            return bitmap;
    }
    return NULL;
}

/* Properties --------------------------------------------------------------------------------------------------- */

const char *dirty_bitmap_name(const struct dirty_bitmap *bitmap)
{
    return bitmap->name;
}

struct node *dirty_bitmap_node(const struct dirty_bitmap *bitmap)
{
    return bitmap->owner->node;
}

uint32_t dirty_bitmap_granularity(const struct dirty_bitmap *bitmap)
{
    return UINT32_C(1) << bitmap->granularity_bits;
}

bool dirty_bitmap_is_enabled(const struct dirty_bitmap *bitmap)
{
    return bitmap->enabled;
}

void dirty_bitmap_set_enabled(struct dirty_bitmap *bitmap, bool enabled)
{
    bitmap->enabled = enabled;
}

bool dirty_bitmap_is_busy(const struct dirty_bitmap *bitmap)
{
    return bitmap->users > 0;
}

void dirty_bitmap_set_busy(struct dirty_bitmap *bitmap, bool busy)
{
    assert(busy || bitmap->users > 0);
    bitmap->users = busy ? bitmap->users + 1 : bitmap->users - 1;
}

void dirty_bitmap_set_copier(struct dirty_bitmap *bitmap)
{
    bitmap->copier = true;
}

bool dirty_bitmap_is_persistent(const struct dirty_bitmap *bitmap)
{
    return bitmap->persistent;
}

void dirty_bitmap_set_persistent(struct dirty_bitmap *bitmap, bool persistent)
{
    bitmap->persistent = persistent;
}

bool dirty_bitmap_is_planned(const struct dirty_bitmap *bitmap)
{
    return bitmap->planned;
}

void dirty_bitmap_set_planned(struct dirty_bitmap *bitmap, bool planned)
{
    bitmap->planned = planned;
}

bool dirty_bitmap_is_inconsistent(const struct dirty_bitmap *bitmap)
{
    return bitmap->inconsistent;
}

void dirty_bitmap_set_inconsistent(struct dirty_bitmap *bitmap)
{
    lane_lock_alone(&bitmap->owner->lock);
    bitmap->inconsistent = true;
    bitmap->enabled = false;
    dirty_map_clear(&bitmap->map, range_make(0, bitmap->map.count));
    lane_lock_open(&bitmap->owner->lock);
}

bool dirty_bitmap_is_followed(const struct dirty_bitmap *bitmap)
{
    return bitmap->followed;
}

void dirty_bitmap_set_followed(struct dirty_bitmap *bitmap, bool followed)
{
    bitmap->followed = followed;
}

bool dirty_bitmap_is_readonly(const struct dirty_bitmap *bitmap)
{
    return bitmap->readonly;
}

void dirty_bitmap_set_readonly(struct dirty_bitmap *bitmap, bool readonly)
{
    bitmap->readonly = readonly;
}

static struct error *check(const struct dirty_bitmap *bitmap, unsigned states, unsigned users)
{
    if ((states & DIRTY_BITMAP_BUSY) && bitmap->users > users)
        return error_new("Bitmap '%s' is currently in use by another operation and cannot be used", bitmap->name);
    if ((states & DIRTY_BITMAP_READONLY) && bitmap->readonly)
        return error_new("Bitmap '%s' is readonly and cannot be modified", bitmap->name);
    if ((states & DIRTY_BITMAP_INCONSISTENT) && bitmap->inconsistent)
        return error_new("Bitmap '%s' is inconsistent and cannot be used", bitmap->name);
    return NULL;
}

struct error *dirty_bitmap_check(const struct dirty_bitmap *bitmap, unsigned states)
{
    return check(bitmap, states, 0);
}

struct error *dirty_bitmap_check_ours(const struct dirty_bitmap *bitmap, unsigned states)
{
    return check(bitmap, states, 1);
}

/* Bits --------------------------------------------------------------------------------------------------------- */

/* Inside of the lock, with the map as long as the node. */
static struct lane_lock *look_at(struct dirty_bitmap *bitmap)
{
    settle(bitmap->owner);
    lane_lock_enter(&bitmap->owner->lock);
    return &bitmap->owner->lock;
}

void dirty_bitmap_mark(struct dirty_bitmap *bitmap, struct range range)
{
    struct lane_lock *lock = look_at(bitmap);
    dirty_map_set(&bitmap->map, range_intersect(bits_of(bitmap, range), range_make(0, bitmap->map.count)));
    lane_lock_leave(lock);
}

void dirty_bitmap_clean(struct dirty_bitmap *bitmap, struct range range)
{
    settle(bitmap->owner);
    lane_lock_alone(&bitmap->owner->lock);
    dirty_map_clear(&bitmap->map, range_intersect(bits_of(bitmap, range), range_make(0, bitmap->map.count)));
    lane_lock_open(&bitmap->owner->lock);
}

bool dirty_bitmap_clear(struct dirty_bitmap *bitmap)
{
    struct dirty_map map;
    settle(bitmap->owner);
    if (!dirty_map_init(&map, bits_for(bitmap, atomic_load(&bitmap->owner->length))))
        return false;
    lane_lock_alone(&bitmap->owner->lock);
    struct dirty_map old = bitmap->map;
    bitmap->map = map;
    resize_bitmap(bitmap, atomic_load(&bitmap->owner->length));
    lane_lock_open(&bitmap->owner->lock);
    dirty_map_fini(&old);
    return true;
}

void dirty_bitmap_exchange(struct dirty_bitmap *a, struct dirty_bitmap *b)
{
    assert(a->owner == b->owner && a->granularity_bits == b->granularity_bits);
    settle(a->owner);
    lane_lock_alone(&a->owner->lock);
    struct dirty_map map = a->map;
    a->map = b->map;
    b->map = map;
    lane_lock_open(&a->owner->lock);
}

size_t dirty_bitmap_take(struct dirty_bitmap *bitmap, uint64_t *offset, struct range *runs, size_t max)
{
    struct dirty_map *map = &bitmap->map;
    size_t count = 0;
    settle(bitmap->owner);
    lane_lock_alone(&bitmap->owner->lock);
    uint64_t length = atomic_load(&bitmap->owner->length);
    uint64_t bit = dirty_map_next_set(map, min_u64(*offset >> bitmap->granularity_bits, map->count));
    for (; count < max && bit < map->count; count++) {
        uint64_t end = dirty_map_next_clear(map, bit);
        runs[count] = range_between(bit << bitmap->granularity_bits, min_u64(end << bitmap->granularity_bits, length));
        dirty_map_clear(map, range_between(bit, end));
        bit = dirty_map_next_set(map, end);
    }
    lane_lock_open(&bitmap->owner->lock);
    *offset = min_u64(bit << bitmap->granularity_bits, length);
    return count;
}

/* The end of the run from @bit on, at most @end, that is clear in both; and of one where no bit is clear in both. */
static uint64_t end_of_clear(const struct dirty_map *a, const struct dirty_map *b, uint64_t bit, uint64_t end)
{
    return min_u64(min_u64(dirty_map_next_set(a, bit), dirty_map_next_set(b, bit)), end);
}

static uint64_t end_of_set(const struct dirty_map *a, const struct dirty_map *b, uint64_t bit, uint64_t end)
{
    uint64_t next;
    while (bit < end && (next = max_u64(dirty_map_next_clear(a, bit), dirty_map_next_clear(b, bit))) > bit)
        bit = next;
    return min_u64(bit, end);
}

/* Some runs of @map from @bit on; returns where to go on. */
static uint64_t retain_some(struct dirty_map *map, const struct dirty_map *a, const struct dirty_map *b, uint64_t bit)
{
    for (unsigned runs = 0; runs < RUNS_AT_ONCE && bit < map->count; runs++) {
        bit = dirty_map_next_set(map, bit);
        uint64_t end = dirty_map_next_clear(map, bit);
        uint64_t clear = end_of_clear(a, b, bit, end);
        if (clear > bit)
            dirty_map_clear(map, range_between(bit, clear));
        bit = end_of_set(a, b, clear, end);
    }
    return bit;
}

void dirty_bitmap_retain(struct dirty_bitmap *bitmap, struct dirty_bitmap *a, struct dirty_bitmap *b)
{
    uint64_t bit = 0;
    assert(bitmap->owner == a->owner && bitmap->granularity_bits == a->granularity_bits);
    assert(bitmap->owner == b->owner && bitmap->granularity_bits == b->granularity_bits);
    while (bit < bitmap->map.count) {
        settle(bitmap->owner);
        lane_lock_alone(&bitmap->owner->lock);
        bit = retain_some(&bitmap->map, &a->map, &b->map, bit);
        lane_lock_open(&bitmap->owner->lock);
        co_yield ();
    }
}

uint64_t dirty_bitmap_next_dirty(struct dirty_bitmap *bitmap, uint64_t offset)
{
    struct lane_lock *lock = look_at(bitmap);
    uint64_t length = atomic_load(&bitmap->owner->length);
    uint64_t bit = dirty_map_next_set(&bitmap->map, offset >> bitmap->granularity_bits);
    uint64_t found = bit < bitmap->map.count ? max_u64(bit << bitmap->granularity_bits, offset) : length;
    lane_lock_leave(lock);
    return min_u64(found, length);
}

uint64_t dirty_bitmap_next_clean(struct dirty_bitmap *bitmap, uint64_t offset)
{
    struct lane_lock *lock = look_at(bitmap);
    uint64_t length = atomic_load(&bitmap->owner->length);
    uint64_t bit = dirty_map_next_clear(&bitmap->map, offset >> bitmap->granularity_bits);
    uint64_t found = bit < bitmap->map.count ? max_u64(bit << bitmap->granularity_bits, offset) : length;
    lane_lock_leave(lock);
    return min_u64(found, length);
}

uint64_t dirty_bitmap_count(struct dirty_bitmap *bitmap)
{
    settle(bitmap->owner);
    return dirty_map_set_count(&bitmap->map) << bitmap->granularity_bits;
}

uint64_t dirty_bitmap_bytes(struct dirty_bitmap *bitmap)
{
    return max_u64(div_round_up(bits_for(bitmap, dirty_bitmap_length(bitmap)), 64), 1) * 8;
}

void dirty_bitmap_read(struct dirty_bitmap *bitmap, uint64_t first_byte, void *data, size_t bytes)
{
    struct lane_lock *lock = look_at(bitmap);
    dirty_map_read(&bitmap->map, first_byte, data, bytes);
    lane_lock_leave(lock);
}

void dirty_bitmap_add(struct dirty_bitmap *bitmap, uint64_t first_byte, const void *data, size_t bytes)
{
    struct lane_lock *lock = look_at(bitmap);
    dirty_map_add(&bitmap->map, first_byte, data, bytes);
    lane_lock_leave(lock);
}

/* Merging ------------------------------------------------------------------------------------------------------ */

/* With one granularity, word for word. */
static void merge_words(struct dirty_bitmap *to, struct dirty_bitmap *from) CO_FN;

static void merge_words(struct dirty_bitmap *to, struct dirty_bitmap *from)
{
    uint64_t granule = dirty_bitmap_granularity(from);
    uint8_t words[COPY_BYTES];
    unsigned turns = 0;
    for (uint64_t at = 0; (at = dirty_bitmap_next_dirty(from, at)) < dirty_bitmap_length(from);) {
        uint64_t byte = align_down(at / granule / 8, sizeof(words));
        dirty_bitmap_read(from, byte, words, sizeof(words));
        dirty_bitmap_add(to, byte, words, sizeof(words));
        at = (byte + sizeof(words)) * 8 * granule;
        if (++turns % (RUNS_AT_ONCE / 64) == 0)
            co_yield ();
    }
}

static void merge_runs(struct dirty_bitmap *to, struct dirty_bitmap *from) CO_FN;

static void merge_runs(struct dirty_bitmap *to, struct dirty_bitmap *from)
{
    unsigned turns = 0;
    for (uint64_t at = 0; (at = dirty_bitmap_next_dirty(from, at)) < dirty_bitmap_length(from);) {
        uint64_t end = dirty_bitmap_next_clean(from, at);
        end = min_u64(end, at + (BITS_AT_ONCE << to->granularity_bits));
        dirty_bitmap_mark(to, range_between(at, end));
        at = end;
        if (++turns % RUNS_AT_ONCE == 0)
            co_yield ();
    }
}

/* Since @to is busy, its image keeps what it is told now. */
int dirty_bitmap_tell_image_held(struct dirty_bitmap *to, struct dirty_bitmap *from)
{
    struct node *node = to->owner->node;
    int ret = 0;
    for (uint64_t at = 0; ret == 0 && (at = dirty_bitmap_next_dirty(from, at)) < dirty_bitmap_length(from);) {
        struct range run = range_between(at, dirty_bitmap_next_clean(from, at));
        ret = node_enter_regions(node, run);
        if (ret == 0)
            node_leave_regions(node, run);
        at = range_end(run);
    }
    return ret;
}

struct error *dirty_bitmap_tell_image(struct dirty_bitmap *to, struct dirty_bitmap *from)
{
    struct handle *handle;
    if (!to->persistent || !to->owner->node->ahead)
        return NULL;
    struct error *err = handle_enter_here(to->owner->node, "merging bitmaps", &handle);
    if (err)
        return err;
    int ret = dirty_bitmap_tell_image_held(to, from);
    handle_leave_here(handle);
    return ret < 0 ? error_errno(-ret, "bitmap '%s' cannot be kept in its image", to->name) : NULL;
}

struct error *dirty_bitmap_merge(struct dirty_bitmap *to, struct dirty_bitmap *from)
{
    uint64_t to_bytes = dirty_bitmap_length(to);
    uint64_t from_bytes = dirty_bitmap_length(from);
    if (to_bytes != from_bytes)
        return error_new("Bitmaps are of different sizes (destination size is %" PRIu64 ", source size is %" PRIu64
                         ") and can't be merged",
                         to_bytes, from_bytes);
    if (to == from)
        return NULL;
    dirty_bitmap_set_busy(to, true);
    dirty_bitmap_set_busy(from, true);
    /* Nobody may close the nodes meanwhile, and the bitmaps with them. */
    struct node *to_node = node_ref(to->owner->node);
    struct node *from_node = node_ref(from->owner->node);
    struct error *err = dirty_bitmap_tell_image(to, from);
    if (!err && to->granularity_bits == from->granularity_bits)
        merge_words(to, from);
    else if (!err)
        merge_runs(to, from);
    dirty_bitmap_set_busy(to, false);
    dirty_bitmap_set_busy(from, false);
    node_unref(from_node);
    node_unref(to_node);
    return err;
}

/* Requests ----------------------------------------------------------------------------------------------------- */

/* The longest piece of @range that is marked in one go. */
static struct range first_piece(const struct node_bitmaps *bitmaps, struct range range)
{
    struct dirty_bitmap *bitmap;
    list_for_each (bitmap, &bitmaps->list, link)
        range.bytes = min_u64(range.bytes, BITS_AT_ONCE << bitmap->granularity_bits);
    return range;
}

static void mark(struct node_bitmaps *bitmaps, struct range range, bool copied)
{
    struct dirty_bitmap *bitmap;
    list_for_each (bitmap, &bitmaps->list, link) {
        if (atomic_load_explicit(&bitmap->enabled, memory_order_relaxed) && !(copied && bitmap->copier))
            dirty_map_set(&bitmap->map, range_intersect(bits_of(bitmap, range), range_make(0, bitmap->map.count)));
    }
}

/* A write may have made the node longer. One that failed may have meant to. */
void node_mark_dirty_slowly(struct node *node, struct range range, bool copied)
{
    struct node_bitmaps *bitmaps = atomic_load(&node->bitmaps);
    while (range.bytes > 0) {
        if (unlikely(range_end(range) > atomic_load(&bitmaps->length)))
            settle(bitmaps);
        lane_lock_enter(&bitmaps->lock);
        struct range piece = first_piece(bitmaps, range);
        mark(bitmaps, piece, copied);
        lane_lock_leave(&bitmaps->lock);
        range = range_make(range.offset + piece.bytes, range.bytes - piece.bytes);
        if (range.bytes > 0)
            co_yield ();
    }
}
