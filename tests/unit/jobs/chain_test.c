/* Chains as jobs see them (chain.c), and the life of the jobs that work inside of one (chain_copy.c).
 *
 *     l2 --> f1 (gate) --> l1 --> f0 (gate) --> l0       images l2.qcow2 ... l0.qcow2; each has a MiB of its own
 *                                               '--file--> storage (gate) --> l0.qcow2 */
#include "tests/unit/qcow2/images.h"

#include "blockcore/base/memory.h"
#include "blockcore/filters/gate.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/inner.h"
#include "blockcore/jobs/commit.h"
#include "blockcore/jobs/stream.h"

#define DISK (4 * MIB)

static void add_gate(const char *name, const char *file)
{
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_GATE, .node_name = name, .u.gate = { .file = by_name(file) } });
}

static void add_layer(const char *name, const char *image, const char *storage, const char *backing, bool read_only)
{
    struct blockdev_ref_or_null ref = { .kind = BLOCKDEV_REF_OR_NULL_KIND_NULL };
    struct blockdev_options options = image_options(name, in_dir(image));
    if (storage)
        options.u.qcow2.file = by_name(storage);
    if (backing)
        ref = (struct blockdev_ref_or_null){ .kind = BLOCKDEV_REF_OR_NULL_KIND_REFERENCE, .u.reference = backing };
    options.u.qcow2.backing = &ref;
    options.has_read_only = read_only;
    options.read_only = read_only;
    add(options);
}

static void fill(const char *node, int number)
{
    struct handle *handle = open_handle(node, READ_WRITE);
    expect_int(put(handle, (uint64_t)number * MIB, MIB, number + 1), 0);
    handle_close(handle);
}

static void make_chain(void)
{
    qemu_img("create -q -f qcow2 '%s' %d", in_dir("l0.qcow2"), DISK);
    qemu_img("create -q -f qcow2 -b l0.qcow2 -F qcow2 '%s'", in_dir("l1.qcow2"));
    qemu_img("create -q -f qcow2 -b l1.qcow2 -F qcow2 '%s'", in_dir("l2.qcow2"));
    add(file_options("l0-file", in_dir("l0.qcow2")));
    add_gate("storage", "l0-file");
    add_layer("l0", "l0.qcow2", "storage", NULL, false);
    fill("l0", 0);
    add_gate("f0", "l0");
    add_layer("l1", "l1.qcow2", NULL, "f0", false);
    fill("l1", 1);
    add_gate("f1", "l1");
    add_layer("l2", "l2.qcow2", NULL, "f1", false);
    fill("l2", 2);
}

static void expect_layers(const char *node)
{
    struct handle *handle = open_handle(node, READ);
    for (unsigned number = 0; number < 4; number++)
        expect(reads_as(handle, (uint64_t)number * MIB, MIB, number < 3 ? (int)number + 1 : 0));
    handle_close(handle);
}

/* chain.c -------------------------------------------------------------------------------------------------------- */

NODE_TEST(filters_are_no_layers)
{
    make_chain();
    expect(layer_of(node_find("f1")) == node_find("l1"));
    expect(layer_of(node_find("l1")) == node_find("l1"));
    expect(chain_find_overlay(node_find("l2"), node_find("l0")) == node_find("l1"));
    expect(chain_find_overlay(node_find("l1"), node_find("l2")) == NULL);
}

NODE_TEST(layers_are_found_by_their_names)
{
    make_chain();
    expect(chain_find_file(node_find("l2"), in_dir("l1.qcow2")) == node_find("l1"));
    expect(chain_find_file(node_find("l2"), "l0.qcow2") == node_find("l0")); /* as its overlay calls it */
    expect(chain_find_file(node_find("l1"), in_dir("l2.qcow2")) == NULL);
    expect(chain_find_file(node_find("l2"), "nosuch") == NULL);
}

NODE_TEST(the_layers_of_a_job_are_those_above_its_base_with_their_filters)
{
    make_chain();
    static const char *const expected[] = { "l2", "f1", "l1" };
    struct chain_copy_nodes *nodes = xcalloc(1, sizeof(*nodes));
    expect_success(chain_nodes_add_above(nodes, node_find("l2"), node_find("l0")));
    expect_int(nodes->layers_count, ARRAY_SIZE(expected));
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
        expect(nodes->layers[i] == node_find(expected[i]));
    chain_nodes_let_go(nodes);
    expect_error(chain_nodes_add_above(nodes, node_find("l1"), node_find("l2")), "'l2' is not in this backing file");
    chain_nodes_let_go(nodes);
    free(nodes);
}

NODE_TEST(frozen_edges_stay_until_they_thaw)
{
    make_chain();
    struct chain_copy_nodes *nodes = xcalloc(1, sizeof(*nodes));
    struct child *backing = node_backing(node_find("l2"));
    chain_nodes_freeze(nodes, node_find("l2"), node_find("l0"), "block job 'j'");
    expect_int(nodes->frozen_count, 4);
    struct change *change = change_begin();
    expect_error(change_edge(change, backing, node_find("l0")),
                 "Cannot change frozen 'backing' link from 'l2' to 'f1', which block job 'j' needs");
    expect_error(change_remove(change, backing), "Cannot change frozen 'backing' link");
    expect_success(change_edge(change, backing, node_find("f1"))); /* where it leads anyway */
    change_abort(change);
    chain_nodes_thaw(nodes);
    change = change_begin();
    expect_success(change_remove(change, backing));
    change_abort(change);
    free(nodes);
}

NODE_TEST(a_header_names_files_and_nothing_else)
{
    make_chain();
    qemu_img("create -q -f qcow2 '%s' %d", in_dir("other.qcow2"), DISK);
    add_layer("other", "other.qcow2", NULL, NULL, false);
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_RAW, .node_name = "raw", .u.raw = { .file = by_name("other") } });
    make_file("disk.img", DISK);
    add(file_options("disk", in_dir("disk.img")));
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_RAW,
        .node_name = "window",
        .u.raw = { .file = by_name("disk"), .has_offset = true, .offset = MIB },
    });
    expect_success(chain_check_name(node_find("l0"))); /* a filter is below it */
    expect_success(chain_check_name(node_find("disk")));
    expect_error(chain_check_name(node_find("raw")), "node 'raw' is more than a file and its format");
    expect_error(chain_check_name(node_find("window")), "node 'window' is more than a file and its format");
    expect_error(chain_write_backing(node_find("l2"), node_find("raw"), NULL, false), "'backing-file' has to say");
    expect_success(chain_write_backing(node_find("l2"), node_find("raw"), "l0.qcow2", false));
    expect_error(chain_write_backing(node_find("raw"), node_find("l0"), NULL, false),
                 "does not support a backing file");
}

/* chain_copy.c --------------------------------------------------------------------------------------------------- */

static struct job *start_commit(void)
{
    const struct commit_options options = {
        .copy = { .id = "j", .flags = JOB_MANUAL_DISMISS },
        .top = node_find("l1"),
        .base = node_find("l0"),
    };
    expect_success(commit_job_start(&options));
    return job_find("j");
}

static struct job *start_stream(void)
{
    const struct stream_options options = {
        .copy = { .id = "j", .flags = JOB_MANUAL_DISMISS },
        .device = node_find("l2"),
    };
    expect_success(stream_job_start(&options));
    return job_find("j");
}

static void expect_end(struct job *job, const char *message)
{
    while (job_get_status(job) != JOB_STATUS_CONCLUDED)
        co_yield ();
    const struct error *err = job_error(job);
    expect_text(err ? error_message(err) : "none", message);
    expect_success(job_dismiss(job));
}

NODE_TEST(a_commit_leaves_its_overlay_on_the_base)
{
    make_chain();
    struct job *job = start_commit();
    expect_end(job, "none");
    expect(layer_of(child_node(node_backing(node_find("l2")))) == node_find("l0"));
    expect_layers("l2");
}

NODE_TEST(a_stream_leaves_its_overlay_alone)
{
    make_chain();
    expect_end(start_stream(), "none");
    expect(!node_backing(node_find("l2")));
    expect_layers("l2");
}

NODE_TEST(jobs_that_hang_are_cancelled_and_free_their_nodes_later)
{
    make_chain();
    for (int kind = 0; kind < 2; kind++) {
        unsigned held = kind == 0 ? GATE_WRITE : GATE_READ;
        gate_hold(node_find("storage"), held, GATE_ALL);
        struct job *job = kind == 0 ? start_commit() : start_stream();
        while (gate_held(node_find("storage"), held) == 0)
            co_yield ();
        expect_success(job_cancel(job, true));
        expect_end(job, "the job was cancelled");
        expect(node_inner_user(node_find("l1"))); /* still */
        expect_text(node_name(child_node(node_backing(node_find("l2")))), "f1");
        gate_release(node_find("storage"), GATE_ANY, GATE_ALL);
        while (node_inner_user(node_find("l1")))
            co_yield ();
        expect_layers("l2");
    }
    expect_end(start_stream(), "none");
    expect_layers("l2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters_are_no_layers),
        cmocka_unit_test(layers_are_found_by_their_names),
        cmocka_unit_test(the_layers_of_a_job_are_those_above_its_base_with_their_filters),
        cmocka_unit_test(frozen_edges_stay_until_they_thaw),
        cmocka_unit_test(a_header_names_files_and_nothing_else),
        cmocka_unit_test(a_commit_leaves_its_overlay_on_the_base),
        cmocka_unit_test(a_stream_leaves_its_overlay_alone),
        cmocka_unit_test(jobs_that_hang_are_cancelled_and_free_their_nodes_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
