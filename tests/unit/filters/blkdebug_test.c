/* The filter 'blkdebug': requests fail where rules say so. */
#include "tests/unit/drivers/nodes.h"

static struct blockdev_options blkdebug_options(const struct blkdebug_inject_error_options *errors, size_t errors_count,
                                                const struct blkdebug_set_state_options *states, size_t states_count)
{
    return (struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_BLKDEBUG,
        .node_name = "debug",
        .u.blkdebug = {
            .image = by_name("disk"),
            .has_inject_error = errors_count > 0,
            .inject_error = errors,
            .inject_error_count = errors_count,
            .has_set_state = states_count > 0,
            .set_state = states,
            .set_state_count = states_count,
        },
    };
}

static struct handle *open_with(struct blockdev_options options)
{
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    add(with_discard(options));
    return open_handle("debug", READ_WRITE);
}

static struct handle *open_with_error(struct blkdebug_inject_error_options error)
{
    return open_with(blkdebug_options(&error, 1, NULL, 0));
}

static int read_at(struct handle *handle, uint64_t offset)
{
    char data[512];
    return get_bytes(handle, offset, data, sizeof(data));
}

static void event(const char *name)
{
    struct node *node = node_find("debug");
    node_driver(node)->debug_event(node, name);
}

NODE_TEST(without_rules_everything_passes)
{
    struct handle *handle = open_with(blkdebug_options(NULL, 0, NULL, 0));
    expect_int(put(handle, 1000, 100, 0x11), 0);
    expect(reads_as(handle, 1000, 100, 0x11));
    expect_int(handle_pwrite_zeroes(handle, range_make(1000, 50), 0), 0);
    expect_int(handle_pdiscard(handle, range_make(0, 512)), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(node_length(node_find("debug")), MIB);
    handle_close(handle);
}

NODE_TEST(a_rule_for_no_event_is_active_from_the_start)
{
    struct handle *handle = open_with_error((struct blkdebug_inject_error_options){ .event = BLKDEBUG_EVENT_NONE });
    expect_int(read_at(handle, 0), -EIO);
    expect_int(put(handle, 0, 512, 1), -EIO);
    expect_int(handle_pwrite_zeroes(handle, range_make(0, 512), 0), -EIO);
    expect_int(handle_pdiscard(handle, range_make(0, 512)), -EIO);
    expect_int(handle_flush(handle), -EIO);
    /* Questions are not requests, unless the rule says so. */
    expect_text(map_text(handle, ASK_ZERO), "0+1024z");
    handle_close(handle);
}

NODE_TEST(a_rule_hits_the_kind_the_sector_and_the_number_of_times_it_names)
{
    struct handle *handle = open_with_error((struct blkdebug_inject_error_options){
        .event = BLKDEBUG_EVENT_NONE,
        .has_iotype = true,
        .iotype = BLKDEBUG_IO_TYPE_READ,
        .has_errno = true,
        .errno_ = ENOSPC,
        .has_sector = true,
        .sector = 3,
        .has_once = true,
        .once = true,
        .has_immediately = true,
        .immediately = true,
    });
    expect_int(put(handle, 3 * 512, 512, 1), 0);
    expect_int(read_at(handle, 2 * 512), 0);
    expect_int(read_at(handle, 4 * 512), 0);
    expect_int(read_at(handle, 3 * 512 - 1), -ENOSPC);
    expect_int(read_at(handle, 3 * 512), 0);
    handle_close(handle);
}

NODE_TEST(block_status_fails_when_a_rule_names_it)
{
    struct handle *handle = open_with_error((struct blkdebug_inject_error_options){
        .event = BLKDEBUG_EVENT_NONE,
        .has_iotype = true,
        .iotype = BLKDEBUG_IO_TYPE_BLOCK_STATUS,
    });
    struct extents extents;
    extents_init(&extents, 10);
    expect_int(handle_block_status(handle, range_make(0, 512), ASK_ALL, NULL, false, &extents), -EIO);
    expect_int(extents.count, 0);
    extents_fini(&extents);
    expect_int(read_at(handle, 0), 0);
    handle_close(handle);
}

NODE_TEST(a_rule_waits_for_its_event_and_goes_with_the_next)
{
    const struct blkdebug_inject_error_options errors[] = {
        { .event = BLKDEBUG_EVENT_L2_UPDATE, .has_errno = true, .errno_ = ENOSPC },
        { .event = BLKDEBUG_EVENT_FLUSH_TO_DISK, .has_iotype = true, .iotype = BLKDEBUG_IO_TYPE_FLUSH },
    };
    struct handle *handle = open_with(blkdebug_options(errors, 2, NULL, 0));
    expect_int(read_at(handle, 0), 0);
    event("l2_update");
    expect_int(read_at(handle, 0), -ENOSPC);
    event("l2_load"); /* of no interest to any rule */
    expect_int(read_at(handle, 0), -ENOSPC);
    event("flush_to_disk");
    expect_int(read_at(handle, 0), 0);
    expect_int(handle_flush(handle), -EIO);
    handle_close(handle);
}

NODE_TEST(states_order_the_rules)
{
    /* The second L2 update fails, and those after it do not. */
    const struct blkdebug_inject_error_options error = { .event = BLKDEBUG_EVENT_L2_UPDATE,
                                                         .has_state = true,
                                                         .state = 2 };
    const struct blkdebug_set_state_options states[] = {
        { .event = BLKDEBUG_EVENT_L2_UPDATE, .has_state = true, .state = 1, .new_state = 2 },
        { .event = BLKDEBUG_EVENT_L2_UPDATE, .has_state = true, .state = 2, .new_state = 3 },
        { .event = BLKDEBUG_EVENT_CLUSTER_FREE, .new_state = 2 },
    };
    struct blkdebug_inject_error_options off = { .event = BLKDEBUG_EVENT_NONE, .has_errno = true, .errno_ = 0 };
    const struct blkdebug_inject_error_options errors[] = { error, off };
    struct handle *handle = open_with(blkdebug_options(errors, 2, states, 3));
    event("l2_update");
    expect_int(read_at(handle, 0), 0);
    event("l2_update");
    expect_int(read_at(handle, 0), -EIO);
    event("none");
    expect_int(read_at(handle, 0), 0);
    event("l2_update");
    expect_int(read_at(handle, 0), 0);
    event("cluster_free");
    event("l2_update");
    expect_int(read_at(handle, 0), -EIO);
    handle_close(handle);
}

NODE_TEST(events_reach_it_from_the_format_above)
{
    const struct blkdebug_inject_error_options error = { .event = BLKDEBUG_EVENT_WRITE_AIO,
                                                         .has_iotype = true,
                                                         .iotype = BLKDEBUG_IO_TYPE_WRITE };
    struct handle *debug = open_with(blkdebug_options(&error, 1, NULL, 0));
    struct blockdev_options raw = { .driver = BLOCKDEV_DRIVER_RAW,
                                    .node_name = "raw",
                                    .u.raw = { .file = by_name("debug") } };
    add(raw);
    struct handle *handle = open_handle("raw", READ_WRITE);
    expect_int(put(debug, 0, 512, 1), 0);
    expect_int(put(handle, 0, 512, 1), -EIO);
    expect_int(read_at(handle, 0), 0);
    handle_close(handle);
    handle_close(debug);
}

NODE_TEST(limits_are_pretended)
{
    struct blockdev_options options = blkdebug_options(NULL, 0, NULL, 0);
    struct blockdev_options_blkdebug *own = &options.u.blkdebug;
    own->has_align = true;
    own->align = 4096;
    own->has_max_transfer = true;
    own->max_transfer = 8192;
    own->has_opt_write_zero = true;
    own->opt_write_zero = 65536;
    own->has_opt_discard = true;
    own->opt_discard = 65536;
    struct handle *handle = open_with(options);
    const struct node_limits *limits = node_limits(node_find("debug"));
    expect_int(limits->request_alignment, 4096);
    expect_int(limits->max_transfer, 8192);
    expect_int(limits->zero_granularity, 65536);
    expect_int(limits->discard_granularity, 65536);
    expect_int(put(handle, 100, 100000, 0x11), 0);
    expect(reads_as(handle, 100, 100000, 0x11));
    expect(reads_as(handle, 0, 100, 0));
    expect_int(handle_pwrite_zeroes(handle, range_make(1000, 90000), 0), 0);
    expect(reads_as(handle, 100, 900, 0x11));
    expect(reads_as(handle, 1000, 90000, 0));
    expect(reads_as(handle, 91000, 9100, 0x11));
    handle_close(handle);
}

NODE_TEST(pretended_alignment_does_not_make_the_node_below_longer)
{
    make_file("odd.img", 10001);
    add(file_options("disk", in_dir("odd.img")));
    struct blockdev_options options = blkdebug_options(NULL, 0, NULL, 0);
    options.u.blkdebug.has_align = true;
    options.u.blkdebug.align = 4096;
    add(options);
    struct handle *handle = open_handle("debug", READ_WRITE);
    expect_int(put(handle, 9990, 11, 0x11), 0);
    expect(reads_as(handle, 9990, 11, 0x11));
    expect_int(node_length(node_find("disk")), 10001);
    handle_close(handle);
}

NODE_TEST(permissions_can_be_taken_and_refused_to_others)
{
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    static const enum block_permission unshare[] = { BLOCK_PERMISSION_WRITE, BLOCK_PERMISSION_RESIZE };
    struct blockdev_options options = blkdebug_options(NULL, 0, NULL, 0);
    options.u.blkdebug.has_unshare_child_perms = true;
    options.u.blkdebug.unshare_child_perms = unshare;
    options.u.blkdebug.unshare_child_perms_count = 2;
    add(options);
    struct handle *handle;
    expect_error(handle_open(node_find("disk"), "the test", READ_WRITE, PERM_ALL, &handle), "node 'debug'");
    expect_success(handle_open(node_find("disk"), "the test", READ, PERM_ALL, &handle));
    handle_close(handle);
    expect_success(blockdev_del("debug"));

    static const enum block_permission take[] = { BLOCK_PERMISSION_WRITE };
    options = blkdebug_options(NULL, 0, NULL, 0);
    options.u.blkdebug.has_take_child_perms = true;
    options.u.blkdebug.take_child_perms = take;
    options.u.blkdebug.take_child_perms_count = 1;
    add(options);
    expect_error(handle_open(node_find("disk"), "the test", READ, READ, &handle), "node 'debug'");
}

NODE_TEST(force_share_goes_over_what_the_rules_refuse_to_others)
{
    add(null_options("disk", MIB));
    struct handle *writer = open_handle("disk", READ_WRITE_RESIZE);
    static const enum block_permission unshare[] = { BLOCK_PERMISSION_WRITE, BLOCK_PERMISSION_RESIZE };
    struct blockdev_options options = blkdebug_options(NULL, 0, NULL, 0);
    options.u.blkdebug.has_unshare_child_perms = true;
    options.u.blkdebug.unshare_child_perms = unshare;
    options.u.blkdebug.unshare_child_perms_count = 2;
    options.has_read_only = options.read_only = true;
    add_fails(options, "does not share permission 'write' on node 'disk'");
    options.has_force_share = options.force_share = true;
    add(options);
    handle_close(writer);
}

NODE_TEST(rules_and_limits_that_make_no_sense_are_refused)
{
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    struct blockdev_options options = blkdebug_options(NULL, 0, NULL, 0);
    options.u.blkdebug.has_align = true;
    options.u.blkdebug.align = 1000;
    add_fails(options, "align: 1000 is not a power of two");
    options.u.blkdebug.align = 4096;
    options.u.blkdebug.has_max_transfer = true;
    options.u.blkdebug.max_transfer = 512;
    add_fails(options, "max-transfer: 512 is not a positive multiple of 4096");
    options.u.blkdebug.max_transfer = INT32_MIN;
    add_fails(options, "max-transfer: -2147483648");
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    expect(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

NODE_TEST(rules_of_a_file_come_before_the_others)
{
    static const struct blkdebug_inject_error_options later = { .event = BLKDEBUG_EVENT_WRITE_AIO,
                                                                .has_errno = true,
                                                                .errno_ = EPERM };
    write_text(in_dir("rules"), "[set-state]\nevent = \"write_aio\"\nstate = \"1\"\nnew_state = \"2\"\n"
                                "[inject-error]\nevent = \"write_aio\"\nstate = \"2\"\nerrno = \"28\"\n");
    struct blockdev_options options = blkdebug_options(&later, 1, NULL, 0);
    options.u.blkdebug.config = in_dir("rules");
    struct handle *handle = open_with(options);
    event("write_aio");
    expect_int(put(handle, 0, 512, 1), -EPERM);
    event("write_aio");
    expect_int(put(handle, 0, 512, 1), -ENOSPC);
    handle_close(handle);
}

NODE_TEST(mistakes_of_a_file_name_it)
{
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    struct blockdev_options options = blkdebug_options(NULL, 0, NULL, 0);
    options.u.blkdebug.config = in_dir("nothing");
    add_fails(options, "config: cannot read '");
    write_text(in_dir("rules"), "[inject-error]\nevent = \"x\"\n");
    options = blkdebug_options(NULL, 0, NULL, 0);
    options.u.blkdebug.config = in_dir("rules");
    add_fails(options, "/rules': line 2: event: Invalid event name \"x\"");
}

/* What io/ does with requests that do not fit is told, too. */
NODE_TEST(each_step_of_an_unaligned_write_is_an_event)
{
    static const enum blkdebug_event steps[] = { BLKDEBUG_EVENT_PWRITEV_RMW_HEAD, BLKDEBUG_EVENT_PWRITEV_RMW_AFTER_HEAD,
                                                 BLKDEBUG_EVENT_PWRITEV_RMW_TAIL, BLKDEBUG_EVENT_PWRITEV_RMW_AFTER_TAIL,
                                                 BLKDEBUG_EVENT_PWRITEV };
    static const enum blkdebug_io_type hits[] = { BLKDEBUG_IO_TYPE_READ, BLKDEBUG_IO_TYPE_READ, BLKDEBUG_IO_TYPE_READ,
                                                  BLKDEBUG_IO_TYPE_WRITE, BLKDEBUG_IO_TYPE_WRITE };
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        const struct blkdebug_inject_error_options error = {
            .event = steps[i], .has_iotype = true, .iotype = hits[i], .has_once = true, .once = true
        };
        struct blockdev_options options = blkdebug_options(&error, 1, NULL, 0);
        options.u.blkdebug.has_align = true;
        options.u.blkdebug.align = 4096;
        add(options);
        struct handle *handle = open_handle("debug", READ_WRITE);
        expect_int(put(handle, 100, 5000, 1), -EIO);
        expect_int(put(handle, 100, 5000, 1), 0);
        expect(reads_as(handle, 100, 5000, 1) && reads_as(handle, 0, 100, 0) && reads_as(handle, 5100, 100, 0));
        handle_close(handle);
        expect_success(blockdev_del("debug"));
    }
}

NODE_TEST(zeroes_and_flushes_are_events)
{
    static const struct blkdebug_inject_error_options errors[] = {
        { .event = BLKDEBUG_EVENT_PWRITEV_ZERO, .has_errno = true, .errno_ = ENOSPC, .has_once = true, .once = true },
        { .event = BLKDEBUG_EVENT_FLUSH_TO_DISK, .has_errno = true, .errno_ = EPERM, .has_once = true, .once = true },
    };
    struct handle *handle = open_with(blkdebug_options(errors, 2, NULL, 0));
    expect_int(handle_pwrite_zeroes(handle, range_make(0, 4096), 0), -ENOSPC);
    expect_int(handle_flush(handle), -EPERM);
    expect_int(handle_flush(handle), 0);
    handle_close(handle);
}

NODE_TEST(zeroes_of_less_than_the_preferred_size_are_written_as_data)
{
    static const struct blkdebug_inject_error_options error = { .event = BLKDEBUG_EVENT_NONE,
                                                                .has_iotype = true,
                                                                .iotype = BLKDEBUG_IO_TYPE_WRITE };
    struct blockdev_options options = blkdebug_options(&error, 1, NULL, 0);
    options.u.blkdebug.has_opt_write_zero = true;
    options.u.blkdebug.opt_write_zero = 65536;
    struct handle *handle = open_with(options);
    expect_int(handle_pwrite_zeroes(handle, range_make(65536, 65536), 0), 0);
    expect_int(handle_pwrite_zeroes(handle, range_make(65536, 4096), 0), -EIO);
    expect_int(handle_pwrite_zeroes(handle, range_make(65536, 4096), REQ_NO_FALLBACK), -ENOTSUP);
    handle_close(handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_rules_everything_passes),
        cmocka_unit_test(a_rule_for_no_event_is_active_from_the_start),
        cmocka_unit_test(a_rule_hits_the_kind_the_sector_and_the_number_of_times_it_names),
        cmocka_unit_test(block_status_fails_when_a_rule_names_it),
        cmocka_unit_test(a_rule_waits_for_its_event_and_goes_with_the_next),
        cmocka_unit_test(states_order_the_rules),
        cmocka_unit_test(events_reach_it_from_the_format_above),
        cmocka_unit_test(limits_are_pretended),
        cmocka_unit_test(pretended_alignment_does_not_make_the_node_below_longer),
        cmocka_unit_test(permissions_can_be_taken_and_refused_to_others),
        cmocka_unit_test(force_share_goes_over_what_the_rules_refuse_to_others),
        cmocka_unit_test(rules_and_limits_that_make_no_sense_are_refused),
        cmocka_unit_test(rules_of_a_file_come_before_the_others),
        cmocka_unit_test(mistakes_of_a_file_name_it),
        cmocka_unit_test(each_step_of_an_unaligned_write_is_an_event),
        cmocka_unit_test(zeroes_and_flushes_are_events),
        cmocka_unit_test(zeroes_of_less_than_the_preferred_size_are_written_as_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
