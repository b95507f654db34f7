#include "tests/unit/graph/fixture.h"

struct handle *open_handle(const char *node, const char *user, unsigned perm, unsigned shared)
{
    struct handle *handle;
    expect_success(handle_open(node_find(node), user, perm, shared, &handle));
    return handle;
}

void write_run(void *arg)
{
    struct write *write = arg;
    unsigned char *data = xmalloc(write->range.bytes);
    memset(data, write->fill, write->range.bytes);
    struct iovec storage;
    struct iov iov = iov_of(&storage, data, write->range.bytes);
    write->ret = handle_pwritev(write->handle, write->range, &iov, 0);
    free(data);
    co_event_set(&write->done);
}

void write_start(struct write *write, struct handle *handle, uint64_t offset, uint64_t bytes, int fill)
{
    *write = (struct write){ .handle = handle, .range = { offset, bytes }, .fill = fill, .ret = 1 };
    co_event_init(&write->done);
    co_start_on(loop_io(0), "write", write_run, write);
}

int write_end(struct write *write)
{
    co_event_wait(&write->done, "test");
    return write->ret;
}

static void switch_run(void *arg)
{
    struct switching *switching = arg;
    struct change *change = change_begin();
    expect_success(change_replace(change, switching->from, switching->to));
    switching->err = change_commit(change);
    co_event_set(&switching->done);
}

void switch_start(struct switching *switching)
{
    co_event_init(&switching->done);
    co_start("switch", switch_run, switching);
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

void settle(void)
{
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < loop_io_count(); i++)
            co_call_on(loop_io(i), "settle", nothing, NULL);
        co_yield ();
    }
}

static void delete_run(void *arg)
{
    struct deletion *deletion = arg;
    expect_success(blockdev_del(deletion->name));
    co_event_set(&deletion->done);
}

void delete_start(struct deletion *deletion, const char *name)
{
    *deletion = (struct deletion){ .name = name };
    co_event_init(&deletion->done);
    co_start("delete", delete_run, deletion);
}

void add_run(void *arg)
{
    struct adding *adding = arg;
    mem_next.opening = adding->opening;
    add_cow(adding->name, 4096, adding->backing, adding->file);
    co_event_set(&adding->done);
}
