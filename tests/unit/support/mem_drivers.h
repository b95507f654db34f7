/* mem_drivers - nodes in memory whose every answer a test can predict
 *
 * They take the place of the real drivers in the tests of graph/ and io/ (a test program that links this defines
 * driver_find() itself). On the wire's names:
 *
 *     "null-co"  a protocol: bytes in memory, some of them holes; can hold requests, fail them, demand alignment
 *     "qcow2"    an overlay: each byte is absent, data (at the same offset in "file"), zero, or its own (nowhere raw)
 *     "raw"      a window on "file", at an offset
 *     "gate"     a filter that says nothing of its own
 *
 * Tests look inside through mem_of() and cow_of(). */
#ifndef CAIRN_TESTS_MEM_DRIVERS_H
#define CAIRN_TESTS_MEM_DRIVERS_H

#include "blockcore/graph/node.h"
#include "blockcore/runtime/sync.h"

#include <stddef.h>

/* What the next node that opens is like, as far as its driver knows of it; taken over at open and reset. */
struct mem_knobs {
    uint32_t alignment;
    uint32_t memory_alignment;
    uint64_t max_transfer;
    bool no_zeroes;           /* cannot write zeroes by itself */
    bool fua;                 /* honours REQ_FUA */
    struct co_event *opening; /* open waits for it, when its children are there */
    bool fail_locks;          /* set_permissions fails when PERM_WRITE is asked */
};

extern struct mem_knobs mem_next;

/* Most coroutines that were alive when a "null-co" closed. */
extern unsigned mem_closing_coroutines;

struct mem {
    unsigned char *bytes;
    bool *hole;
    size_t size;
    struct mem_knobs knobs;

    struct spinlock lock;
    bool holding;
    _Atomic unsigned held;
    _Atomic unsigned running;
    struct co_queue held_queue;

    _Atomic int fail_next;               /* the next read or write returns this */
    struct co_event *locking;            /* the next set_permissions waits for it */
    struct co_event *preparing;          /* the next reopen_prepare waits for it */
    _Atomic unsigned fail_flushes_after; /* so many succeed, then all fail; 0: none does */
    bool fail_enter;                     /* reopen_enter fails */
    unsigned commits, aborts;            /* of reopening */
    _Atomic unsigned reads, writes, zeroes, discards, flushes, questions;
    unsigned perm, shared;
    bool closed_seen;
};

enum cow_state {
    COW_ABSENT,
    COW_DATA,
    COW_ZERO,
    COW_OWN,
};

struct cow {
    struct child *file;
    size_t size;
    unsigned char *state; /* enum cow_state of each byte */
    unsigned char *own;
    _Atomic unsigned questions;  /* about block status */
    _Atomic unsigned compressed; /* writes with REQ_COMPRESSED: they become COW_OWN */
    size_t answers_max;          /* runs of like bytes that a single driver call tells at most */
};

struct mem *mem_of(const char *node_name);
struct cow *cow_of(const char *node_name);

/* Requests to the node wait from now on; mem_release lets all go. */
void mem_hold(struct mem *mem);
void mem_release(struct mem *mem);
/* Awaits until @count requests are held. */
void mem_wait_held(struct mem *mem, unsigned count) CO_FN;

/* blockdev-add in one line, with discard=unmap; they fail the test on error. @backing, @file: names. NULL backing:
 * none. */
void add_mem(const char *name, uint64_t size);
void add_cow(const char *name, uint64_t size, const char *backing, const char *file);
void add_raw(const char *name, const char *file, uint64_t offset, uint64_t size);
void add_filter(const char *name, const char *file);

/* The same, with the error instead. */
struct error *try_add_filter(const char *name, const char *file);
struct error *try_add_mem(const char *name, uint64_t size);

/* Runs @body as a coroutine on the control loop of a fresh runtime with @io_loops, then closes all nodes and checks
 * that nothing is left. */
void with_runtime(unsigned io_loops, void (*body)(void *arg), void *arg);

/* Fails the test when @err is NULL or does not contain @part; frees it. */
void expect_error(struct error *err, const char *part);
/* Fails the test when @err is set, with its message. */
void expect_success(struct error *err);

#endif
