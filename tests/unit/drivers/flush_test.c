/* What a failed flush means. The test program stands between the driver and fdatasync(2). */
#include "tests/unit/drivers/nodes.h"

static _Atomic int fail_with;
static _Atomic unsigned calls;

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

int __wrap_fdatasync(int fd)
{
    calls++;
    if (!fail_with)
        return __real_fdatasync(fd);
    errno = fail_with;
    return -1;
}

NODE_TEST(after_a_failed_flush_nothing_is_stable_until_the_file_is_opened_again)
{
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    struct handle *handle = open_handle("disk", READ_WRITE);
    expect_int(put(handle, 0, 4096, 1), 0);
    expect_int(handle_flush(handle), 0);
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

NODE_TEST(no_flush_calls_nothing)
{
    struct blockdev_cache_options cache = { .has_no_flush = true, .no_flush = true };
    struct blockdev_options options = file_options("disk", in_dir("a.img"));
    make_file("a.img", MIB);
    options.cache = &cache;
    add(options);
    struct handle *handle = open_handle("disk", READ_WRITE);
    calls = 0;
    expect_int(handle_flush(handle), 0);
    expect_int(calls, 0);
    handle_close(handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_a_failed_flush_nothing_is_stable_until_the_file_is_opened_again),
        cmocka_unit_test(no_flush_calls_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
