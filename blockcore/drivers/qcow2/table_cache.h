/* table_cache - pieces of the image's tables in memory
 *
 * One cache holds L2 tables (or slices of them), another refcount blocks. Tables are found by their offset in the
 * file (hashed) and given up in clock order. A table is in one of these states:
 *
 *     absent --load--> clean --change--> dirty --freeze--> frozen --thaw--> clean
 *                        '<--- given up when unpinned        '--change--> frozen and dirty --thaw--> dirty
 *
 * Dirty tables never leave on their own: who writes them back decides on the order (sync.h). It freezes all that is
 * dirty at one moment, and may then take its time: the bytes frozen do not change, since a change to a frozen table
 * goes to a copy. The limit is therefore a target; dirty and pinned tables may exceed it, and requests that dirty
 * tables look at table_cache_is_crowded() before they begin.
 *
 * Bytes of L2 tables are read under @lock and changed under @lock plus the metadata mutex, so a reader needs no other
 * lock. Bytes of refcount blocks are read and changed under the metadata mutex alone. */
#ifndef CAIRN_QCOW2_TABLE_CACHE_H
#define CAIRN_QCOW2_TABLE_CACHE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/hash.h"
#include "blockcore/base/list.h"
#include "blockcore/runtime/sync.h"

#include <stdint.h>

struct child;

/* First and last byte that changed; empty when end == 0. */
struct changed {
    size_t begin;
    size_t end;
};

static inline void changed_add(struct changed *changed, size_t begin, size_t end)
{
    if (changed->end == 0 || begin < changed->begin)
        changed->begin = begin;
    if (end > changed->end)
        changed->end = end;
}

enum unused {
    UNUSED_ON_CLOCK = 0x1,    /* since the hand of the clock passed */
    UNUSED_IN_INTERVAL = 0x2, /* since table_cache_clean() */
};

struct table {
    struct hash_link by_offset;
    struct list link; /* in the cache's clean or dirty list, or in a batch of frozen ones */
    uint64_t offset;  /* in the file */
    uint8_t *data;
    uint8_t *frozen; /* NULL, or what is being written: == data until the next change */
    struct changed changed;
    struct changed frozen_changed;
    unsigned pins;
    bool loading;
    unsigned unused; /* enum unused: who looked and found it unused; 0 on each use */
};

struct table_cache {
    struct spinlock lock;
    struct hash tables GUARDED_BY(lock);
    struct list clean GUARDED_BY(lock); /* the clock: its hand is at the head */
    struct list dirty GUARDED_BY(lock);
    size_t count GUARDED_BY(lock);
    size_t dirty_count GUARDED_BY(lock);
    /* Another number whenever a table becomes dirty, or is written back: until then, what was read of the file past
     * the cache is up to date for all tables that are not in the cache. */
    uint64_t version GUARDED_BY(lock);
    size_t limit; /* tables, at least 2 */
    size_t table_bytes;
    struct co_queue loaded;
    const char *load_event; /* names of BlkdebugEvent */
    const char *write_event;
};

void table_cache_init(struct table_cache *cache, size_t table_bytes, size_t limit);
/* No table may be pinned. What is dirty is lost. */
void table_cache_fini(struct table_cache *cache);

/* With @cache->lock held: the table if it is in memory and loaded, else NULL. Valid while the lock is held. */
struct table *table_find(struct table_cache *cache, uint64_t offset);

/* Loads the table if need be; it stays in memory until it is unpinned. 0 or -errno. */
int table_pin(struct table_cache *cache, struct child *file, uint64_t offset, struct table **out) CO_FN;

/* A table of zeroes for an offset where no table was; whatever is cached for it is dropped. Clean until changed. */
int table_pin_zeroed(struct table_cache *cache, uint64_t offset, struct table **out);
void table_unpin(struct table_cache *cache, struct table *table);

/* Before bytes [begin, begin + bytes) of a pinned table are changed: makes it dirty; a frozen one gets bytes of its
 * own. 0 or -ENOMEM. Under the metadata mutex. */
int table_change(struct table_cache *cache, struct table *table, size_t begin, size_t bytes);

/* The space of this table was given up; nobody may use it or have it pinned. */
void table_forget(struct table_cache *cache, uint64_t offset);

/* Has so much become dirty that the next change should write back first? */
bool table_cache_is_crowded(struct table_cache *cache);
bool table_cache_is_dirty(struct table_cache *cache);

/* Moves all dirty tables to @batch and freezes them. Under the metadata mutex; one batch at a time. */
void table_cache_freeze(struct table_cache *cache, struct list *batch);
/* Writes what changed in the tables of @batch, several at a time. 0 or the first -errno. */
int table_batch_write(struct table_cache *cache, struct child *file, struct list *batch) CO_FN;
/* Ends the batch: clean when @written, otherwise dirty again. */
void table_cache_thaw(struct table_cache *cache, struct list *batch, bool written);

/* For tables that may be written in any order: when all tables are dirty, writes the one that has been so longest.
 * Under the metadata mutex. 0 or -errno. */
int table_cache_make_room(struct table_cache *cache, struct child *file) CO_FN;

/* Forgets all tables that are not pinned. What is dirty is lost: the file has something newer by now. */
void table_cache_empty(struct table_cache *cache);

/* Gives back what has not been used since the last call. Any thread. */
void table_cache_clean(struct table_cache *cache);

#endif
