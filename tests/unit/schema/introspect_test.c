/* The answer to query-qmp-schema against the rules of QEMU's generator. */
#include "schema/compiler/backend.h"
#include "schema/compiler/check.h"

#include "tests/unit/base/unit.h"

#include <jansson.h>

/* Compiles @schema; the result is the introspection with @defined taken as true. */
static json_t *introspect(const char *schema, const char *const *defined, size_t defined_count)
{
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    struct compilation compilation = { .arena = &arena, .messages = stderr };
    struct program program = { 0 };
    struct model model;
    struct source *source = source_from_text(&arena, "test.json", schema, strlen(schema));
    assert_true(program_parse_source(&program, &compilation, source));
    assert_true(program_check(&program, &compilation));
    assert_true(model_build(&model, &compilation, &program));

    struct output output = { .arena = &arena };
    struct backend_options options = { .prefix = "", .defined = defined, .defined_count = defined_count };
    write_introspect_json(&output, &model, &options);
    json_t *json = json_loadb(output.text.items, output.text.count, 0, NULL);
    assert_non_null(json);
    arena_fini(&arena);
    return json;
}

static void expect_introspection(const char *schema, const char *expected)
{
    json_error_t error;
    json_t *json = introspect(schema, NULL, 0), *wanted = json_loads(expected, 0, &error);
    assert_non_null(wanted);
    if (!json_equal(json, wanted))
        json_dumpf(json, stderr, JSON_INDENT(1));
    assert_true(json_equal(json, wanted));
    json_decref(json);
    json_decref(wanted);
}

/* Commands and events come first, in order; then types by first use, which also numbers them: arguments before results.
 */
static void types_are_numbered_by_first_use(void **state)
{
    (void)state;
    expect_introspection(
        "{ 'struct': 'Later', 'data': { 'a': 'str' } }\n"
        "{ 'command': 'first', 'returns': 'Later' }\n"
        "{ 'event': 'SECOND', 'data': { '*n': 'uint8' } }\n",
        "[ {\"name\": \"first\", \"meta-type\": \"command\", \"arg-type\": \"0\", \"ret-type\": \"1\"},"
        "  {\"name\": \"SECOND\", \"meta-type\": \"event\", \"arg-type\": \"2\"},"
        "  {\"name\": \"0\", \"meta-type\": \"object\", \"members\": []},"
        "  {\"name\": \"1\", \"meta-type\": \"object\","
        "   \"members\": [{\"name\": \"a\", \"type\": \"str\"}]},"
        "  {\"name\": \"2\", \"meta-type\": \"object\","
        "   \"members\": [{\"name\": \"n\", \"type\": \"int\", \"default\": null}]},"
        "  {\"name\": \"str\", \"meta-type\": \"builtin\", \"json-type\": \"string\"},"
        "  {\"name\": \"int\", \"meta-type\": \"builtin\", \"json-type\": \"int\"} ]");
}

/* All integers are one type to clients, alone and in arrays. */
static void widths_of_integers_are_not_shown(void **state)
{
    (void)state;
    expect_introspection("{ 'command': 'c', 'data': { 'a': 'size', 'b': [ 'int8' ] } }\n",
                         "[ {\"name\": \"c\", \"meta-type\": \"command\", \"arg-type\": \"0\", \"ret-type\": \"1\"},"
                         "  {\"name\": \"0\", \"meta-type\": \"object\", \"members\": ["
                         "   {\"name\": \"a\", \"type\": \"int\"}, {\"name\": \"b\", \"type\": \"[int]\"}]},"
                         "  {\"name\": \"1\", \"meta-type\": \"object\", \"members\": []},"
                         "  {\"name\": \"int\", \"meta-type\": \"builtin\", \"json-type\": \"int\"},"
                         "  {\"name\": \"[int]\", \"meta-type\": \"array\", \"element-type\": \"int\"} ]");
}

/* A union shows the members of its base, and for each value of its tag a variant: those without a branch come last,
 * empty. */
static void unions_alternates_and_enums(void **state)
{
    (void)state;
    expect_introspection(
        "{ 'enum': 'Kind', 'data': [ 'plain', { 'name': 'rich', 'features': [ 'unstable' ] } ] }\n"
        "{ 'struct': 'Rich', 'data': { 'gold': 'bool' } }\n"
        "{ 'union': 'Thing', 'base': { 'kind': 'Kind' }, 'discriminator': 'kind', 'data': { 'rich': 'Rich' } }\n"
        "{ 'alternate': 'Ref', 'data': { 'thing': 'Thing', 'name': 'str' } }\n"
        "{ 'event': 'E', 'data': { 'refs': [ 'Ref' ] }, 'features': [ 'deprecated' ] }\n",
        "[ {\"name\": \"E\", \"meta-type\": \"event\", \"arg-type\": \"0\", \"features\": [\"deprecated\"]},"
        "  {\"name\": \"0\", \"meta-type\": \"object\", \"members\": [{\"name\": \"refs\", \"type\": \"[1]\"}]},"
        "  {\"name\": \"[1]\", \"meta-type\": \"array\", \"element-type\": \"1\"},"
        "  {\"name\": \"1\", \"meta-type\": \"alternate\", \"members\": [{\"type\": \"2\"}, {\"type\": \"str\"}]},"
        "  {\"name\": \"2\", \"meta-type\": \"object\", \"members\": [{\"name\": \"kind\", \"type\": \"3\"}],"
        "   \"tag\": \"kind\", \"variants\": [{\"case\": \"rich\", \"type\": \"4\"}, {\"case\": \"plain\", \"type\": "
        "\"5\"}]},"
        "  {\"name\": \"str\", \"meta-type\": \"builtin\", \"json-type\": \"string\"},"
        "  {\"name\": \"3\", \"meta-type\": \"enum\","
        "   \"members\": [{\"name\": \"plain\"}, {\"name\": \"rich\", \"features\": [\"unstable\"]}],"
        "   \"values\": [\"plain\", \"rich\"]},"
        "  {\"name\": \"4\", \"meta-type\": \"object\", \"members\": [{\"name\": \"gold\", \"type\": \"bool\"}]},"
        "  {\"name\": \"5\", \"meta-type\": \"object\", \"members\": []},"
        "  {\"name\": \"bool\", \"meta-type\": \"builtin\", \"json-type\": \"boolean\"} ]");
}

static void conditions_decide_what_is_shown(void **state)
{
    (void)state;
    const char *schema = "{ 'command': 'one', 'if': 'A' }\n"
                         "{ 'command': 'two', 'if': { 'not': 'A' } }\n"
                         "{ 'command': 'three', 'if': { 'all': [ 'A', 'B' ] } }\n";
    const char *const a[] = { "A", "B" };
    json_t *without = introspect(schema, NULL, 0), *with_a = introspect(schema, a, 1),
           *with_both = introspect(schema, a, 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(without, 0), "name")), "two");
    assert_string_equal(json_string_value(json_object_get(json_array_get(with_a, 0), "name")), "one");
    assert_int_equal(json_array_size(without), 2);
    assert_int_equal(json_array_size(with_a), 2);
    assert_int_equal(json_array_size(with_both), 3);
    json_decref(without);
    json_decref(with_a);
    json_decref(with_both);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_are_numbered_by_first_use),
        cmocka_unit_test(widths_of_integers_are_not_shown),
        cmocka_unit_test(unions_alternates_and_enums),
        cmocka_unit_test(conditions_decide_what_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
