/* Our own interface: what people will really type, and what they are told. */
#include "schema/cairn_descriptors.h"
#include "schema/cairn_introspect.h"
#include "schema/cairn_types.h"

#include "tests/unit/schema/codec.h"

static void a_nested_node_decodes(void **state)
{
    (void)state;
    const struct blockdev_options *o =
        decoded(&blockdev_options_descriptor, DECODE_JSON,
                "{\"driver\": \"qcow2\", \"node-name\": \"a\", \"cache\": {\"direct\": true}, \"backing\": null,"
                " \"overlap-check\": \"all\", \"discard\": \"unmap\", \"l2-cache-size\": 1048576,"
                " \"file\": {\"driver\": \"file\", \"filename\": \"/srv/a.qcow2\", \"aio\": \"io_uring\"}}");
    assert_int_equal(o->driver, BLOCKDEV_DRIVER_QCOW2);
    assert_string_equal(o->node_name, "a");
    assert_true(o->cache->direct && !o->cache->has_no_flush);
    assert_int_equal(o->u.qcow2.backing->kind, BLOCKDEV_REF_OR_NULL_KIND_NULL);
    assert_int_equal(o->u.qcow2.overlap_check->kind, QCOW2_OVERLAP_CHECKS_KIND_MODE);
    assert_int_equal(o->u.qcow2.file->kind, BLOCKDEV_REF_KIND_DEFINITION);
    const struct blockdev_options *file = o->u.qcow2.file->u.definition;
    assert_string_equal(file->u.file.filename, "/srv/a.qcow2");
    assert_int_equal(file->u.file.aio, BLOCKDEV_AIO_OPTIONS_IO_URING);
}

static void the_same_from_the_command_line(void **state)
{
    (void)state;
    const struct blockdev_options *o =
        decoded(&blockdev_options_descriptor, DECODE_TEXT,
                "{\"driver\": \"qcow2\", \"node-name\": \"a\", \"cache\": {\"direct\": \"on\"}, \"backing\": \"\","
                " \"file\": \"b\", \"lazy-refcounts\": \"off\"}");
    assert_int_equal(o->u.qcow2.backing->kind, BLOCKDEV_REF_OR_NULL_KIND_REFERENCE);
    assert_string_equal(o->u.qcow2.file->u.reference, "b");
    assert_true(o->u.qcow2.has_lazy_refcounts && !o->u.qcow2.lazy_refcounts);
}

static void mistakes_are_explained(void **state)
{
    (void)state;
    const struct type_descriptor *options = &blockdev_options_descriptor;
    expect_refused(options, DECODE_JSON, "{\"driver\": \"qcow2\", \"file\": {\"driver\": \"file\", \"filename\": 5}}",
                   "arguments.file.filename: expected string, got integer");
    expect_refused(options, DECODE_JSON, "{\"driver\": \"fil\"}",
                   "arguments.driver: 'fil' is not a BlockdevDriver (did you mean 'file'?)");
    expect_refused(options, DECODE_JSON, "{\"driver\": \"file\", \"file-name\": \"x\"}",
                   "arguments.file-name: unknown member (did you mean 'filename'?)");
    expect_refused(options, DECODE_JSON, "{\"driver\": \"raw\"}", "arguments.file: missing");
    expect_refused(options, DECODE_JSON, "{\"driver\": \"raw\", \"file\": null}",
                   "arguments.file: expected object or string, got null");
    expect_refused(options, DECODE_JSON, "{\"driver\": \"null-co\", \"latency-ns\": -1}",
                   "arguments.latency-ns: -1 is out of range (0 to 18446744073709551615)");
    expect_refused(options, DECODE_TEXT, "{\"driver\": \"null-co\", \"size\": \"1M\"}",
                   "arguments.size: '1M' is not an integer");
    expect_refused(&nbd_server_start_arguments_descriptor, DECODE_JSON,
                   "{\"addr\": {\"type\": \"inet\", \"data\": {\"host\": \"a\", \"port\": 10809}}}",
                   "arguments.addr.data.port: expected string, got integer");
}

static void a_list_of_many_nodes_is_only_its_text(void **state)
{
    (void)state;
    enum { NODES = 10000 };
    struct image_info image = { .filename = "json:{\"driver\": \"null-co\"}", .format = "null-co" };
    struct blockdev_cache_info cache = { .writeback = true };
    struct block_device_info *nodes = arena_array(&codec_arena, NODES, sizeof(*nodes));
    for (int i = 0; i < NODES; i++)
        nodes[i] = (struct block_device_info){
            .file = image.filename, .node_name = "n", .drv = "null-co", .image = &image, .cache = &cache
        };
    struct descriptor_list list = { .items = nodes, .count = NODES };
    CLEANUP(text_fini) struct text text = { 0 };
    assert_null(encode_value(&text, &block_device_info_list_descriptor, &list, 0, 0));
    json_t *json = json_loadb(text.data, text.length, 0, NULL);
    assert_int_equal(json_array_size(json), NODES);
    json_decref(json);
}

static void introspection_describes_itself(void **state)
{
    (void)state;
    json_t *json = json_loadb(cairn_introspect_text, cairn_introspect_length, 0, NULL);
    size_t i, commands = 0;
    json_t *element;
    void *value;
    assert_true(json_is_array(json));
    json_array_foreach(json, i, element)
    {
        CLEANUP(error_free)
        struct error *err = decode_value(&schema_info_descriptor, element, DECODE_JSON, "", &codec_arena, &value, NULL);
        if (err)
            fail_msg("%zu: %s", i, error_message(err));
        const struct schema_info *info = value;
        commands += info->meta_type == SCHEMA_META_TYPE_COMMAND;
    }
    assert_true(commands >= 20);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nested_node_decodes),          cmocka_unit_test(the_same_from_the_command_line),
        cmocka_unit_test(mistakes_are_explained),         cmocka_unit_test(a_list_of_many_nodes_is_only_its_text),
        cmocka_unit_test(introspection_describes_itself),
    };
    return cmocka_run_group_tests(tests, codec_set_up, codec_tear_down);
}
