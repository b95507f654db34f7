/* fixture - what the tests of graph/ have in common: a graph of nodes in memory, and commands that run beside the test
 */
#ifndef CAIRN_TESTS_GRAPH_FIXTURE_H
#define CAIRN_TESTS_GRAPH_FIXTURE_H

#include "tests/unit/support/mem_drivers.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/drain.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* A test whose body is a coroutine of the control loop, with two I/O loops. */
#define IN_GRAPH(name)                                                                                                 \
    static void name##_body(void *arg);                                                                                \
    static void name(void **state)                                                                                     \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        with_runtime(2, name##_body, NULL);                                                                            \
    }                                                                                                                  \
    static void name##_body(void *arg __attribute__((unused)))

/* Fails the test when that is refused. */
struct handle *open_handle(const char *node, const char *user, unsigned perm, unsigned shared);

/* A write that a test starts, and looks at while it runs. */
struct write {
    struct handle *handle;
    struct range range;
    int fill;
    int ret;
    struct co_event done;
};

/* All users of one node move to another. */
struct switching {
    struct node *to;
    struct node *from;
    struct error *err;
    struct co_event done;
};

/* blockdev-del */
struct deletion {
    const char *name;
    struct co_event done;
};

/* An overlay that is added, slowly if the test likes. */
struct adding {
    const char *name, *backing, *file;
    struct co_event *opening;
    struct co_event done;
};

void write_start(struct write *write, struct handle *handle, uint64_t offset, uint64_t bytes, int fill);
void write_run(void *write) CO_FN;        /* what write_start() starts */
int write_end(struct write *write) CO_FN; /* what the write answered */

/* From switching->from to switching->to. */
void switch_start(struct switching *switching);

void delete_start(struct deletion *deletion, const char *name);

void add_run(void *adding) CO_FN;

/* Gives all loops time to do what they have been told: a round trip to each. */
void settle(void) CO_FN;

#endif
