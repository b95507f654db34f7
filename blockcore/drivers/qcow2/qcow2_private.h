/* qcow2_private - what the parts of the qcow2 driver share
 *
 *     qcow2.c       the driver: open, close, flush; backing.c, data_file.c, options.c
 *     header.c      the first cluster, as bytes; snapshot.c, entry.h, refcount_field.h: entries of tables, as bytes
 *     tables.c      where the tables are        overlap.c  what lies in a place    damage.c  what is done about damage
 *     table_cache.c tables in memory            cluster_set.c  which clusters hold tables
 *     map.c         guest offset -> host offset; L2 tables that may be changed
 *     refcount.c    allocation of host clusters; reftable.c: the table of refcount blocks
 *     snapshots.c, snapshot_table.c, census.c  internal snapshots
 *     bitmaps.c, bitmap_data.c, bitmap_header.c  dirty bitmaps in the image; bitmap.c: their directory, as bytes
 *     bitmaps_ahead.c  those whose image is told of writes before
 *     freed.c       clusters that were given up, until they may be used again
 *     crypt.c       encrypted guest data
 *     sync.c        writing tables back in the one right order
 *     packed_space.c, pack.c, compressed_write.c: compressed clusters; compress.c: reading them
 *     read.c, write.c, cow.c, zero.c, resize.c, status.c, create.c, create_plan.c
 *
 * Why the image is consistent at every moment, and who may use what at the same time, is told in README.md.
 *
 * Locks, outermost first: bitmap_mutex, that of bitmaps_ahead, sync_mutex, metadata, header_mutex, l2.lock. The mutexes
 * are held across I/O on tables, never across I/O on guest data. */
#ifndef CAIRN_QCOW2_PRIVATE_H
#define CAIRN_QCOW2_PRIVATE_H

#include "blockcore/base/iov.h"
#include "blockcore/drivers/qcow2/cluster_set.h"
#include "blockcore/drivers/qcow2/crypt.h"
#include "blockcore/drivers/qcow2/entry.h"
#include "blockcore/drivers/qcow2/header.h"
#include "blockcore/drivers/qcow2/overlap.h"
#include "blockcore/drivers/qcow2/table_cache.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/node.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/sync.h"

struct blockdev_options;
struct blockdev_ref_or_null;
struct extents;
struct image_check;
struct qcow2_ahead;
struct qcow2_bitmap;
struct qcow2_snapshot;
struct timer;

/* Answer of functions that allocate under the metadata mutex: the refcount table is full. The caller gives up the
 * mutex, calls reftable_grow() and begins again. No errno has this value. */
#define RETRY_WITH_LARGER_REFTABLE (-10000)

/* Why clusters are given up decides whether the file below is told (pass-discard-*). */
enum freed_by {
    FREED_BY_REQUEST,  /* a discard, or zeroes that may unmap */
    FREED_BY_SNAPSHOT, /* only a snapshot that was deleted led there */
    FREED_L2_TABLE,    /* may still be in the cache */
    FREED_OTHERWISE,
    FREED_BY_COUNT,
};

struct freed_range {
    struct range host; /* bytes; each cluster that it touches loses one reference */
    enum freed_by by;
};

struct freed_list {
    struct freed_range *items;
    size_t count;
    size_t capacity;
    uint64_t bytes;
};

enum freed_state {
    FREED_NONE,    /* no batch */
    FREED_SEALED,  /* batch: the entries that pointed there are being written */
    FREED_WRITTEN, /* they are written */
    FREED_STABLE,  /* and flushed */
};

/* Requests in flight on one loop, by parity of the epoch they began in. */
struct lane {
    _Alignas(64) _Atomic unsigned active[2];
};

/* A write to clusters that have no place of their own yet. Lives on the stack of its request. */
struct allocation {
    struct list link;     /* in qcow2->in_flight */
    struct co_queue done; /* those who want the same clusters */
    struct range guest;   /* whole clusters, all of them in one L2 slice */
    struct range written; /* whole units of them that become data */
    uint64_t host;        /* of the first cluster */
    bool reserved;        /* the host clusters were there, behind units that are not data */
    bool fresh;           /* nothing was ever written to the host clusters: they read as zeroes */
};

/* What a run of guest bytes is. */
struct mapping {
    enum cluster_kind kind;
    bool own;       /* kinds with a host cluster: it may be written in place */
    uint64_t bytes; /* length of the run: at least 1, at most what was asked */
    uint64_t host;  /* kinds with a host cluster: where the first byte lies in the file */
    uint64_t entry; /* the descriptor */
    bool misplaced; /* kind INVALID: the entry has a meaning, but leads to where no data can be */
};

/* Tables that somebody goes through from one end to the other. What is not in the cache is read in large pieces, and
 * does not take the place of what others use again and again. */
struct map_scan {
    bool past_cache;
    uint8_t *data;
    struct range place; /* of the file: what @data holds, of all tables that are not in the cache */
    uint64_t version;   /* of the cache; with another one, what it holds is out of date */
};

struct qcow2 {
    struct node *node;
    struct child *file;        /* tables */
    struct child *data;        /* guest data: the same edge, unless there is an external data file */
    struct qcow2_crypt *crypt; /* NULL: the data is not encrypted */
    struct geometry geometry;
    struct qcow2_header header; /* as it is in the file; what changes, changes under metadata */
    bool writable;
    bool raw_data;       /* the data file is the disk without us: nothing may be true in the tables alone */
    bool keep_discarded; /* discard-no-unref */
    bool lazy_refcounts; /* refcounts reach the file when the image is closed; until then it is marked as dirty */
    bool marked_late;    /* the mark is there for that reason */
    bool settling;       /* but not now; under metadata, while nobody writes */
    bool pass_discard[FREED_BY_COUNT];
    unsigned overlap_checks; /* TABLE_BIT()s: what writes are compared with */
    bool tables_overlap;     /* as it was opened: must not be written */
    /* As many as the header says. Changed on the control thread, in a drained node, and by a repair; listings of nodes
     * look at them at any time. */
    struct qcow2_snapshot *snapshots;
    struct spinlock snapshots_lock; /* around the pointer; who lists them keeps the list with it */
    struct range snapshot_table;
    struct range bitmap_directory;
    struct qcow2_bitmap *bitmaps; /* the entries of the directory, under bitmap_mutex; changed on the control thread */
    uint32_t bitmap_count;
    bool bitmaps_stored;       /* and the image is not written since */
    bool write_ahead;          /* write-ahead-bitmaps */
    struct qcow2_ahead *ahead; /* bitmaps_ahead.c; NULL: bitmaps are marked as in use instead */
    _Atomic bool corrupt;      /* found to be damaged: nothing is written any more */

    struct co_mutex bitmap_mutex; /* one change of the directory of bitmaps at a time; outermost */
    struct co_mutex sync_mutex;   /* one write-back at a time */
    struct co_mutex metadata;     /* whoever changes tables, refcounts, or what is in flight */
    struct co_mutex header_mutex; /* whoever writes the header of an image in use; innermost */

    struct table_cache l2;
    struct table_cache refblocks;

    /* Changed under metadata and l2.lock, read under either. Entries are in host byte order. */
    uint64_t *l1;
    uint32_t l1_entries;
    uint64_t *reftable;
    uint64_t reftable_entries;
    struct cluster_set tables; /* clusters of L2 tables and refcount blocks */

    /* All of these under metadata. */
    struct changed l1_changed; /* entries, not bytes */
    struct changed reftable_changed;
    bool l2_needs_flush;  /* dirty L2 tables point to clusters whose data and refcounts may not be stable yet */
    uint64_t free_hint;   /* no cluster before this one is free */
    uint64_t packed_next; /* where the next packed cluster may begin, inside a host cluster; 0: nowhere */
    uint64_t untouched;   /* host offset from which on nothing was handed out since the image was opened */
    struct list in_flight;
    struct freed_list freed; /* since the last batch was sealed */

    /* Under sync_mutex. */
    struct freed_list freed_batch;
    enum freed_state freed_state;
    _Atomic bool freed_is_crowded; /* so much was given up that it should be made available */
    _Atomic unsigned epoch;
    struct lane *lanes; /* one per loop */
    unsigned lane_count;

    struct timer *cache_timer;
    uint64_t cache_clean_ms; /* 0: never */
};

/* qcow2.c */

/* 0, or what a writing request has to answer. */
int qcow2_may_write(const struct qcow2 *q);

struct error *qcow2_check_writable(const struct qcow2 *q) MUST_CHECK;
/* Whoever writes must first take back what the image promises beyond what the writer keeps up. */
struct error *qcow2_clear_promises(struct qcow2 *q) CO_FN MUST_CHECK;
/* Begins again with the interval that is set. */
void qcow2_start_cache_timer(struct qcow2 *q) CONTROL_FN;

/* options.c */

/* What the options say that can change while the image is open. */
struct qcow2_settings {
    uint64_t l2_cache_bytes;
    uint64_t l2_entry_bytes;
    uint64_t refcount_cache_bytes;
    bool pass_discard[FREED_BY_COUNT];
    bool keep_discarded;
    bool lazy_refcounts;
    unsigned overlap_checks;
    uint64_t cache_clean_ms;
};

struct error *qcow2_read_options(const struct qcow2 *q, const struct blockdev_options *options,
                                 struct qcow2_settings *settings) MUST_CHECK;
/* While no request runs; no L2 table is dirty if l2_entry_bytes is another. */
void qcow2_apply_settings(struct qcow2 *q, const struct qcow2_settings *settings);
struct error *qcow2_apply_options(struct qcow2 *q, const struct blockdev_options *options) MUST_CHECK;

/* header_edit.c */
struct error *qcow2_change_backing_file(struct node *node, const char *file, const char *format) CO_FN CONTROL_FN;

/* reopen.c */
struct error *qcow2_reopen_prepare(struct node *node, const struct blockdev_options *options, struct reopen *reopen)
    CO_FN CONTROL_FN;
struct error *qcow2_reopen_leave(struct node *node, struct reopen *reopen) CO_FN CONTROL_FN;
struct error *qcow2_reopen_enter(struct node *node, struct reopen *reopen) CO_FN CONTROL_FN;
void qcow2_reopen_undo(struct node *node, struct reopen *reopen) CO_FN CONTROL_FN;
void qcow2_reopen_commit(struct node *node, struct reopen *reopen) CONTROL_FN;
void qcow2_reopen_abort(struct node *node, struct reopen *reopen) CO_FN CONTROL_FN;
void qcow2_reopen_end(struct node *node, struct reopen *reopen) CO_FN CONTROL_FN;
extern const char *const qcow2_reopenable[];

/* Before anything is written: is the image sound? Mends what has to be mended first. The file can be written. */
struct error *qcow2_enter_writing(struct qcow2 *q) CO_FN CONTROL_FN MUST_CHECK;

/* dirty.c */

/* An image that was not closed cleanly while refcounts were late: they are made right. */
struct error *qcow2_repair_dirty(struct qcow2 *q) CO_FN CONTROL_FN MUST_CHECK;

/* damage.c */

/* The image turned out to be damaged: nothing is written to it any more, its header says so, and so does a notice.
 * @place: bytes of the file that are concerned, of length 0 when that cannot be told. Returns -EIO. */
int qcow2_corrupt(struct qcow2 *q, struct range place, const char *format, ...) CO_FN
    __attribute__((format(printf, 3, 4)));
/* Changes incompatible features in the header, stable afterwards. 0 or -errno. */
int qcow2_set_features(struct qcow2 *q, uint64_t set, uint64_t clear) CO_FN;

/* overlap.c */

/* The kinds, among @kinds, of tables that lie in this place, as TABLE_BIT()s; not all of them when there is more than
 * one. Under metadata or l2.lock. */
unsigned qcow2_tables_at(const struct qcow2 *q, struct range place, unsigned kinds);
/* The same of all those tables that there is one of. */
unsigned qcow2_single_tables_at(const struct qcow2 *q, struct range place);
/* Does [offset, offset + bytes) of the file overlap the header or a table? Under metadata or l2.lock. */
bool qcow2_is_table(const struct qcow2 *q, uint64_t offset, uint64_t bytes);
/* The same of those tables that overlap-check names. */
bool qcow2_is_protected(const struct qcow2 *q, uint64_t offset, uint64_t bytes);
/* Can a table of @bytes bytes (a power of two) be at this offset: aligned to its size, inside the file? Under metadata
 * or l2.lock. */
bool qcow2_table_in_file(const struct qcow2 *q, uint64_t offset, uint64_t bytes);
/* Where the table lies that there is one of; of length 0 for other kinds. */
struct range qcow2_single_table(const struct qcow2 *q, enum table_kind kind);
/* qcow2_corrupt() because a table lies where none may. Without l2.lock. */
int qcow2_corrupt_overlap(struct qcow2 *q, uint64_t offset, uint64_t bytes) CO_FN;

/* check.c */

/* As driver->check, but without a handle: the caller sees to it that nobody else uses the image. Nothing in memory may
 * be newer than the file. */
int qcow2_check_and_repair(struct qcow2 *q, unsigned fix, const _Atomic bool *stop, struct image_check *result) CO_FN;
int qcow2_check(struct node *node, unsigned fix, const _Atomic bool *stop, struct image_check *result) CO_FN;

/* tables.c */

/* Forgets all that is known of the tables, and reads it again. Nobody uses the image. 0 or -errno. */
int qcow2_reload_tables(struct qcow2 *q) CO_FN;

/* Reads L1 table and refcount table, and finds the places of all tables that nothing else may overwrite. */
struct error *qcow2_load_tables(struct qcow2 *q) CO_FN MUST_CHECK;
/* Reads @entries numbers, in host byte order, that must lie inside the file. The caller frees *@out. @what: for
 * messages. */
struct error *qcow2_read_table(struct qcow2 *q, const char *what, uint64_t offset, uint64_t entries, uint64_t **out)
    CO_FN MUST_CHECK;
/* A table of this kind lies there; a place that is known as that of another table already is damage, except of L2
 * tables that snapshots share. */
struct error *qcow2_remember_table(struct qcow2 *q, uint64_t offset, enum table_kind kind) MUST_CHECK;
/* All that these entries lead to. */
struct error *qcow2_remember_tables(struct qcow2 *q, const uint64_t *table, uint64_t entries,
                                    enum table_kind kind) MUST_CHECK;

/* backing.c */

/* Opens what the options or the header name as backing file, if anything. */
struct error *qcow2_open_backing(struct qcow2 *q, const struct blockdev_options *options,
                                 const struct open_context *context) CO_FN CONTROL_FN MUST_CHECK;

/* data_file.c */

/* Opens the data file of an image that has one; before anything is written, and before qcow2_open_backing(). */
struct error *qcow2_open_data_file(struct qcow2 *q, const struct blockdev_options *options,
                                   const struct open_context *context) CO_FN CONTROL_FN MUST_CHECK;
/* A raw data file excludes a backing file. */
struct error *qcow2_check_backing_option(const struct qcow2 *q, const struct blockdev_ref_or_null *backing) MUST_CHECK;
void qcow2_child_permissions(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                             unsigned *child_perm, unsigned *child_shared) CONTROL_FN;

/* map.c */

enum lookup_for {
    FOR_READING,
    FOR_WRITING, /* in place: own clusters must not lie on tables */
};

/* The run of like clusters that begins at range.offset. 0, or -errno (-EIO: the image is damaged). */
int map_lookup(struct qcow2 *q, struct range range, enum lookup_for purpose, struct mapping *out) CO_FN;

/* Goes through @range, all of which will be looked at; inside of an epoch, from begin to end. */
void map_scan_begin(const struct qcow2 *q, struct range range, struct map_scan *scan);
/* The next runs from range.offset on, at least one and at most @max. 0 or -errno, as map_lookup() for reading. */
int map_scan_next(struct qcow2 *q, struct range range, struct map_scan *scan, struct mapping *runs, size_t max,
                  size_t *count) CO_FN;
void map_scan_end(struct map_scan *scan);

/* qcow2_corrupt() because of this L2 entry. */
int qcow2_corrupt_entry(struct qcow2 *q, uint64_t entry) CO_FN;

/* The L2 entries that map guest clusters, in memory and ready to be changed. */
struct l2_run {
    struct table *slice; /* pinned */
    uint64_t guest;      /* offset of the first cluster */
    size_t first;        /* entry of the first cluster */
    size_t count;        /* clusters asked for, as far as the slice goes; at least 1 */
};

/* Under metadata. Makes an L2 table where none is, and a copy of one that a snapshot shares. Ends with l2_run_end(). */
int l2_run_begin(struct qcow2 *q, struct range clusters, struct l2_run *run) CO_FN;
/* The same, but where no L2 table is run->slice is NULL and run->count says for how many clusters. */
int l2_run_begin_existing(struct qcow2 *q, struct range clusters, struct l2_run *run) CO_FN;
void l2_run_end(struct qcow2 *q, struct l2_run *run);
struct l2_entry l2_run_get(const struct qcow2 *q, const struct l2_run *run, size_t i);
/* The same, taken apart. */
struct cluster l2_run_cluster(const struct qcow2 *q, const struct l2_run *run, size_t i);
/* After l2_run_change() only. Seen by readers at once. */
void l2_run_set(struct qcow2 *q, const struct l2_run *run, size_t i, struct l2_entry entry);
int l2_run_change(struct qcow2 *q, const struct l2_run *run, size_t first, size_t count);
/* The host clusters of an entry that is overwritten are given up. Under metadata. */
void l2_entry_release(struct qcow2 *q, struct l2_entry entry, enum freed_by by);

/* refcount.c: all under metadata */

/* The first free clusters, at least 1 and at most @max in a row, with one reference each. @fresh: nothing was ever
 * written to them, so they read as zeroes. 0, -errno or RETRY_WITH_LARGER_REFTABLE. */
int refcount_alloc(struct qcow2 *q, uint64_t max, uint64_t *host, uint64_t *count, bool *fresh) CO_FN;
/* @count clusters in a row. */
int refcount_alloc_run(struct qcow2 *q, uint64_t count, uint64_t *host) CO_FN;
/* Takes one reference from each cluster that the bytes touch. Only for what no table on disk points to. */
int refcount_release(struct qcow2 *q, struct range host) CO_FN;
/* Adds one reference to each cluster that the bytes touch, or to none. -ERANGE where that is more than a refcount can
 * say. For what is in use already: a count of 0 is damage. */
int refcount_retain(struct qcow2 *q, struct range host) CO_FN;
int refcount_read(struct qcow2 *q, uint64_t cluster, uint64_t *count) CO_FN;

/* packed_space.c: under metadata */

/* Space for @bytes packed bytes, fewer than a cluster's; the clusters that they touch have one reference more. 0,
 * -errno or RETRY_WITH_LARGER_REFTABLE. */
int packed_space_take(struct qcow2 *q, uint64_t bytes, uint64_t *host) CO_FN;
/* Nothing more is packed into this host cluster: it is about to be free. */
void packed_space_leave(struct qcow2 *q, uint64_t cluster);

/* reftable.c */

/* refcount_alloc_run() for more clusters than one refcount block counts: in a part of the file that has no blocks yet.
 */
int refcount_alloc_area(struct qcow2 *q, uint64_t count, uint64_t *host) CO_FN;

/* Makes room for more refcount blocks, when all that there are count no free cluster: after refcount_alloc() answered
 * RETRY_WITH_LARGER_REFTABLE. Takes sync_mutex and metadata itself. */
int reftable_grow(struct qcow2 *q) CO_FN;
/* The same with both held, and without condition. */
int reftable_grow_held(struct qcow2 *q) CO_FN;
/* refcount_alloc_run() with both held, which makes room as far as it is needed. There may be free clusters still, only
 * not enough in a row, so reftable_grow() would not help. */
int refcount_alloc_run_held(struct qcow2 *q, uint64_t count, uint64_t *host) CO_FN;

/* freed.c */

/* A request that uses host offsets from the map begins and ends: clusters that were given up meanwhile are not used
 * again before it ends. */
unsigned freed_epoch_enter(struct qcow2 *q);
void freed_epoch_leave(struct qcow2 *q, unsigned epoch);
/* Under metadata: no entry in memory points to these bytes any more. */
void freed_add(struct qcow2 *q, struct range host, enum freed_by by);
void freed_fini(struct qcow2 *q);
/* Steps of a write-back, under sync_mutex: it begins (and metadata), tables are written, a flush has ended. */
void freed_seal(struct qcow2 *q);
void freed_written(struct qcow2 *q);
void freed_flushed(struct qcow2 *q);
/* Makes available what may be used again; under sync_mutex, takes metadata. */
void freed_apply(struct qcow2 *q) CO_FN;

/* sync.c */

/* Hands all changes to the file below, in order. The caller flushes the file afterwards. */
int qcow2_sync(struct qcow2 *q) CO_FN;
/* The same with sync_mutex and metadata held, flushed: afterwards nothing in memory differs from the file. */
int qcow2_sync_held(struct qcow2 *q) CO_FN;
/* All of it: afterwards the file is as if the image had been closed. While nobody writes. */
int qcow2_settle(struct qcow2 *q) CO_FN;
/* Writes back and makes freed clusters available. */
int qcow2_reclaim(struct qcow2 *q) CO_FN;
/* Requests that change tables keep what waits near its limits: before they begin, outside of an epoch and of any lock;
 * and before they take metadata. */
int qcow2_reclaim_if_crowded(struct qcow2 *q) CO_FN;
int qcow2_sync_if_crowded(struct qcow2 *q) CO_FN;
int qcow2_flush_children(struct qcow2 *q) CO_FN;

/* read.c */
int qcow2_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags) CO_FN;
/* Reads what a mapping of these bytes says. range.bytes <= mapping->bytes. */
int qcow2_read_mapped(struct qcow2 *q, struct range range, const struct mapping *mapping, const struct iov *iov) CO_FN;

/* compress.c */

/* Fills @iov with the bytes of the compressed cluster from @skip on. 0, or -EIO when it does not decompress. */
int qcow2_read_compressed(struct qcow2 *q, uint64_t entry, uint64_t skip, const struct iov *iov) CO_FN;

/* write.c */
int qcow2_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags) CO_FN;
/* Guest bytes of an allocation: where they go. */
uint64_t allocation_host(const struct allocation *allocation, uint64_t guest);
/* The same inside of a request that entered the epoch already. */
int qcow2_write(struct qcow2 *q, struct range range, const struct iov *iov) CO_FN;
/* For what entries cannot say. */
int qcow2_write_zeroes_as_data(struct qcow2 *q, struct range range) CO_FN;
/* Whole clusters, which read as zeroes, get host clusters that do. */
int qcow2_preallocate(struct qcow2 *q, struct range clusters) CO_FN;
/* Under metadata: if a write in flight uses these clusters, gives up metadata, waits for it, takes metadata again and
 * returns true: what was read before may have changed. */
bool in_flight_wait(struct qcow2 *q, struct range guest) CO_FN;

/* compressed_write.c */

/* As qcow2_write() inside of a request, but compressed. -EINVAL unless the range is whole clusters or ends the disk. */
int qcow2_write_compressed(struct qcow2 *q, struct range range, const struct iov *iov) CO_FN;

/* cow.c */

/* Writes the guest's bytes to their new place, and around them what the guest had there before, so that all of
 * allocation->written is what it shall be. */
int cow_write(struct qcow2 *q, const struct allocation *allocation, struct range range, const struct iov *iov) CO_FN;

/* zero.c */
int qcow2_pwrite_zeroes(struct node *node, struct range range, unsigned flags) CO_FN;
int qcow2_pdiscard(struct node *node, struct range range) CO_FN;
/* Whole clusters become absent. */
int qcow2_drop(struct qcow2 *q, struct range clusters) CO_FN;
/* Whole clusters become zero, also where they are absent; version 3 only. */
int qcow2_hide(struct qcow2 *q, struct range clusters) CO_FN;

/* resize.c */

/* An image that was made shorter may have kept entries behind its end when the power went. They go. */
void qcow2_finish_shrinking(struct qcow2 *q) CO_FN;
int qcow2_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode) CO_FN;

/* status.c */
int qcow2_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents) CO_FN;

/* create.c */
struct error *qcow2_create(const struct blockdev_create_options *options) CO_FN;

#endif
