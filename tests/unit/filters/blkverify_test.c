/* The filter 'blkverify': what two nodes do not do alike is an error.
 *
 *     verify --raw---> raw (raw.img)
 *            --test--> test (blkdebug or gate) --> disk (test.img) */
#include "tests/unit/drivers/nodes.h"

#include "blockcore/filters/gate.h"
#include "blockcore/graph/notice.h"

static char told[512];

static void listen(const struct notice *notice, void *arg)
{
    (void)arg;
    expect_int(notice->kind, NOTICE_MISMATCH);
    snprintf(told, sizeof(told), "%s", notice->message);
}

static const char *heard(void)
{
    static char text[sizeof(told)];
    strcpy(text, told);
    told[0] = '\0';
    return text;
}

static void add_nodes(uint64_t raw_bytes, uint64_t test_bytes, struct blockdev_options test)
{
    told[0] = '\0';
    notice_set_listener(listen, NULL);
    make_file("raw.img", raw_bytes);
    make_file("test.img", test_bytes);
    add(file_options("raw", in_dir("raw.img")));
    add(file_options("disk", in_dir("test.img")));
    test.node_name = "test";
    add(test);
}

static struct blockdev_options gate(void)
{
    return (struct blockdev_options){ .driver = BLOCKDEV_DRIVER_GATE, .u.gate = { .file = by_name("disk") } };
}

static struct blockdev_options verify_options(void)
{
    return with_discard((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_BLKVERIFY,
        .node_name = "verify",
        .u.blkverify = { .test = by_name("test"), .raw = by_name("raw") },
    });
}

static struct handle *open_verify(void)
{
    add_nodes(MIB, MIB, gate());
    add(verify_options());
    return open_handle("verify", READ_WRITE);
}

static void spoil(uint64_t offset)
{
    int fd = open(in_dir("test.img"), O_RDWR | O_CLOEXEC);
    expect(fd >= 0 && pwrite(fd, "x", 1, (off_t)offset) == 1);
    close(fd);
}

NODE_TEST(each_request_goes_to_both)
{
    struct handle *handle = open_verify();
    expect_int(put(handle, 1000, 10000, 1), 0);
    expect_int(handle_pwrite_zeroes(handle, range_make(2000, 1000), 0), 0);
    expect_int(handle_pdiscard(handle, range_make(4096, 4096)), 0);
    expect_int(handle_flush(handle), 0);
    expect(reads_as(handle, 1000, 1000, 1));
    expect(reads_as(handle, 2000, 1000, 0));
    expect(reads_as(handle, 3000, 8000, 1));
    expect_text(heard(), "");
    struct handle *test = open_handle("test", READ);
    struct handle *raw = open_handle("raw", READ);
    expect(reads_as(test, 3000, 8000, 1));
    expect(reads_as(raw, 3000, 8000, 1));
    expect(reads_as(raw, 2000, 1000, 0));
    handle_close(raw);
    handle_close(test);
    handle_close(handle);
}

NODE_TEST(a_difference_is_an_error_that_names_its_place)
{
    struct handle *handle = open_verify();
    expect_int(put(handle, 0, 100000, 1), 0);
    spoil(77777);
    char *data = malloc(100000);
    expect_int(get_bytes(handle, 1000, data, 90000), -EIO);
    expect_text(heard(), "nodes 'test' and 'raw' differ at offset 77777 (read of 90000 bytes at 1000)");
    expect_int(get_bytes(handle, 0, data, 77777), 0);
    expect_int(get_bytes(handle, 77778, data, 1000), 0);
    expect_text(heard(), "");
    free(data);
    handle_close(handle);
}

NODE_TEST(an_error_of_one_of_them_is_a_difference)
{
    const struct blkdebug_inject_error_options error = { .event = BLKDEBUG_EVENT_NONE,
                                                         .has_errno = true,
                                                         .errno_ = ENOSPC,
                                                         .has_iotype = true,
                                                         .iotype = BLKDEBUG_IO_TYPE_WRITE };
    add_nodes(MIB, MIB,
              (struct blockdev_options){
                  .driver = BLOCKDEV_DRIVER_BLKDEBUG,
                  .u.blkdebug = { .image = by_name("disk"),
                                  .has_inject_error = true,
                                  .inject_error = &error,
                                  .inject_error_count = 1 },
              });
    add(verify_options());
    struct handle *handle = open_handle("verify", READ_WRITE);
    expect_int(put(handle, 512, 512, 1), -EIO);
    expect_text(heard(),
                "write of 512 bytes at 512: node 'test' says No space left on device, node 'raw' says success");
    handle_close(handle);
}

static char first_byte_of_raw(void)
{
    char byte = 0;
    int fd = open(in_dir("raw.img"), O_RDONLY | O_CLOEXEC);
    expect(fd >= 0 && pread(fd, &byte, 1, 0) == 1);
    close(fd);
    return byte;
}

struct request {
    struct handle *handle;
    int ret;
    struct co_event done;
};

static void write_entry(void *arg)
{
    struct request *request = arg;
    request->ret = put(request->handle, 0, 4096, 1);
    co_event_set(&request->done);
}

static void read_entry(void *arg)
{
    struct request *request = arg;
    request->ret = reads_as(request->handle, 0, 4096, 1) ? 0 : 1;
    co_event_set(&request->done);
}

NODE_TEST(a_write_on_its_way_is_no_difference)
{
    struct handle *handle = open_verify();
    struct node *test = node_find("test");
    struct request write = { .handle = handle };
    struct request read = { .handle = handle };
    co_event_init(&write.done);
    co_event_init(&read.done);
    gate_hold(test, GATE_WRITE, 1);
    co_start_on(loop_io(0), "write", write_entry, &write);
    gate_wait_held(test, 1);
    while (first_byte_of_raw() != 1)
        co_yield ();
    co_start_on(loop_io(1), "read", read_entry, &read);
    while (gate_seen(test, GATE_READ) == 0)
        co_yield ();
    gate_release(test, GATE_WRITE, GATE_ALL);
    co_event_wait(&read.done, "test");
    co_event_wait(&write.done, "test");
    expect_int(read.ret, 0);
    expect_int(write.ret, 0);
    expect_text(heard(), "");
    handle_close(handle);
}

NODE_TEST(status_is_that_of_the_node_that_is_believed)
{
    struct handle *handle = open_verify();
    expect_int(put(handle, 64 * KIB, 64 * KIB, 1), 0);
    expect_text(map_text(handle, ASK_ALL), "0+64z@0 64+64d@64 128+896z@128");
    handle_close(handle);
}

NODE_TEST(both_are_of_one_length_and_have_no_other_writers)
{
    add_nodes(MIB, MIB + 512, gate());
    add_fails(verify_options(), "test: node 'test' is 1049088 bytes long, but node 'raw' is 1048576");
    blockdev_del_all();
    struct handle *handle = open_verify();
    struct handle *other;
    expect_error(handle_open(node_find("raw"), "somebody", READ_WRITE, PERM_ALL, &other), "(as its 'raw')");
    handle_close(handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_request_goes_to_both),
        cmocka_unit_test(a_difference_is_an_error_that_names_its_place),
        cmocka_unit_test(an_error_of_one_of_them_is_a_difference),
        cmocka_unit_test(a_write_on_its_way_is_no_difference),
        cmocka_unit_test(status_is_that_of_the_node_that_is_believed),
        cmocka_unit_test(both_are_of_one_length_and_have_no_other_writers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
