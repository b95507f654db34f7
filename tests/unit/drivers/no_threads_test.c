/* What the drivers do when the pool has no thread for a call. The test program stands before the pool. */
#include "tests/unit/drivers/nodes.h"

static bool no_threads;

int __real_co_blocking(struct pool_domain *domain, int (*fn)(void *arg), void *arg);
int __wrap_co_blocking(struct pool_domain *domain, int (*fn)(void *arg), void *arg);

int __wrap_co_blocking(struct pool_domain *domain, int (*fn)(void *arg), void *arg)
{
    return no_threads ? -EAGAIN : __real_co_blocking(domain, fn, arg);
}

NODE_TEST(a_file_is_not_opened)
{
    make_file("a.img", MIB);
    no_threads = true;
    add_fails(file_options("disk", in_dir("a.img")), "a.img': Resource temporarily unavailable");
    no_threads = false;
    add(file_options("disk", in_dir("a.img")));
}

NODE_TEST(a_lock_that_was_not_taken_is_not_held)
{
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    struct handle *handle;
    no_threads = true;
    expect_error(handle_open(node_find("disk"), "the test", READ_WRITE, PERM_ALL, &handle), "cannot lock '");
    no_threads = false;
    handle = open_handle("disk", READ_WRITE);
    handle_close(handle);
}

NODE_TEST(a_file_is_not_created)
{
    struct blockdev_create_options options = {
        .driver = BLOCKDEV_DRIVER_FILE,
        .u.file = { .filename = in_dir("new.img"), .size = MIB },
    };
    no_threads = true;
    expect_error(driver_find("file")->create(&options), "cannot create '");
    no_threads = false;
    expect_success(driver_find("file")->create(&options));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_not_opened),
        cmocka_unit_test(a_lock_that_was_not_taken_is_not_held),
        cmocka_unit_test(a_file_is_not_created),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
