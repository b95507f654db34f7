/* Clusters that were given up, until they may be used again.
 *
 * Three things must have happened: the entry that pointed there is gone on disk as well (or a crash would bring back an
 * entry that points to somebody else's data), the flush after that has ended, and the requests that may have read the
 * old entry have ended too (or they would read or write somebody else's data).
 *
 *     freed_add --> list --seal--> batch --tables written--> --flushed--> --old epoch empty--> refcounts go down
 *
 * There is one batch at a time; what is given up meanwhile waits for the next. Until then the clusters keep their
 * refcounts, in memory and on disk: a crash leaks them and does no other harm. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/loop.h"

/* So much may wait before a request that gives up more stops to write back. */
#define FREED_ITEMS_MAX 4096
#define FREED_CLUSTERS_MAX 1024

#define RELEASED_AT_ONCE UINT64_C(4096) /* clusters */

static _Atomic unsigned *active_of(struct qcow2 *q, unsigned epoch)
{
    return &q->lanes[loop_index(loop_current())].active[epoch & 1];
}

unsigned freed_epoch_enter(struct qcow2 *q)
{
    for (;;) {
        unsigned epoch = atomic_load(&q->epoch);
        atomic_fetch_add(active_of(q, epoch), 1);
        /* Counted in the epoch that is still current: whoever moves on from it will see this request. */
        if (likely(atomic_load(&q->epoch) == epoch))
            return epoch;
        atomic_fetch_sub(active_of(q, epoch), 1);
    }
}

void freed_epoch_leave(struct qcow2 *q, unsigned epoch)
{
    atomic_fetch_sub(active_of(q, epoch), 1);
}

/* Have all requests of the epoch before this one ended? */
static bool last_epoch_ended(struct qcow2 *q)
{
    unsigned last = atomic_load(&q->epoch) - 1;
    for (unsigned i = 0; i < q->lane_count; i++) {
        if (atomic_load(&q->lanes[i].active[last & 1]) > 0)
            return false;
    }
    return true;
}

/* Whole clusters that follow one another become one item. */
static bool extends_last(const struct qcow2 *q, const struct freed_list *list, struct range host, enum freed_by by)
{
    if (list->count == 0 || in_cluster(&q->geometry, host.offset) || in_cluster(&q->geometry, host.bytes))
        return false;
    const struct freed_range *last = &list->items[list->count - 1];
    return last->by == by && range_end(last->host) == host.offset && !in_cluster(&q->geometry, last->host.offset) &&
           !in_cluster(&q->geometry, last->host.bytes);
}

static void list_append_item(struct freed_list *list, struct freed_range item)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 16;
        list->items = xrealloc_array(list->items, list->capacity, sizeof(*list->items));
    }
    list->items[list->count++] = item;
}

void freed_add(struct qcow2 *q, struct range host, enum freed_by by)
{
    struct freed_list *list = &q->freed;
    list->bytes += host.bytes;
    if (extends_last(q, list, host, by))
        list->items[list->count - 1].host.bytes += host.bytes;
    else
        list_append_item(list, (struct freed_range){ host, by });
    if (list->count > FREED_ITEMS_MAX || list->bytes >> q->geometry.cluster_bits > FREED_CLUSTERS_MAX)
        atomic_store_explicit(&q->freed_is_crowded, true, memory_order_relaxed);
}

static void list_clear(struct freed_list *list)
{
    free(list->items);
    *list = (struct freed_list){ 0 };
}

void freed_fini(struct qcow2 *q)
{
    list_clear(&q->freed);
    list_clear(&q->freed_batch);
}

void freed_seal(struct qcow2 *q)
{
    if (q->freed_state != FREED_NONE || q->freed.count == 0)
        return;
    q->freed_batch = q->freed;
    q->freed = (struct freed_list){ 0 };
    q->freed_state = FREED_SEALED;
    atomic_store_explicit(&q->freed_is_crowded, false, memory_order_relaxed);
    /* The epoch before is empty: the batch before this one waited for it. */
    atomic_fetch_add(&q->epoch, 1);
}

void freed_written(struct qcow2 *q)
{
    if (q->freed_state == FREED_SEALED)
        q->freed_state = FREED_WRITTEN;
}

void freed_flushed(struct qcow2 *q)
{
    if (q->freed_state == FREED_WRITTEN)
        q->freed_state = FREED_STABLE;
}

/* Tells the file below while nobody else can get the clusters: their refcounts are still up. Only the last reference
 * counts. Of an item that is no whole cluster the rest is unused as well, then: somebody else would be a reference. */
static void discard_in_file(struct qcow2 *q, const struct freed_range *item)
{
    uint64_t begin = align_down(item->host.offset, cluster_bytes(&q->geometry));
    uint64_t end = align_up(range_end(item->host), cluster_bytes(&q->geometry));
    uint64_t run = begin; /* clusters from here on are free, up to the one looked at */
    for (uint64_t at = begin; at < end; at += cluster_bytes(&q->geometry)) {
        co_mutex_lock(&q->metadata);
        uint64_t references = 0;
        int ret = refcount_read(q, at >> q->geometry.cluster_bits, &references);
        if (ret == 0 && references == 1)
            packed_space_leave(q, at >> q->geometry.cluster_bits);
        co_mutex_unlock(&q->metadata);
        if (ret == 0 && references == 1)
            continue;
        if (at > run)
            (void)child_pdiscard(q->file, range_between(run, at));
        run = at + cluster_bytes(&q->geometry);
    }
    if (end > run)
        (void)child_pdiscard(q->file, range_between(run, end));
}

static void forget_table(struct qcow2 *q, struct range host)
{
    for (uint64_t at = host.offset; at < range_end(host); at += q->l2.table_bytes)
        table_forget(&q->l2, at);
}

/* Piece by piece, so that others get at the tables in between. */
static void release(struct qcow2 *q, const struct freed_range *item)
{
    struct range rest = item->host;
    while (rest.bytes > 0) {
        /* Only items of whole clusters are long. */
        struct range piece = range_make(rest.offset, min_u64(rest.bytes, RELEASED_AT_ONCE << q->geometry.cluster_bits));
        co_mutex_lock(&q->metadata);
        if (item->by == FREED_L2_TABLE)
            forget_table(q, piece);
        /* What cannot be released is leaked; an image that is damaged is marked by then. */
        if (!q->corrupt)
            (void)refcount_release(q, piece);
        co_mutex_unlock(&q->metadata);
        rest = range_make(rest.offset + piece.bytes, rest.bytes - piece.bytes);
    }
}

void freed_apply(struct qcow2 *q)
{
    if (q->freed_state != FREED_STABLE || !last_epoch_ended(q))
        return;
    for (size_t i = 0; i < q->freed_batch.count; i++) {
        const struct freed_range *item = &q->freed_batch.items[i];
        if (q->pass_discard[item->by])
            discard_in_file(q, item);
        release(q, item);
    }
    list_clear(&q->freed_batch);
    q->freed_state = FREED_NONE;
}
