/* What a failed flush means. The test program stands between the driver and fdatasync(2). */
#include "tests/unit/drivers/nodes.h"

#include <semaphore.h>

static _Atomic int fail_with;
static _Atomic int fail_once_with;
static _Atomic unsigned calls;
static sem_t *hold; /* each call takes one */

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

int __wrap_fdatasync(int fd)
{
    calls++;
    if (hold)
        sem_wait(hold);
    int errnum = atomic_exchange(&fail_once_with, 0);
    errnum = errnum ? errnum : fail_with;
    if (!errnum)
        return __real_fdatasync(fd);
    errno = errnum;
    return -1;
}

struct flush {
    struct handle *handle;
    int ret;
    struct co_event done;
};

static void flush_run(void *arg)
{
    struct flush *flush = arg;
    flush->ret = handle_flush(flush->handle);
    co_event_set(&flush->done);
}

static void flush_start(struct flush *flush, struct handle *handle)
{
    *flush = (struct flush){ .handle = handle, .ret = 1 };
    co_event_init(&flush->done);
    co_start("flush", flush_run, flush);
}

static int flush_end(struct flush *flush)
{
    co_event_wait(&flush->done, "test");
    return flush->ret;
}

/* One is under way; the others come too late for it, and share the next. */
NODE_TEST(flushes_that_wait_are_answered_by_one)
{
    sem_t gate;
    sem_init(&gate, 0, 0);
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    struct handle *handle = open_handle("disk", READ_WRITE);
    hold = &gate;
    calls = 0;
    struct flush flushes[5];
    expect_int(put(handle, 0, 512, 1), 0);
    flush_start(&flushes[0], handle);
    expect_int(put(handle, 512, 512, 1), 0);
    for (size_t i = 1; i < ARRAY_SIZE(flushes); i++)
        flush_start(&flushes[i], handle);
    sem_post(&gate);
    expect_int(flush_end(&flushes[0]), 0);
    expect(!co_event_is_set(&flushes[1].done));
    sem_post(&gate);
    for (size_t i = 1; i < ARRAY_SIZE(flushes); i++)
        expect_int(flush_end(&flushes[i]), 0);
    expect_int(calls, 2);
    hold = NULL;
    handle_close(handle);
    sem_destroy(&gate);
}

/* The kernel tells of lost pages once. Who flushes at the same time must hear of it as well. */
NODE_TEST(a_flush_beside_one_that_fails_fails)
{
    sem_t gate;
    sem_init(&gate, 0, 0);
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    struct handle *handle = open_handle("disk", READ_WRITE);
    hold = &gate;
    fail_once_with = EIO;
    struct flush flushes[2];
    expect_int(put(handle, 0, 512, 1), 0);
    flush_start(&flushes[0], handle);
    expect_int(put(handle, 512, 512, 1), 0);
    flush_start(&flushes[1], handle);
    sem_post(&gate);
    sem_post(&gate);
    expect_int(flush_end(&flushes[0]), -EIO);
    expect_int(flush_end(&flushes[1]), -EIO);
    hold = NULL;
    handle_close(handle);
    sem_destroy(&gate);
}

NODE_TEST(after_a_failed_flush_nothing_is_stable_until_the_file_is_opened_again)
{
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    struct handle *handle = open_handle("disk", READ_WRITE);
    expect_int(put(handle, 0, 4096, 1), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(put(handle, 0, 4096, 2), 0);
    fail_with = ENOSPC;
    expect_int(handle_flush(handle), -ENOSPC);
    /* The kernel would say that all is well: it has dropped the pages that it could not write. */
    fail_with = 0;
    expect_int(handle_flush(handle), -ENOSPC);
    handle_close(handle);
    expect_success(blockdev_del("disk"));

    add(file_options("disk", in_dir("a.img")));
    handle = open_handle("disk", READ_WRITE);
    expect_int(handle_flush(handle), 0);
    handle_close(handle);
}

NODE_TEST(what_changes_the_file_is_flushed_and_nothing_else)
{
    make_file("a.img", MIB);
    add(with_discard(file_options("disk", in_dir("a.img"))));
    struct handle *handle = open_handle("disk", READ_WRITE_RESIZE);
    calls = 0;
    expect(reads_as(handle, 0, 512, 0));
    expect_int(handle_flush(handle), 0);
    expect_int(calls, 0);
    expect_int(put(handle, 0, 512, 1), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(calls, 1);
    expect_int(handle_pwrite_zeroes(handle, range_make(0, 512), 0), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(calls, 2);
    expect_int(handle_pdiscard(handle, range_make(0, 512)), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(calls, 3);
    expect_int(handle_truncate(handle, 2 * MIB, TRUNCATE_SPARSE), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(calls, 4);
    handle_close(handle);
}

NODE_TEST(no_flush_calls_nothing)
{
    struct blockdev_cache_options cache = { .has_no_flush = true, .no_flush = true };
    struct blockdev_options options = file_options("disk", in_dir("a.img"));
    make_file("a.img", MIB);
    options.cache = &cache;
    add(options);
    struct handle *handle = open_handle("disk", READ_WRITE);
    calls = 0;
    expect_int(put(handle, 0, 512, 1), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(calls, 0);
    handle_close(handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_a_failed_flush_nothing_is_stable_until_the_file_is_opened_again),
        cmocka_unit_test(flushes_that_wait_are_answered_by_one),
        cmocka_unit_test(a_flush_beside_one_that_fails_fails),
        cmocka_unit_test(what_changes_the_file_is_flushed_and_nothing_else),
        cmocka_unit_test(no_flush_calls_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
