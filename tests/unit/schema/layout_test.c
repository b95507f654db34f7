/* What programs write against what is generated: handlers, tables, emitters, names. */
#include "schema/sample_commands.h"
#include "schema/sample_events.h"
#include "schema/sample_introspect.h"

#include "tests/unit/schema/codec.h"

struct event_sink {
    const struct event_descriptor *event;
    const void *data;
};

static const char *called;

struct arena *command_arena(struct command_context *context)
{
    (void)context;
    return &codec_arena;
}

void event_sink_emit(struct event_sink *sink, const struct event_descriptor *event, const void *data)
{
    *sink = (struct event_sink){ .event = event, .data = data };
}

struct error *handle_sample_nothing(struct command_context *context)
{
    (void)context;
    called = "nothing";
    return NULL;
}

struct error *handle_sample_echo(struct command_context *context, const struct sample_outer *arguments,
                                 struct sample_outer *result)
{
    (void)context;
    *result = *arguments;
    return NULL;
}

struct error *handle_sample_inline(struct command_context *context, const struct sample_inline_arguments *arguments,
                                   struct sample_point_list *result)
{
    result->count = arguments->second_count;
    result->items = arena_array(command_arena(context), result->count, sizeof(*result->items));
    for (size_t i = 0; i < result->count; i++)
        result->items[i].x = (int32_t)arguments->second[i];
    return NULL;
}

struct error *handle_sample_raw(struct command_context *context, struct json_text *result)
{
    (void)context;
    *result = (struct json_text){ .text = "{\"x\": 1}", .length = 8 };
    return NULL;
}

struct error *handle_sample_types(struct command_context *context, const struct sample_types_arguments *arguments)
{
    (void)context;
    return error_new("%s", arguments->keywords ? arguments->keywords->class_ : "no keywords");
}

/* Runs a command as rpc/ does. NULL with *json set, or the error. */
static struct error *run(const char *name, const char *arguments, const char **json)
{
    const struct command_descriptor *command = command_find(&sample_commands, name);
    assert_non_null(command);
    void *decoded_arguments = NULL;
    struct error *err = try_decode(command->arguments, arguments, DECODE_JSON, &decoded_arguments);
    if (err)
        return err;
    void *result = command->returns ? arena_alloc(&codec_arena, command->returns->size) : NULL;
    err = command->invoke(NULL, decoded_arguments, result);
    if (!err)
        *json = encoded(command->returns, result, 0);
    return err;
}

static void handlers_are_found_by_name_and_called_with_types(void **state)
{
    (void)state;
    const char *json;
    assert_null(run("sample-nothing", "{}", &json));
    assert_string_equal(called, "nothing");
    assert_string_equal(json, "{}");
    assert_null(run("sample-echo", "{\"kind\": \"always\", \"inner\": \"red\", \"x\": 1}", &json));
    assert_string_equal(json, "{\"kind\": \"always\", \"inner\": \"red\", \"x\": 1}");
    assert_null(run("sample-inline", "{\"first\": \"\", \"second\": [7, 8]}", &json));
    assert_string_equal(json, "[{\"x\": 7}, {\"x\": 8}]");
    assert_null(run("sample-raw", "{}", &json));
    assert_string_equal(json, "{\"x\": 1}");
    CLEANUP(error_free) struct error *err = run("sample-types", "{\"keywords\": {\"class\": \"c\"}}", &json);
    assert_string_equal(error_message(err), "c");
}

static void unknown_commands_are_not_found(void **state)
{
    (void)state;
    assert_null(command_find(&sample_commands, "sample"));
    assert_null(command_find(&sample_commands, ""));
    assert_null(command_find(&sample_commands, "zzz"));
    /* Its condition is not defined here. */
    assert_null(command_find(&sample_commands, "sample-conditional"));
}

static void the_table_is_sorted_and_carries_flags(void **state)
{
    (void)state;
    for (size_t i = 1; i < sample_commands.count; i++)
        assert_true(strcmp(sample_commands.commands[i - 1].name, sample_commands.commands[i].name) < 0);
    assert_int_equal(command_find(&sample_commands, "sample-nothing")->flags, COMMAND_DEPRECATED | COMMAND_ROLE_ADMIN);
    assert_int_equal(command_find(&sample_commands, "sample-raw")->flags, COMMAND_RAW | COMMAND_ROLE_ADMIN);
}

static void events_reach_the_sink_with_their_table(void **state)
{
    (void)state;
    struct event_sink sink = { 0 };
    struct sample_point point = { .x = 5 };
    struct sample_data_event data = { .point = &point };
    event_sample_data(&sink, &data);
    assert_string_equal(sink.event->name, "SAMPLE_DATA");
    assert_ptr_equal(sink.data, &data);
    assert_string_equal(encoded(sink.event->data, sink.data, 0), "{\"point\": {\"x\": 5}}");
    event_sample_empty(&sink);
    assert_string_equal(sink.event->name, "SAMPLE_EMPTY");
    assert_null(sink.event->data);
    assert_int_equal(sample_events.count, 2);
}

static void enums_have_names(void **state)
{
    (void)state;
    assert_string_equal(sample_color_name(SAMPLE_COLOR_DARK_BLUE), "dark-blue");
    assert_string_equal(sample_color_name(SAMPLE_COLOR__MAX), "(invalid)");
    assert_string_equal(sample_color_names[SAMPLE_COLOR_3D], "3d");
    assert_null(sample_color_names[SAMPLE_COLOR__MAX]);
    /* Without SAMPLE_ON the second value does not exist, and the rest moves up. */
    assert_int_equal(SAMPLE_CONDITIONAL_NEVER, 1);
    assert_int_equal(SAMPLE_CONDITIONAL__MAX, 3);
}

static void introspection_is_constant_json(void **state)
{
    (void)state;
    json_t *json = parse_json(sample_introspect_text);
    assert_int_equal(strlen(sample_introspect_text), sample_introspect_length);
    assert_true(json_is_array(json));
    size_t i;
    json_t *element;
    json_array_foreach(json, i, element)
        assert_string_not_equal(json_string_value(json_object_get(element, "name")), "sample-conditional");
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handlers_are_found_by_name_and_called_with_types),
        cmocka_unit_test(unknown_commands_are_not_found),
        cmocka_unit_test(the_table_is_sorted_and_carries_flags),
        cmocka_unit_test(events_reach_the_sink_with_their_table),
        cmocka_unit_test(enums_have_names),
        cmocka_unit_test(introspection_is_constant_json),
    };
    return cmocka_run_group_tests(tests, codec_set_up, codec_tear_down);
}
