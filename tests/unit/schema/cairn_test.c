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
    expect_refused(
        &nbd_server_start_arguments_descriptor, DECODE_JSON,
        "{\"addr\": {\"type\": \"inet\", \"data\": {\"host\": \"a\", \"port\": \"1\", \"keep-alivee\": true}}}",
        "arguments.addr.data.keep-alivee: unknown member (did you mean 'keep-alive'?)");
}

static void refuses(const struct type_descriptor *type, const char *json, const char *words)
{
    void *value = NULL;
    CLEANUP(error_free) struct error *err = try_decode(type, json, DECODE_JSON, &value);
    if (!err)
        fail_msg("%s was taken", json);
    if (!strstr(error_message(err), words))
        fail_msg("%s: %s, expected: %s", json, error_message(err), words);
}

/* What no handler has to look at. */
static void limits_are_the_schemas(void **state)
{
    static const struct {
        const struct type_descriptor *type;
        const char *json, *message;
    } cases[] = {
        { &blockdev_options_descriptor, "{'driver': 'null-co', 'node-name': '1a'}",
          "arguments.node-name: '1a' does not match the pattern '[A-Za-z][A-Za-z0-9._-]*'" },
        { &blockdev_options_descriptor, "{'driver': 'null-co', 'node-name': '#block001'}", "arguments.node-name: " },
        { &blockdev_options_descriptor, "{'driver': 'null-co', 'node-name': ''}", "arguments.node-name: " },
        { &blockdev_options_descriptor, "{'driver': 'null-co', 'node-name': 'a b'}", "arguments.node-name: " },
        { &blockdev_options_descriptor, "{'driver': 'null-co', 'size': -1}",
          "arguments.size: -1 is below the minimum 0" },
        { &blockdev_options_descriptor, "{'driver': 'null-co', 'size': 9223372036854775807}",
          "arguments.size: 9223372036854775807 is above the maximum 9223372036852678656" },
        { &blockdev_options_descriptor, "{'driver': 'raw', 'file': 'a', 'offset': -1}",
          "arguments.offset: -1 is below" },
        { &blockdev_options_descriptor, "{'driver': 'raw', 'file': 'a', 'size': -1}", "arguments.size: -1 is below" },
        { &blockdev_options_descriptor, "{'driver': 'file', 'filename': ''}",
          "arguments.filename: '' is shorter than 1 byte" },
        { &blockdev_options_descriptor, "{'driver': 'qcow2', 'file': 'a', 'l2-cache-size': 100}",
          "arguments.l2-cache-size: 100 is below the minimum 65536" },
        { &blockdev_options_descriptor, "{'driver': 'qcow2', 'file': 'a', 'l2-cache-entry-size': 513}",
          "arguments.l2-cache-entry-size: 513 is not a multiple of 512" },
        { &blockdev_options_descriptor, "{'driver': 'qcow2', 'file': 'a', 'cache-clean-interval': 4294967296}",
          "arguments.cache-clean-interval: 4294967296 is above" },
        { &blockdev_options_descriptor,
          "{'driver': 'blkdebug', 'image': 'a', 'inject-error': [{'event': 'none', 'sector': -2}]}",
          "arguments.inject-error[0].sector: -2 is below" },
        { &blockdev_options_descriptor,
          "{'driver': 'blkdebug', 'image': 'a', 'inject-error': [{'event': 'none', 'errno': 4096}]}",
          "arguments.inject-error[0].errno: 4096 is above" },
        { &blockdev_create_options_descriptor, "{'driver': 'file', 'filename': '', 'size': 0}",
          "arguments.filename: " },
        { &blockdev_create_options_descriptor, "{'driver': 'file', 'filename': 'a', 'size': 9223372036854775807}",
          "arguments.size: 9223372036854775807 is above" },
        { &blockdev_create_options_descriptor, "{'driver': 'qcow2', 'file': 'a', 'size': 1000}",
          "arguments.size: 1000 is not a multiple of 512" },
        { &blockdev_create_options_descriptor, "{'driver': 'qcow2', 'file': 'a', 'size': 0, 'cluster-size': 256}",
          "arguments.cluster-size: 256 is below" },
        { &blockdev_create_options_descriptor, "{'driver': 'qcow2', 'file': 'a', 'size': 0, 'refcount-bits': 128}",
          "arguments.refcount-bits: 128 is above" },
        { &block_export_options_descriptor, "{'type': 'nbd', 'id': '1st', 'node-name': 'a'}", "arguments.id: '1st'" },
        { &block_export_options_descriptor, "{'type': 'nbd', 'id': '', 'node-name': 'a'}", "arguments.id: " },
        { &blockdev_create_arguments_descriptor, "{'job-id': 'a b', 'options': {}}", "arguments.job-id: 'a b'" },
        { &block_resize_arguments_descriptor, "{'node-name': 'a', 'size': -1}", "arguments.size: -1 is below" },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char json[256];
        snprintf(json, sizeof(json), "%s", cases[i].json);
        for (char *quote = json; (quote = strchr(quote, '\'')); quote++)
            *quote = '"';
        refuses(cases[i].type, json, cases[i].message);
    }
}

static void node_names_may_have_255_bytes(void **state)
{
    (void)state;
    for (int length = 255; length <= 256; length++) {
        char name[257] = "";
        CLEANUP(free) char *json = NULL;
        memset(name, 'n', (size_t)length);
        assert_true(asprintf(&json, "{\"driver\": \"null-co\", \"node-name\": \"%s\"}", name) > 0);
        if (length == 255)
            decoded(&blockdev_options_descriptor, DECODE_JSON, json);
        else
            refuses(&blockdev_options_descriptor, json, "is longer than 255 bytes");
    }
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
        cmocka_unit_test(introspection_describes_itself), cmocka_unit_test(limits_are_the_schemas),
        cmocka_unit_test(node_names_may_have_255_bytes),
    };
    return cmocka_run_group_tests(tests, codec_set_up, codec_tear_down);
}
