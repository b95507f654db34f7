/* The driver 'quorum': several nodes that should hold the same, and vote.
 *
 *     quorum --children.0--> debug0 (blkdebug) --> disk0 (a0.img)
 *            --children.1--> debug1            --> disk1
 *            --children.2--> debug2            --> disk2 */
#include "tests/unit/drivers/nodes.h"

#include "blockcore/filters/gate.h"
#include "blockcore/graph/child.h"
#include "blockcore/graph/notice.h"

#define CHILDREN 3
#define BYTES (MIB)

static char told[2048];

static void listen(const struct notice *notice, void *arg)
{
    static const char *const requests[] = { "read", "write", "flush" };
    size_t length = strlen(told);
    (void)arg;
    if (notice->kind == NOTICE_MISMATCH)
        snprintf(told + length, sizeof(told) - length, "[%s: %s]", notice->node_name, notice->message);
    else
        snprintf(told + length, sizeof(told) - length, "[%s %s %s %llu+%llu %d]", notice->node_name,
                 notice->kind == NOTICE_QUORUM_BAD ? "bad" : "failed", requests[notice->request],
                 (unsigned long long)notice->place.offset, (unsigned long long)notice->place.bytes, notice->errnum);
}

static const char *heard(void)
{
    static char text[sizeof(told)];
    strcpy(text, told);
    told[0] = '\0';
    return text;
}

static const char *numbered(const char *name, unsigned i)
{
    static char texts[8][32];
    static unsigned next;
    char *text = texts[next++ % 8];
    snprintf(text, sizeof(texts[0]), "%s%u", name, i);
    return text;
}

static void add_child_node(unsigned i, uint64_t bytes, const struct blkdebug_inject_error_options *error)
{
    const char *file = numbered("a", i);
    make_file(file, bytes);
    add(file_options(numbered("disk", i), in_dir(file)));
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_BLKDEBUG,
        .node_name = numbered("debug", i),
        .u.blkdebug = { .image = by_name(numbered("disk", i)),
                        .has_inject_error = error != NULL,
                        .inject_error = error,
                        .inject_error_count = error ? 1 : 0 },
    });
}

static struct blockdev_ref refs[CHILDREN + 1];

static struct blockdev_options quorum_options(unsigned children, int threshold)
{
    static const char *const names[] = { "debug0", "debug1", "debug2", "debug3" };
    for (unsigned i = 0; i < children; i++)
        refs[i] = (struct blockdev_ref){ .kind = BLOCKDEV_REF_KIND_REFERENCE, .u.reference = names[i] };
    return (struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_QUORUM,
        .node_name = "quorum",
        .u.quorum = { .children = refs, .children_count = children, .vote_threshold = threshold },
    };
}

/* Three sound children, of which two have to agree. */
static struct blockdev_options three(void)
{
    told[0] = '\0';
    notice_set_listener(listen, NULL);
    for (unsigned i = 0; i < CHILDREN; i++)
        add_child_node(i, BYTES, NULL);
    return quorum_options(CHILDREN, 2);
}

/* Behind the quorum's back. */
static void spoil(const char *file, uint64_t offset, size_t bytes, int fill)
{
    char data[4096];
    expect(bytes <= sizeof(data));
    memset(data, fill, bytes);
    int fd = open(in_dir(file), O_RDWR | O_CLOEXEC);
    expect(fd >= 0 && pwrite(fd, data, bytes, (off_t)offset) == (ssize_t)bytes);
    close(fd);
}

static bool file_has(const char *file, uint64_t offset, size_t bytes, int fill)
{
    unsigned char data[4096];
    expect(bytes <= sizeof(data));
    int fd = open(in_dir(file), O_RDONLY | O_CLOEXEC);
    expect(fd >= 0 && pread(fd, data, bytes, (off_t)offset) == (ssize_t)bytes);
    close(fd);
    for (size_t i = 0; i < bytes; i++) {
        if (data[i] != fill)
            return false;
    }
    return true;
}

static int read_at(struct handle *handle, uint64_t offset, size_t bytes)
{
    char data[8192];
    expect(bytes <= sizeof(data));
    return get_bytes(handle, offset, data, bytes);
}

NODE_TEST(what_is_written_is_in_all_children)
{
    add(three());
    struct handle *handle = open_handle("quorum", READ_WRITE);
    expect_int(put(handle, 1000, 3000, 0x11), 0);
    expect_int(handle_pwrite_zeroes(handle, range_make(2000, 100), 0), 0);
    expect_int(handle_flush(handle), 0);
    for (unsigned i = 0; i < CHILDREN; i++) {
        expect(file_has(numbered("a", i), 1000, 1000, 0x11));
        expect(file_has(numbered("a", i), 2000, 100, 0));
        expect(file_has(numbered("a", i), 2100, 1900, 0x11));
    }
    expect(reads_as(handle, 2100, 1900, 0x11));
    expect_text(heard(), "");
    handle_close(handle);
}

NODE_TEST(the_majority_is_believed_and_the_rest_is_told_of)
{
    add(three());
    struct handle *handle = open_handle("quorum", READ_WRITE);
    expect_int(put(handle, 0, 8192, 0x11), 0);
    spoil("a0", 512, 10, 0x77);
    expect(reads_as(handle, 0, 4096, 0x11));
    expect_text(heard(), "[debug0 bad read 0+4096 0]");
    expect(reads_as(handle, 4096, 4096, 0x11));
    expect_text(heard(), "");
    expect(file_has("a0", 512, 10, 0x77));
    handle_close(handle);
}

NODE_TEST(what_was_outvoted_is_written_anew_if_that_is_wanted)
{
    struct blockdev_options options = three();
    options.u.quorum.rewrite_corrupted = true;
    add(options);
    struct handle *handle = open_handle("quorum", READ_WRITE);
    expect_int(put(handle, 0, 8192, 0x11), 0);
    spoil("a2", 512, 10, 0x77);
    expect(reads_as(handle, 0, 4096, 0x11));
    expect_text(heard(), "[debug2 bad read 0+4096 0]");
    expect(file_has("a2", 0, 4096, 0x11));
    expect(reads_as(handle, 0, 4096, 0x11));
    expect_text(heard(), "");
    handle_close(handle);
}

NODE_TEST(without_a_majority_a_read_fails)
{
    add(three());
    struct handle *handle = open_handle("quorum", READ_WRITE);
    spoil("a0", 0, 512, 1);
    spoil("a1", 0, 512, 2);
    expect_int(read_at(handle, 0, 512), -EIO);
    expect_text(heard(), "[quorum failed read 0+512 0]");
    expect_int(read_at(handle, 512, 512), 0);
    handle_close(handle);
}

NODE_TEST(one_child_may_fail_but_not_two)
{
    told[0] = '\0';
    notice_set_listener(listen, NULL);
    const struct blkdebug_inject_error_options nospace = {
        .event = BLKDEBUG_EVENT_NONE, .has_errno = true, .errno_ = ENOSPC, .has_sector = true, .sector = 8
    };
    const struct blkdebug_inject_error_options all = { .event = BLKDEBUG_EVENT_NONE };
    add_child_node(0, BYTES, NULL);
    add_child_node(1, BYTES, &all);
    add_child_node(2, BYTES, &nospace);
    add(quorum_options(3, 2));
    struct handle *handle = open_handle("quorum", READ_WRITE);
    expect_int(put(handle, 0, 512, 0x11), 0);
    expect_text(heard(), "[debug1 bad write 0+512 5]");
    expect(reads_as(handle, 0, 512, 0x11));
    expect_text(heard(), "[debug1 bad read 0+512 5]");
    expect(put(handle, 4096, 512, 0x11) < 0);
    expect_text(heard(), "[debug1 bad write 4096+512 5][debug2 bad write 4096+512 28][quorum failed write 4096+512 0]");
    expect(read_at(handle, 4096, 512) < 0);
    heard();
    handle_close(handle);
}

NODE_TEST(flushes_vote_too)
{
    told[0] = '\0';
    notice_set_listener(listen, NULL);
    const struct blkdebug_inject_error_options flush = { .event = BLKDEBUG_EVENT_NONE,
                                                         .has_iotype = true,
                                                         .iotype = BLKDEBUG_IO_TYPE_FLUSH };
    add_child_node(0, BYTES, NULL);
    add_child_node(1, BYTES, &flush);
    add_child_node(2, BYTES, NULL);
    add(quorum_options(3, 2));
    struct handle *handle = open_handle("quorum", READ_WRITE);
    expect_int(put(handle, 0, 512, 1), 0);
    expect_int(handle_flush(handle), 0);
    expect_text(heard(), "[debug1 bad flush 0+0 5]");
    handle_close(handle);
}

NODE_TEST(first_in_first_out_reads_one_child_as_long_as_it_can)
{
    told[0] = '\0';
    notice_set_listener(listen, NULL);
    const struct blkdebug_inject_error_options reads = { .event = BLKDEBUG_EVENT_NONE,
                                                         .has_iotype = true,
                                                         .iotype = BLKDEBUG_IO_TYPE_READ,
                                                         .has_sector = true,
                                                         .sector = 0 };
    add_child_node(0, BYTES, &reads);
    add_child_node(1, BYTES, NULL);
    struct blockdev_options options = quorum_options(2, 1);
    options.u.quorum.read_pattern = QUORUM_READ_PATTERN_FIFO;
    add(options);
    struct handle *handle = open_handle("quorum", READ_WRITE);
    spoil("a0", 4096, 512, 3);
    spoil("a1", 0, 512, 4);
    expect(reads_as(handle, 4096, 512, 3));
    expect_text(heard(), "");
    expect(reads_as(handle, 0, 512, 4));
    expect_text(heard(), "[debug0 bad read 0+512 5]");
    handle_close(handle);
}

NODE_TEST(blkverify_names_the_place_of_a_difference)
{
    told[0] = '\0';
    notice_set_listener(listen, NULL);
    add_child_node(0, BYTES, NULL);
    add_child_node(1, BYTES, NULL);
    struct blockdev_options options = quorum_options(2, 2);
    options.u.quorum.blkverify = true;
    add(options);
    struct handle *handle = open_handle("quorum", READ_WRITE);
    expect_int(put(handle, 0, 4096, 5), 0);
    expect(reads_as(handle, 0, 4096, 5));
    spoil("a1", 4000, 1, 6);
    expect_int(read_at(handle, 1000, 3096), -EIO);
    expect_text(heard(), "[quorum: nodes 'debug0' and 'debug1' differ at offset 4000][quorum failed read 1000+3096 0]");
    handle_close(handle);
}

/* A request on another thread. */
struct request {
    struct handle *handle;
    int fill; /* of a write; -1: a read */
    int ret;
    struct co_event done;
};

static void request_entry(void *arg)
{
    struct request *request = arg;
    if (request->fill < 0)
        request->ret = read_at(request->handle, 0, 4096);
    else
        request->ret = put(request->handle, 0, 4096, request->fill);
    co_event_set(&request->done);
}

static void start(struct request *request, struct handle *handle, unsigned loop, int fill)
{
    *request = (struct request){ .handle = handle, .fill = fill };
    co_event_init(&request->done);
    co_start_on(loop_io(loop), "request", request_entry, request);
}

/* A gate keeps the write from the first child: the read that comes meanwhile sees a difference, waits for the write,
 * and reads again. */
NODE_TEST(a_write_on_its_way_is_no_difference)
{
    struct blockdev_options options = three();
    options.u.quorum.rewrite_corrupted = true;
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_GATE, .node_name = "gate", .u.gate = { .file = by_name("debug0") } });
    refs[0].u.reference = "gate";
    add(options);
    struct node *gate = node_find("gate");
    struct handle *handle = open_handle("quorum", READ_WRITE);
    struct request write;
    struct request read;
    gate_hold(gate, GATE_WRITE, 1);
    start(&write, handle, 0, 0x22);
    gate_wait_held(gate, 1);
    while (!file_has("a1", 0, 4096, 0x22) || !file_has("a2", 0, 4096, 0x22))
        co_yield ();
    start(&read, handle, 1, -1);
    while (gate_seen(gate, GATE_READ) == 0)
        co_yield ();
    gate_release(gate, GATE_WRITE, GATE_ALL);
    co_event_wait(&read.done, "test");
    co_event_wait(&write.done, "test");
    expect_text(heard(), "");
    expect_int(read.ret, 0);
    expect_int(write.ret, 0);
    expect(file_has("a0", 0, 4096, 0x22));
    handle_close(handle);
}

/* On two threads at once: whatever the order is, it is the same in all children. */
NODE_TEST(overlapping_writes_leave_the_children_alike)
{
    add(three());
    struct handle *handle = open_handle("quorum", READ_WRITE);
    for (int round = 0; round < 100; round++) {
        struct request writes[4];
        for (int i = 0; i < 4; i++)
            start(&writes[i], handle, (unsigned)i % 2, 1 + (round + i) % 255);
        expect_int(read_at(handle, 0, 4096), 0);
        for (int i = 0; i < 4; i++)
            co_event_wait(&writes[i].done, "test");
        expect_int(read_at(handle, 0, 4096), 0);
        expect_text(heard(), "");
    }
    handle_close(handle);
}

NODE_TEST(status_is_what_all_children_agree_about)
{
    struct blockdev_options options = three();
    add(options);
    struct handle *handle = open_handle("quorum", READ_WRITE);
    expect_text(map_text(handle, ASK_ALL), "0+1024z");
    expect_int(put(handle, 256 * KIB, 64 * KIB, 1), 0);
    spoil("a2", 512 * KIB, 4096, 1);
    /* One has data where the others have none: data, although it would be outvoted. */
    expect_text(map_text(handle, ASK_ALL), "0+256z 256+64d 320+192z 512+4d 516+508z");
    expect_text(map_text(handle, ASK_ZERO), "0+256z 256+64 320+192z 512+4 516+508z");
    expect_text(map_text(handle, ASK_ALLOCATED), "0+1024");
    handle_close(handle);
}

NODE_TEST(children_come_and_go)
{
    add(three());
    add_child_node(3, BYTES, NULL);
    struct node *node = node_find("quorum");
    struct handle *handle = open_handle("quorum", READ_WRITE);
    expect_success(node_add_child(node, node_find("debug3")));
    expect(node_child(node, "children.3"));
    expect_int(put(handle, 0, 512, 0x33), 0);
    expect(file_has("a3", 0, 512, 0x33));
    expect_success(node_remove_child(node, "children.0"));
    expect_success(blockdev_del("debug0"));
    expect_int(put(handle, 0, 512, 0x44), 0);
    expect(file_has("a0", 0, 512, 0x33));
    expect_success(node_remove_child(node, "children.1"));
    expect_error(node_remove_child(node, "children.2"), "cannot be lower than the vote threshold 2");
    expect_error(node_remove_child(node, "children.1"), "does not have child 'children.1'");
    expect_error(node_add_child(node, node), "would make the graph a loop");
    expect_error(node_add_child(node, node_find("debug3")), "node 'debug3' is a child of node 'quorum' already");
    expect_error(node_add_child(node_find("debug1"), node_find("disk3")), "does not support adding a child");
    expect(reads_as(handle, 0, 512, 0x44));
    handle_close(handle);
}

struct change_of_child {
    const char *add; /* name of a node; NULL: remove */
    const char *remove;
    bool success;
};

static void change_child(void *arg)
{
    struct change_of_child *change = arg;
    struct node *node = node_find("quorum");
    struct error *err =
        change->add ? node_add_child(node, node_find(change->add)) : node_remove_child(node, change->remove);
    change->success = !err;
    error_free(err);
}

static unsigned change_at_once(struct change_of_child *changes, size_t count)
{
    struct co_group group;
    unsigned successes = 0;
    co_group_init(&group);
    for (size_t i = 0; i < count; i++)
        co_group_start(&group, "change", change_child, &changes[i]);
    co_group_join(&group);
    for (size_t i = 0; i < count; i++)
        successes += changes[i].success;
    return successes;
}

/* Whatever commands do at once, no child goes twice, and the threshold holds. */
NODE_TEST(children_that_go_at_once)
{
    add(three());
    add_child_node(3, BYTES, NULL);
    struct node *node = node_find("quorum");
    struct handle *handle = open_handle("quorum", READ_WRITE);
    struct change_of_child same[] = { { .remove = "children.1" }, { .remove = "children.1" } };
    expect_int(change_at_once(same, 2), 1);
    struct change_of_child mixed[] = {
        { .remove = "children.0" }, { .remove = "children.2" }, { .add = "debug3" }, { .add = "debug3" }
    };
    change_at_once(mixed, 4);
    unsigned count = 0;
    for (struct child *child = NULL; (child = node_child_next(node, child));)
        count++;
    expect(count >= 2);
    expect_int(put(handle, 0, 4096, 0x55), 0);
    expect(reads_as(handle, 0, 4096, 0x55));
    handle_close(handle);
}

NODE_TEST(a_child_of_another_length_is_refused)
{
    struct blockdev_options options = three();
    add_child_node(3, BYTES + 512, NULL);
    options.u.quorum.children_count = 4;
    refs[3] = (struct blockdev_ref){ .kind = BLOCKDEV_REF_KIND_REFERENCE, .u.reference = "debug3" };
    add_fails(options, "children.3: node 'debug3' is 1049088 bytes long, but node 'debug0' is 1048576");
    options.u.quorum.children_count = 3;
    add(options);
    expect_error(node_add_child(node_find("quorum"), node_find("debug3")), "is 1049088 bytes long");
}

NODE_TEST(nobody_else_writes_a_child)
{
    add(three());
    struct handle *handle;
    expect_error(handle_open(node_find("debug1"), "somebody", READ_WRITE, PERM_ALL, &handle),
                 "node 'quorum' (as its 'children.1') does not share");
}

NODE_TEST(options_are_checked)
{
    struct blockdev_options options = three();
    options.u.quorum.vote_threshold = 0;
    add_fails(options, "vote-threshold: 0 is not at least 1");
    options.u.quorum.vote_threshold = 4;
    add_fails(options, "vote-threshold: 4 may not exceed the number of children, 3");
    options.u.quorum.vote_threshold = 2;
    options.u.quorum.blkverify = true;
    add_fails(options, "blkverify: true needs exactly two children");
    options.u.quorum.children_count = 2;
    options.u.quorum.rewrite_corrupted = true;
    add_fails(options, "rewrite-corrupted: true cannot be used with blkverify");
    options.u.quorum.children_count = 0;
    add_fails(options, "children: 0 children, between 1 and 64 are allowed");
}

NODE_TEST(it_is_resized_with_its_children)
{
    add(three());
    struct handle *handle = open_handle("quorum", READ_WRITE_RESIZE);
    expect_int(handle_resize(handle, 2 * MIB, TRUNCATE_SPARSE), 0);
    expect_int(node_length(node_find("quorum")), 2 * MIB);
    expect_int(node_length(node_find("disk2")), 2 * MIB);
    expect(reads_as(handle, MIB, 4096, 0));
    handle_close(handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_in_all_children),
        cmocka_unit_test(the_majority_is_believed_and_the_rest_is_told_of),
        cmocka_unit_test(what_was_outvoted_is_written_anew_if_that_is_wanted),
        cmocka_unit_test(without_a_majority_a_read_fails),
        cmocka_unit_test(one_child_may_fail_but_not_two),
        cmocka_unit_test(flushes_vote_too),
        cmocka_unit_test(first_in_first_out_reads_one_child_as_long_as_it_can),
        cmocka_unit_test(blkverify_names_the_place_of_a_difference),
        cmocka_unit_test(a_write_on_its_way_is_no_difference),
        cmocka_unit_test(overlapping_writes_leave_the_children_alike),
        cmocka_unit_test(status_is_what_all_children_agree_about),
        cmocka_unit_test(children_come_and_go),
        cmocka_unit_test(children_that_go_at_once),
        cmocka_unit_test(a_child_of_another_length_is_refused),
        cmocka_unit_test(nobody_else_writes_a_child),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(it_is_resized_with_its_children),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
