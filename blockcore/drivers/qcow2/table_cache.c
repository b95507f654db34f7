#include "blockcore/drivers/qcow2/table_cache.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"
#include "blockcore/base/trace.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/coroutine.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define WRITERS_MAX 16       /* tables of a batch that are written at a time */
#define WRITE_ALIGNMENT 4096 /* what changed is written in whole blocks of most disks, so that none is read first */

void table_cache_init(struct table_cache *cache, size_t table_bytes, size_t limit)
{
    spinlock_init(&cache->lock);
    hash_init(&cache->tables);
    list_init(&cache->clean);
    list_init(&cache->dirty);
    cache->count = 0;
    cache->dirty_count = 0;
    cache->version = 0;
    cache->limit = limit;
    cache->table_bytes = table_bytes;
    co_queue_init(&cache->loaded);
}

static struct table *table_create(const struct table_cache *cache)
{
    uint8_t *data = buffer_get(cache->table_bytes);
    if (!data)
        return NULL;
    struct table *table = xcalloc(1, sizeof(*table));
    list_init(&table->link);
    table->data = data;
    return table;
}

static void table_free(const struct table_cache *cache, struct table *table)
{
    if (!table)
        return;
    buffer_put(table->data, cache->table_bytes);
    free(table);
}

static bool is_dirty(const struct table *table)
{
    return table->changed.end > 0;
}

void table_cache_fini(struct table_cache *cache)
{
    struct list all;
    list_init(&all);
    list_splice(&all, &cache->clean);
    list_splice(&all, &cache->dirty);
    struct table *table;
    struct table *following;
    list_for_each_safe (table, following, &all, link) {
        assert(table->pins == 0);
        table_free(cache, table);
    }
    hash_fini(&cache->tables);
    co_queue_fini(&cache->loaded);
}

static struct table *find_any(const struct table_cache *cache, uint64_t offset)
{
    struct hash_link *link = hash_find_number(&cache->tables, offset);
    return link ? hash_entry(link, struct table, by_offset) : NULL;
}

struct table *table_find(struct table_cache *cache, uint64_t offset)
{
    struct table *table = find_any(cache, offset);
    if (!table || table->loading)
        return NULL;
    if (table->unused) /* a store to a line that others read costs more than the question */
        table->unused = 0;
    return table;
}

/* Takes an unused table out of the cache, or returns NULL. Under the lock. Only clean tables are on the clock, so the
 * search is short: each is passed over at most twice. */
static struct table *take_victim(struct table_cache *cache)
{
    for (size_t tries = 2 * cache->count; tries > 0 && !list_empty(&cache->clean); tries--) {
        struct table *table = list_entry(cache->clean.next, struct table, link);
        list_remove(&table->link);
        if (table->pins == 0 && (table->unused & UNUSED_ON_CLOCK)) {
            hash_remove(&cache->tables, &table->by_offset);
            cache->count--;
            return table;
        }
        table->unused |= UNUSED_ON_CLOCK;
        list_append(&cache->clean, &table->link);
    }
    return NULL;
}

/* Puts a table that is pinned once into the cache. Under the lock. */
static void insert(struct table_cache *cache, struct table *table, uint64_t offset, bool loading)
{
    table->offset = offset;
    table->pins = 1;
    table->loading = loading;
    table->unused = 0;
    hash_insert_number(&cache->tables, &table->by_offset, offset);
    list_append(&cache->clean, &table->link);
    cache->count++;
}

/* Takes a table that nobody uses any more out of the cache. Under the lock. */
static void remove_unused(struct table_cache *cache, struct table *table)
{
    hash_remove(&cache->tables, &table->by_offset);
    list_remove(&table->link);
    cache->count--;
}

/* Under the lock: the table if it is there, pinned, after waiting until it is loaded. */
static struct table *pin_existing(struct table_cache *cache, uint64_t offset)
{
    for (;;) {
        struct table *table = find_any(cache, offset);
        if (!table)
            return NULL;
        if (!table->loading) {
            table->pins++;
            table->unused = 0;
            return table;
        }
        co_queue_wait_spin(&cache->loaded, &cache->lock, "a table of an image");
    }
}

/* The table, or a new one that the caller has to fill and that is marked as loading. NULL: no memory. */
static struct table *pin_or_insert(struct table_cache *cache, uint64_t offset)
{
    struct table *spare = NULL;
    spinlock_lock(&cache->lock);
    for (;;) {
        struct table *table = pin_existing(cache, offset);
        if (table) {
            spinlock_unlock(&cache->lock);
            table_free(cache, spare);
            return table;
        }
        if (!spare && cache->count >= cache->limit)
            spare = take_victim(cache);
        if (spare) {
            insert(cache, spare, offset, true);
            spinlock_unlock(&cache->lock);
            return spare;
        }
        spinlock_unlock(&cache->lock); /* memory is not taken inside of a spinlock */
        spare = table_create(cache);
        if (!spare)
            return NULL;
        spinlock_lock(&cache->lock);
    }
}

int table_pin(struct table_cache *cache, struct child *file, uint64_t offset, struct table **out)
{
    struct table *table = pin_or_insert(cache, offset);
    if (!table)
        return -ENOMEM;
    if (!table->loading) {
        *out = table;
        return 0;
    }
    child_debug_event(file, cache->load_event);
    int ret = child_pread(file, offset, table->data, cache->table_bytes);
    spinlock_lock(&cache->lock);
    table->loading = false;
    if (ret < 0) {
        table->pins--;
        remove_unused(cache, table);
    }
    spinlock_unlock(&cache->lock);
    co_queue_wake_all(&cache->loaded);
    if (ret < 0)
        table_free(cache, table);
    else
        *out = table;
    return ret;
}

int table_pin_zeroed(struct table_cache *cache, uint64_t offset, struct table **out)
{
    table_forget(cache, offset);
    struct table *table = pin_or_insert(cache, offset);
    if (!table)
        return -ENOMEM;
    memset(table->data, 0, cache->table_bytes);
    spinlock_lock(&cache->lock);
    table->loading = false;
    spinlock_unlock(&cache->lock);
    co_queue_wake_all(&cache->loaded);
    *out = table;
    return 0;
}

/* The clock gives up what exceeds the limit, now that it may be clean and unused. */
static void trim(struct table_cache *cache)
{
    for (;;) {
        spinlock_lock(&cache->lock);
        struct table *table = cache->count > cache->limit ? take_victim(cache) : NULL;
        spinlock_unlock(&cache->lock);
        if (!table)
            return;
        table_free(cache, table);
    }
}

void table_unpin(struct table_cache *cache, struct table *table)
{
    spinlock_lock(&cache->lock);
    table->pins--;
    bool exceeds = cache->count > cache->limit;
    spinlock_unlock(&cache->lock);
    if (unlikely(exceeds))
        trim(cache);
}

/* Under the lock. */
static void mark_changed(struct table_cache *cache, struct table *table, size_t begin, size_t end)
{
    if (!is_dirty(table)) {
        cache->dirty_count++;
        cache->version++;
        if (!table->frozen) {
            list_remove(&table->link);
            list_append(&cache->dirty, &table->link);
        }
    }
    changed_add(&table->changed, begin, end);
}

int table_change(struct table_cache *cache, struct table *table, size_t begin, size_t bytes)
{
    spinlock_lock(&cache->lock);
    bool copy = table->frozen == table->data;
    if (!copy)
        mark_changed(cache, table, begin, begin + bytes);
    spinlock_unlock(&cache->lock);
    if (!copy)
        return 0;

    uint8_t *data = buffer_get(cache->table_bytes);
    if (!data)
        return -ENOMEM;
    /* Only changes write to a table, and the metadata mutex admits one at a time, so reading needs no lock here. */
    memcpy(data, table->data, cache->table_bytes);
    spinlock_lock(&cache->lock);
    if (table->frozen == table->data) {
        table->data = data;
        data = NULL;
    }
    mark_changed(cache, table, begin, begin + bytes);
    spinlock_unlock(&cache->lock);
    buffer_put(data, cache->table_bytes);
    return 0;
}

void table_forget(struct table_cache *cache, uint64_t offset)
{
    spinlock_lock(&cache->lock);
    struct table *table = find_any(cache, offset);
    if (table && (table->pins > 0 || table->frozen))
        table = NULL;
    if (table) {
        cache->dirty_count -= is_dirty(table);
        remove_unused(cache, table);
    }
    spinlock_unlock(&cache->lock);
    table_free(cache, table);
}

bool table_cache_is_crowded(struct table_cache *cache)
{
    spinlock_lock(&cache->lock);
    bool crowded = cache->dirty_count > cache->limit - cache->limit / 4;
    spinlock_unlock(&cache->lock);
    return crowded;
}

bool table_cache_is_dirty(struct table_cache *cache)
{
    spinlock_lock(&cache->lock);
    bool dirty = cache->dirty_count > 0;
    spinlock_unlock(&cache->lock);
    return dirty;
}

void table_cache_freeze(struct table_cache *cache, struct list *batch)
{
    spinlock_lock(&cache->lock);
    struct table *table;
    list_for_each (table, &cache->dirty, link) {
        table->frozen = table->data;
        table->frozen_changed = table->changed;
        table->changed = (struct changed){ 0 };
    }
    cache->dirty_count = 0;
    list_splice(batch, &cache->dirty);
    spinlock_unlock(&cache->lock);
}

/* What the writers of one batch share; all of them run on one thread. */
struct batch_write {
    struct table_cache *cache;
    struct child *file;
    struct list *batch;
    struct list *next;
    int ret;
};

static int write_table(const struct table_cache *cache, struct child *file, const struct table *table)
{
    size_t begin = (size_t)align_down(table->frozen_changed.begin, WRITE_ALIGNMENT);
    size_t end = (size_t)min_u64(align_up(table->frozen_changed.end, WRITE_ALIGNMENT), cache->table_bytes);
    child_debug_event(file, cache->write_event);
    TRACE(qcow2_write_table, node_name(child_node(file)), table->offset + begin, end - begin);
    return child_pwrite(file, table->offset + begin, table->frozen + begin, end - begin, 0);
}

static void batch_writer(void *arg)
{
    struct batch_write *write = arg;
    while (write->next != write->batch && write->ret == 0) {
        struct table *table = list_entry(write->next, struct table, link);
        write->next = table->link.next;
        int ret = write_table(write->cache, write->file, table);
        if (ret < 0 && write->ret == 0)
            write->ret = ret;
    }
}

int table_batch_write(struct table_cache *cache, struct child *file, struct list *batch)
{
    struct batch_write write = { .cache = cache, .file = file, .batch = batch, .next = batch->next };
    struct co_group group;
    co_group_init(&group);
    for (unsigned i = 1; i < WRITERS_MAX && write.next != batch && write.next->next != batch; i++)
        co_group_start(&group, "qcow2 table", batch_writer, &write);
    batch_writer(&write);
    co_group_join(&group);
    return write.ret;
}

void table_cache_thaw(struct table_cache *cache, struct list *batch, bool written)
{
    spinlock_lock(&cache->lock);
    cache->version++;
    struct list *link;
    while ((link = list_take_first(batch))) {
        struct table *table = list_entry(link, struct table, link);
        uint8_t *copy = table->frozen == table->data ? NULL : table->frozen;
        table->frozen = NULL;
        bool dirty = is_dirty(table);
        list_append(dirty ? &cache->dirty : &cache->clean, &table->link);
        if (!written)
            mark_changed(cache, table, table->frozen_changed.begin, table->frozen_changed.end);
        if (copy) {
            spinlock_unlock(&cache->lock);
            buffer_put(copy, cache->table_bytes);
            spinlock_lock(&cache->lock);
        }
    }
    spinlock_unlock(&cache->lock);
    trim(cache);
}

int table_cache_make_room(struct table_cache *cache, struct child *file)
{
    spinlock_lock(&cache->lock);
    struct table *table = NULL;
    if (cache->dirty_count >= cache->limit && !list_empty(&cache->dirty))
        table = list_entry(cache->dirty.next, struct table, link);
    struct list batch;
    list_init(&batch);
    if (table) {
        list_remove(&table->link);
        list_append(&batch, &table->link);
        table->frozen = table->data;
        table->frozen_changed = table->changed;
        table->changed = (struct changed){ 0 };
        cache->dirty_count--;
    }
    spinlock_unlock(&cache->lock);
    if (!table)
        return 0;
    int ret = table_batch_write(cache, file, &batch);
    table_cache_thaw(cache, &batch, ret == 0);
    return ret;
}

static void give_up_unused(struct table_cache *cache, unsigned unused)
{
    struct list given_up;
    list_init(&given_up);
    spinlock_lock(&cache->lock);
    struct table *table;
    struct table *following;
    list_for_each_safe (table, following, &cache->clean, link) {
        if (table->pins == 0 && (table->unused & unused) == unused) {
            remove_unused(cache, table);
            list_append(&given_up, &table->link);
        }
        table->unused |= unused;
    }
    spinlock_unlock(&cache->lock);
    list_for_each_safe (table, following, &given_up, link)
        table_free(cache, table);
}

void table_cache_clean(struct table_cache *cache)
{
    give_up_unused(cache, UNUSED_IN_INTERVAL);
}

void table_cache_empty(struct table_cache *cache)
{
    give_up_unused(cache, 0);
    struct list given_up;
    list_init(&given_up);
    spinlock_lock(&cache->lock);
    cache->version++;
    struct table *table;
    struct table *following;
    list_for_each_safe (table, following, &cache->dirty, link) {
        if (table->pins > 0)
            continue;
        cache->dirty_count--;
        remove_unused(cache, table);
        list_append(&given_up, &table->link);
    }
    spinlock_unlock(&cache->lock);
    list_for_each_safe (table, following, &given_up, link)
        table_free(cache, table);
}
