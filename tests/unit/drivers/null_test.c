/* The driver 'null-co'. */
#include "tests/unit/drivers/nodes.h"

#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct blockdev_options plain_options(const char *node_name)
{
    return (struct blockdev_options){ .driver = BLOCKDEV_DRIVER_NULL_CO, .node_name = node_name };
}

NODE_TEST(it_has_a_gib_and_takes_everything)
{
    add(plain_options("null"));
    expect_int(node_length(node_find("null")), GIB);
    expect_text(node_filename(node_find("null")), "null-co://");
    struct handle *handle = open_handle("null", READ_WRITE);
    expect_int(put(handle, GIB - 7, 7, 1), 0);
    expect_int(put(handle, GIB - 7, 8, 1), -EINVAL);
    expect_int(handle_pwrite_zeroes(handle, range_make(0, GIB), REQ_NO_FALLBACK), 0);
    expect_int(handle_pdiscard(handle, range_make(0, GIB)), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(node_allocated_bytes(node_find("null")), 0);
    /* Zero is not promised, so it must be called data. */
    expect_text(map_text(handle, ASK_ALL), "0+1048576d@0");
    handle_close(handle);
}

/* The memory of a read may have held somebody else's data. */
NODE_TEST(nothing_of_what_was_in_memory_is_left_after_a_read)
{
    add(plain_options("null"));
    struct handle *handle = open_handle("null", READ);
    expect(reads_as(handle, 12345, 70000, 0));
    handle_close(handle);
}

NODE_TEST(it_reads_as_zero_when_told)
{
    add(null_options("null", 12345));
    expect_int(node_length(node_find("null")), 12345);
    struct handle *handle = open_handle("null", READ_WRITE);
    expect_int(put(handle, 0, 12345, 1), 0);
    expect(reads_as(handle, 0, 12345, 0));
    expect_text(map_text(handle, ASK_ZERO), "0+12z");
    handle_close(handle);
}

NODE_TEST(each_request_takes_its_latency)
{
    struct blockdev_options options = plain_options("null");
    options.u.null_co.has_latency_ns = true;
    options.u.null_co.latency_ns = 2300000;
    add(options);
    struct handle *handle = open_handle("null", READ_WRITE);
    uint64_t begin = now_ns();
    char byte;
    expect_int(get_bytes(handle, 0, &byte, 1), 0);
    expect_int(put(handle, 0, 1, 1), 0);
    expect_int(handle_flush(handle), 0);
    expect(now_ns() - begin >= 3 * 2300000);
    handle_close(handle);
}

NODE_TEST(it_may_be_empty)
{
    add(null_options("null", 0));
    expect_int(node_length(node_find("null")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_has_a_gib_and_takes_everything),
        cmocka_unit_test(nothing_of_what_was_in_memory_is_left_after_a_read),
        cmocka_unit_test(it_reads_as_zero_when_told),
        cmocka_unit_test(each_request_takes_its_latency),
        cmocka_unit_test(it_may_be_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
