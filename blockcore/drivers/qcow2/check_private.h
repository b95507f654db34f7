/* check - what the parts of the check share
 *
 *     check.c         the order of things
 *     check_census.c  who refers to which cluster: a walk over all tables
 *     check_counts.c  the refcounts that the image has, compared with that, corrected, or made anew
 *     check_copied.c  flags in entries that say that a refcount is one
 *
 * Memory does not grow with the image: references are counted for a window of clusters at a time, and the tables are
 * walked once for each window. Everything is read from the file, past the caches of the driver, which are written back
 * before and emptied after.
 *
 * What counts as leak, corruption, or fragmented cluster is as in QEMU's check, so that the numbers are the same. */
#ifndef CAIRN_QCOW2_CHECK_PRIVATE_H
#define CAIRN_QCOW2_CHECK_PRIVATE_H

#include "blockcore/drivers/qcow2/qcow2_private.h"

#define CHECK_WINDOW_MAX (UINT64_C(32) << 20) /* clusters: 128 MiB of counters, 2 TiB of clusters of 64 KiB */
#define CHECK_BLOCKS 32                       /* refcount blocks in memory at a time */
#define CHECK_WORK_PER_TURN 65536             /* entries of tables: some tenths of a millisecond */

struct check_numbers {
    uint64_t in_tables;    /* corruptions: entries that cannot be, or are not as they should be */
    uint64_t wrong_counts; /* corruptions: refcounts that are too low */
    uint64_t leaks;        /* refcounts that are too high */
    uint64_t errors;       /* places that cannot be read: what they lead to is not known, so leaks are not either */
    uint64_t corruptions_fixed;
    uint64_t leaks_fixed;
    uint64_t allocated;
    uint64_t fragmented;
    uint64_t compressed;
};

struct check {
    struct qcow2 *q;
    unsigned fix;             /* enum check_fix */
    const _Atomic bool *stop; /* NULL, or set by whoever does not want the result any more */
    struct check_numbers numbers;
    uint64_t clusters;     /* of the file, the last one perhaps in part */
    uint64_t used;         /* clusters up to the last one that is referred to or counted */
    uint64_t referred;     /* clusters up to the last one that any table refers to */
    bool refcounts_broken; /* blocks cannot be where they are, or lack: they have to be made anew */

    /* The window. */
    uint64_t first;
    uint64_t count;
    uint32_t *references;

    /* Of the walk that is under way. */
    bool tell;              /* findings of the tables themselves are counted: once, not for each window */
    bool looking;           /* nothing will be changed because of this walk, so it may go on without a table */
    bool without_refcounts; /* as if there were neither refcount table nor blocks */
    uint64_t work;          /* entries since others could run */

    /* Refcount blocks in memory, by index modulo CHECK_BLOCKS. */
    struct check_block {
        uint8_t *data;
        uint64_t index;
        bool loaded;
        bool changed;
        bool unreadable;
    } blocks[CHECK_BLOCKS];
};

/* Counts references to the clusters of the window. 0, or -errno when a table cannot be read. */
int check_census(struct check *check) CO_FN;
/* Reads a cluster's worth of table; what lies behind the end of the file is zeroes. */
int check_read_table(struct check *check, uint64_t offset, uint8_t *table) CO_FN;
/* May the L2 table at @offset be corrected? Not if something else lies there that this would damage. */
bool check_may_write_l2(const struct check *check, uint64_t offset);
/* So many more entries are looked at: lets others run from time to time. 0, or -ECANCELED. */
int check_turn(struct check *check, uint64_t entries) CO_FN;
/* Something could not be read. 0: it is counted (if @tell, or as the first), and the walk goes on without it; else what
 * the check ends with. */
int check_failed_read(struct check *check, int ret, bool tell);

/* Can a refcount block be where entry @index of the refcount table says? */
bool check_block_is_sane(const struct check *check, uint64_t index);
#define CHECK_UNKNOWN UINT64_MAX /* the block cannot be read */
/* The refcount that the image has for a cluster; 0 where it has none. 0 or -errno. */
int check_stored(struct check *check, uint64_t cluster, uint64_t *count) CO_FN;
/* Compares the counts of the window; corrects them as far as @fix says. */
int check_compare(struct check *check, unsigned fix) CO_FN;
/* Writes the blocks that were corrected. */
int check_write_blocks(struct check *check) CO_FN;
/* Makes the refcounts anew behind all that is used, and switches to them. */
int check_rebuild(struct check *check) CO_FN;

/* Compares, and with FIX_ERRORS corrects, the flags of active entries. */
int check_copied(struct check *check) CO_FN;

#endif
