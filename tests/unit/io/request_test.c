/* The request path: bounds, permissions, units, limits, emulations, order. */
#include "tests/unit/support/mem_drivers.h"

#include "blockcore/base/memory.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IN_GRAPH(name)                                                                                                 \
    static void name##_body(void *arg);                                                                                \
    static void name(void **state)                                                                                     \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        with_runtime(2, name##_body, NULL);                                                                            \
    }                                                                                                                  \
    static void name##_body(void *arg __attribute__((unused)))

static struct handle *open_handle(const char *node, unsigned perm)
{
    struct handle *handle;
    expect_success(handle_open(node_find(node), "user", perm, PERM_ALL, &handle));
    return handle;
}

static int write_bytes(struct handle *handle, uint64_t offset, const void *data, size_t bytes, unsigned flags)
{
    struct iovec storage;
    struct iov iov = iov_of(&storage, (void *)(uintptr_t)data, bytes);
    return handle_pwritev(handle, range_make(offset, bytes), &iov, flags);
}

static int read_bytes(struct handle *handle, uint64_t offset, void *data, size_t bytes)
{
    struct iovec storage;
    struct iov iov = iov_of(&storage, data, bytes);
    return handle_preadv(handle, range_make(offset, bytes), &iov);
}

IN_GRAPH(requests_outside_the_node_are_refused)
{
    add_mem("disk", 1000);
    struct handle *handle = open_handle("disk", PERM_WRITE | PERM_CONSISTENT_READ);
    char data[16] = { 0 };
    assert_int_equal(read_bytes(handle, 984, data, 16), 0);
    assert_int_equal(read_bytes(handle, 985, data, 16), -EINVAL);
    assert_int_equal(read_bytes(handle, UINT64_MAX - 7, data, 16), -EINVAL);
    assert_int_equal(write_bytes(handle, 1000, data, 1, 0), -EINVAL);
    assert_int_equal(write_bytes(handle, 1000, data, 0, 0), 0);
    assert_int_equal(handle_pdiscard(handle, range_make(0, 1001)), -EINVAL);
    assert_int_equal(handle_pwrite_zeroes(handle, range_make(UINT64_MAX, 2), 0), -EINVAL);
    assert_int_equal(mem_of("disk")->writes, 0);
    handle_close(handle);
}

IN_GRAPH(writing_takes_the_permission)
{
    add_mem("disk", 1000);
    struct handle *handle = open_handle("disk", PERM_CONSISTENT_READ);
    char data[16] = { 0 };
    assert_int_equal(write_bytes(handle, 0, data, 16, 0), -EPERM);
    assert_int_equal(handle_pwrite_zeroes(handle, range_make(0, 16), 0), -EPERM);
    assert_int_equal(handle_pdiscard(handle, range_make(0, 16)), -EPERM);
    assert_int_equal(handle_truncate(handle, 0, TRUNCATE_SPARSE), -EPERM);
    handle_close(handle);
}

IN_GRAPH(a_read_only_node_is_not_written)
{
    struct blockdev_options options = { .node_name = "disk", .driver = BLOCKDEV_DRIVER_NULL_CO };
    options.has_read_only = true;
    options.read_only = true;
    expect_success(blockdev_add(&options));
    struct handle *handle;
    expect_error(handle_open(node_find("disk"), "user", PERM_WRITE, PERM_ALL, &handle), "node 'disk' is read-only");
}

/* Random requests of any alignment against a plain array, with each kind of node. */
static void random_requests(const struct mem_knobs *knobs)
{
    enum { size = 20000, steps = 3000 };
    mem_next = *knobs;
    add_mem("disk", size);
    add_filter("top", "disk");
    struct handle *handle = open_handle("top", PERM_WRITE);
    unsigned char *model = xcalloc(size, 1);
    unsigned char *data = xmalloc(size);
    for (unsigned step = 0; step < steps; step++) {
        size_t offset = (size_t)rand() % size;
        size_t bytes = 1 + (size_t)rand() % (rand() % 4 ? 600 : size);
        if (bytes > size - offset)
            bytes = size - offset;
        switch (rand() % 4) {
        case 0:
            assert_int_equal(read_bytes(handle, offset, data, bytes), 0);
            assert_memory_equal(data, model + offset, bytes);
            break;
        case 1:
            memset(data, rand() % 256, bytes);
            assert_int_equal(write_bytes(handle, offset, data, bytes, rand() % 2 ? REQ_FUA : 0), 0);
            memcpy(model + offset, data, bytes);
            break;
        case 2:
            assert_int_equal(handle_pwrite_zeroes(handle, range_make(offset, bytes), rand() % 2 ? REQ_MAY_UNMAP : 0),
                             0);
            memset(model + offset, 0, bytes);
            break;
        default:
            assert_int_equal(handle_pdiscard(handle, range_make(offset, bytes)), 0);
            assert_int_equal(read_bytes(handle, 0, data, size), 0);
            for (size_t i = 0; i < size; i++) {
                bool inside = i >= offset && i < offset + bytes;
                assert_true(data[i] == model[i] || (inside && data[i] == 0));
            }
            memcpy(model, data, size);
        }
    }
    assert_int_equal(read_bytes(handle, 0, data, size), 0);
    assert_memory_equal(data, model, size);
    free(data);
    free(model);
    handle_close(handle);
}

IN_GRAPH(any_request_works_on_any_node)
{
    const struct mem_knobs kinds[] = {
        { .fua = true },
        { .alignment = 512, .memory_alignment = 512, .fua = true },
        { .alignment = 4096, .memory_alignment = 4096, .max_transfer = 8192, .fua = true },
        { .max_transfer = 100, .no_zeroes = true, .fua = true },
        { .alignment = 512, .no_zeroes = true, .fua = true },
    };
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        random_requests(&kinds[i]);
        expect_success(blockdev_del("top"));
        expect_success(blockdev_del("disk"));
    }
}

IN_GRAPH(units_may_be_larger_than_a_bounce_buffer)
{
    enum { unit = 4 * 1024 * 1024, size = 3 * unit };
    mem_next.alignment = unit;
    add_mem("disk", size);
    struct handle *handle = open_handle("disk", PERM_WRITE);
    size_t bytes = size - 200;
    unsigned char *data = xmalloc(bytes);
    memset(data, 0x5a, bytes);
    assert_int_equal(write_bytes(handle, 100, data, bytes, 0), 0);
    memset(data, 0, bytes);
    assert_int_equal(read_bytes(handle, 100, data, bytes), 0);
    for (size_t i = 0; i < bytes; i++)
        assert_int_equal(data[i], 0x5a);
    struct mem *mem = mem_of("disk");
    assert_int_equal(mem->bytes[99] + mem->bytes[size - 100], 0);
    assert_int_equal(handle_pwrite_zeroes(handle, range_make(200, bytes - 200), 0), 0);
    assert_int_equal(mem->bytes[199], 0x5a);
    assert_int_equal(mem->bytes[200] + mem->bytes[size - 101 - 100], 0);
    assert_int_equal(mem->bytes[size - 101], 0x5a);
    free(data);
    handle_close(handle);
}

IN_GRAPH(fua_is_a_flush_where_the_driver_does_not_know_it)
{
    struct blockdev_options options = { .node_name = "disk", .driver = BLOCKDEV_DRIVER_HOST_DEVICE };
    expect_success(blockdev_add(&options));
    struct handle *handle = open_handle("disk", PERM_WRITE);
    assert_int_equal(write_bytes(handle, 0, "x", 1, 0), 0);
    assert_int_equal(mem_of("disk")->flushes, 0);
    assert_int_equal(write_bytes(handle, 0, "x", 1, REQ_FUA), 0);
    assert_int_equal(mem_of("disk")->flushes, 1);
    assert_int_equal(handle_pwrite_zeroes(handle, range_make(0, 10), REQ_FUA), 0);
    assert_int_equal(mem_of("disk")->flushes, 2);
    assert_int_equal(handle_pwrite_zeroes(handle, range_make(0, 10), REQ_NO_FALLBACK), -ENOTSUP);
    handle_close(handle);
}

/* However many pieces the request comes to. */
IN_GRAPH(fua_costs_one_flush)
{
    struct blockdev_options options = { .node_name = "disk", .driver = BLOCKDEV_DRIVER_HOST_DEVICE };
    mem_next.alignment = 512;
    mem_next.max_transfer = 1024;
    expect_success(blockdev_add(&options));
    add_filter("top", "disk");
    struct handle *handle = open_handle("top", PERM_WRITE);
    char data[4000] = { 1 };
    assert_int_equal(write_bytes(handle, 10, data, sizeof(data), REQ_FUA), 0);
    assert_true(mem_of("disk")->writes > 3);
    assert_int_equal(mem_of("disk")->flushes, 1);
    assert_int_equal(handle_pwrite_zeroes(handle, range_make(10, 4000), REQ_FUA), 0);
    assert_int_equal(mem_of("disk")->flushes, 2);
    handle_close(handle);
}

/*  top --> disk: only the node that is not told to pass discards on keeps them, whoever asks it. */
IN_GRAPH(discards_are_ignored_where_nobody_wants_them)
{
    struct blockdev_options options = { .node_name = "disk", .driver = BLOCKDEV_DRIVER_NULL_CO };
    expect_success(blockdev_add(&options));
    add_filter("top", "disk");
    struct mem *mem = mem_of("disk");
    struct handle *handle = open_handle("top", PERM_WRITE);
    assert_int_equal(write_bytes(handle, 0, "data", 4, 0), 0);
    assert_int_equal(handle_pdiscard(handle, range_make(0, 4)), 0);
    assert_int_equal(mem->discards, 0);
    assert_int_equal(handle_pwrite_zeroes(handle, range_make(0, 4), REQ_MAY_UNMAP), 0);
    assert_int_equal(mem->zeroes, 1);
    assert_false(mem->hole[0]);
    handle_close(handle);
    expect_success(blockdev_del("top"));

    struct blockdev_ref file = { .kind = BLOCKDEV_REF_KIND_REFERENCE };
    file.u.reference = "willing";
    add_mem("willing", 4096);
    options = (struct blockdev_options){ .node_name = "top", .driver = BLOCKDEV_DRIVER_GATE };
    options.u.gate.file = &file;
    expect_success(blockdev_add(&options));
    handle = open_handle("top", PERM_WRITE);
    assert_int_equal(handle_pdiscard(handle, range_make(0, 4)), 0);
    assert_int_equal(mem_of("willing")->discards, 0);
    handle_close(handle);
}

IN_GRAPH(zeroes_are_detected_where_asked)
{
    struct blockdev_options options = { .node_name = "disk", .driver = BLOCKDEV_DRIVER_NULL_CO };
    options.has_detect_zeroes = true;
    options.detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_ON;
    mem_next.fua = true;
    expect_success(blockdev_add(&options));
    struct handle *handle = open_handle("disk", PERM_WRITE);
    char data[100] = { 0 };
    assert_int_equal(write_bytes(handle, 0, data, sizeof(data), 0), 0);
    assert_int_equal(mem_of("disk")->zeroes, 1);
    assert_int_equal(mem_of("disk")->writes, 0);
    data[99] = 1;
    assert_int_equal(write_bytes(handle, 0, data, sizeof(data), 0), 0);
    assert_int_equal(mem_of("disk")->writes, 1);
    handle_close(handle);

    options.node_name = "other";
    options.detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP;
    expect_error(blockdev_add(&options), "'discard' to be 'unmap'");
}

IN_GRAPH(an_error_of_the_driver_is_the_error_of_the_request)
{
    mem_next.alignment = 512;
    add_mem("disk", 4096);
    struct handle *handle = open_handle("disk", PERM_WRITE);
    char data[16] = { 0 };
    mem_of("disk")->fail_next = -EIO;
    assert_int_equal(read_bytes(handle, 3, data, 5), -EIO);
    mem_of("disk")->fail_next = -EIO; /* of the read before the write */
    assert_int_equal(write_bytes(handle, 3, "abc", 3, 0), -EIO);
    assert_int_equal(mem_of("disk")->writes, 0);
    assert_int_equal(write_bytes(handle, 3, "abc", 3, 0), 0);
    handle_close(handle);
}

struct small_write {
    struct handle *handle;
    uint64_t offset;
    char byte;
    struct co_event done;
};

static void small_write(void *arg)
{
    struct small_write *write = arg;
    assert_int_equal(write_bytes(write->handle, write->offset, &write->byte, 1, 0), 0);
    co_event_set(&write->done);
}

static void small_write_start(struct small_write *write, struct handle *handle, uint64_t offset, char byte)
{
    *write = (struct small_write){ .handle = handle, .offset = offset, .byte = byte };
    co_event_init(&write->done);
    co_start("write", small_write, write);
}

/* Two writers of one unit: without order the later write of the unit would bring the old byte of the other back. */
IN_GRAPH(read_modify_write_does_not_lose_a_neighbour)
{
    mem_next.alignment = 512;
    add_mem("disk", 4096);
    struct mem *mem = mem_of("disk");
    struct handle *handle = open_handle("disk", PERM_WRITE);
    mem_hold(mem);
    struct small_write a;
    struct small_write b;
    struct small_write elsewhere;
    small_write_start(&a, handle, 10, 'a');
    small_write_start(&b, handle, 20, 'b');
    small_write_start(&elsewhere, handle, 1000, 'c');
    mem_wait_held(mem, 2);
    /* b waits for a; the third, in another unit, does not. */
    assert_int_equal(mem->reads, 2);
    mem_release(mem);
    co_event_wait(&a.done, "test");
    co_event_wait(&b.done, "test");
    co_event_wait(&elsewhere.done, "test");
    assert_int_equal(mem->bytes[10], 'a');
    assert_int_equal(mem->bytes[20], 'b');
    assert_int_equal(mem->bytes[1000], 'c');
    handle_close(handle);
}

/* Neighbouring bytes of the same units, from two threads, many times. */
struct hammer {
    struct handle *handle;
    unsigned index;
    struct co_event done;
};

static void hammer_run(void *arg)
{
    struct hammer *hammer = arg;
    for (unsigned round = 1; round <= 100; round++) {
        char byte = (char)round;
        for (unsigned i = hammer->index; i < 2048; i += 61)
            assert_int_equal(write_bytes(hammer->handle, i, &byte, 1, 0), 0);
    }
    co_event_set(&hammer->done);
}

IN_GRAPH(read_modify_write_under_load)
{
    mem_next.alignment = 512;
    add_mem("disk", 2048);
    struct handle *handle = open_handle("disk", PERM_WRITE);
    struct hammer hammers[61];
    for (unsigned i = 0; i < ARRAY_SIZE(hammers); i++) {
        hammers[i] = (struct hammer){ .handle = handle, .index = i };
        co_event_init(&hammers[i].done);
        co_start_on(loop_io(i % 2), "hammer", hammer_run, &hammers[i]);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(hammers); i++)
        co_event_wait(&hammers[i].done, "test");
    for (unsigned i = 0; i < 2048; i++)
        assert_int_equal(mem_of("disk")->bytes[i], 100);
    handle_close(handle);
}

/*  gate -> overlay (compresses) -> file      plain -> file (does not) */
IN_GRAPH(compressed_writes_reach_only_drivers_that_compress)
{
    add_mem("file", 4096);
    add_cow("overlay", 4096, NULL, "file");
    add_filter("filter", "overlay");
    struct handle *handle = open_handle("filter", PERM_WRITE);
    char data[4096];
    memset(data, 7, sizeof(data));
    assert_true(node_can_compress(node_find("filter")));
    assert_int_equal(write_bytes(handle, 0, data, sizeof(data), REQ_COMPRESSED), 0);
    assert_int_equal(cow_of("overlay")->compressed, 1);
    assert_int_equal(cow_of("overlay")->state[4095], COW_OWN);
    assert_int_equal(mem_of("file")->writes, 0);
    handle_close(handle);

    add_mem("disk", 4096);
    add_filter("above", "disk");
    handle = open_handle("above", PERM_WRITE);
    assert_false(node_can_compress(node_find("above")));
    assert_int_equal(write_bytes(handle, 0, data, sizeof(data), REQ_COMPRESSED), -ENOTSUP);
    assert_int_equal(mem_of("disk")->writes, 0);
    handle_close(handle);
}

IN_GRAPH(a_compressed_write_is_neither_cut_nor_completed)
{
    add_mem("file", 4000);
    mem_next = (struct mem_knobs){ .alignment = 512, .max_transfer = 512 };
    add_cow("overlay", 4000, NULL, "file");
    struct handle *handle = open_handle("overlay", PERM_WRITE);
    char data[4000];
    memset(data, 7, sizeof(data));
    assert_int_equal(write_bytes(handle, 100, data, 412, REQ_COMPRESSED), -EINVAL);
    assert_int_equal(write_bytes(handle, 512, data, 100, REQ_COMPRESSED), -EINVAL);
    assert_int_equal(cow_of("overlay")->compressed, 0);
    assert_int_equal(write_bytes(handle, 0, data, sizeof(data), REQ_COMPRESSED), 0);
    assert_int_equal(cow_of("overlay")->compressed, 1);
    handle_close(handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_outside_the_node_are_refused),
        cmocka_unit_test(writing_takes_the_permission),
        cmocka_unit_test(a_read_only_node_is_not_written),
        cmocka_unit_test(any_request_works_on_any_node),
        cmocka_unit_test(units_may_be_larger_than_a_bounce_buffer),
        cmocka_unit_test(fua_is_a_flush_where_the_driver_does_not_know_it),
        cmocka_unit_test(fua_costs_one_flush),
        cmocka_unit_test(discards_are_ignored_where_nobody_wants_them),
        cmocka_unit_test(zeroes_are_detected_where_asked),
        cmocka_unit_test(an_error_of_the_driver_is_the_error_of_the_request),
        cmocka_unit_test(compressed_writes_reach_only_drivers_that_compress),
        cmocka_unit_test(a_compressed_write_is_neither_cut_nor_completed),
        cmocka_unit_test(read_modify_write_does_not_lose_a_neighbour),
        cmocka_unit_test(read_modify_write_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
