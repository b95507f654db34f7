/* What holds for every value of every type: it survives the way to JSON and back, and its copy is equal. The values are
 * random, led by the tables; each failure names the seed. */
#include "schema/cairn_descriptors.h"
#include "schema/codec/compare.h"
#include "schema/codec/copy.h"
#include "schema/codec/overlay.h"
#include "schema/codec/random.h"
#include "schema/sample_descriptors.h"

#include "tests/unit/schema/codec.h"

#define VALUES_PER_TYPE 40

struct property {
    void (*holds)(const struct type_descriptor *type, const void *value, uint64_t seed);
};

static void for_values_of(const struct descriptor_table *table, const struct property *property)
{
    for (size_t i = 0; i < table->count; i++) {
        for (uint64_t seed = 1; seed <= VALUES_PER_TYPE; seed++) {
            struct arena arena;
            uint64_t state = seed * 1000003 + i;
            arena_init(&arena, SIZE_MAX);
            const void *value = value_random(table->types[i], &state, &arena);
            if (!value)
                fail_msg("no value of %s with seed %d", table->types[i]->name, (int)seed);
            property->holds(table->types[i], value, seed);
            arena_fini(&arena);
        }
    }
}

static void for_all(void (*holds)(const struct type_descriptor *type, const void *value, uint64_t seed))
{
    struct property property = { .holds = holds };
    for_values_of(&sample_descriptors, &property);
    for_values_of(&cairn_descriptors, &property);
}

static void survives_json(const struct type_descriptor *type, const void *value, uint64_t seed)
{
    CLEANUP(text_fini) struct text text = { 0 };
    struct arena arena;
    void *again = NULL;
    CLEANUP(error_free) struct error *err = encode_value(&text, type, value, seed % 2 ? ENCODE_PRETTY : 0, 0);
    if (err)
        fail_msg("%s, seed %d: %s", type->name, (int)seed, error_message(err));
    json_t *json = NULL;
    err = json_parse(text.data, text.length, JSON_VALUES_MAX, &json);
    if (err)
        fail_msg("%s, seed %d: %s: %.*s", type->name, (int)seed, error_message(err), (int)text.length, text.data);
    arena_init(&arena, SIZE_MAX);
    err = decode_value(type, json, DECODE_JSON, "", &arena, &again, NULL);
    json_decref(json);
    if (err)
        fail_msg("%s, seed %d: %s: %.*s", type->name, (int)seed, error_message(err), (int)text.length, text.data);
    if (!value_equal(type, value, again))
        fail_msg("%s, seed %d: not equal: %.*s", type->name, (int)seed, (int)text.length, text.data);
    arena_fini(&arena);
}

static void values_survive_the_way_to_json_and_back(void **state)
{
    (void)state;
    for_all(survives_json);
}

static void has_equal_copy(const struct type_descriptor *type, const void *value, uint64_t seed)
{
    struct arena first, second;
    arena_init(&first, SIZE_MAX);
    arena_init(&second, SIZE_MAX);
    const void *copy = value_copy(type, value, &first);
    const void *copy_of_copy = value_copy(type, copy, &second);
    if (!value_equal(type, value, copy))
        fail_msg("%s, seed %d: the copy is not equal", type->name, (int)seed);
    /* It shares nothing: with the first copy's memory gone, the second one is still there. */
    arena_fini(&first);
    if (!value_equal(type, value, copy_of_copy))
        fail_msg("%s, seed %d: the copy was not deep", type->name, (int)seed);
    arena_fini(&second);
}

static void copies_are_equal_and_share_nothing(void **state)
{
    (void)state;
    for_all(has_equal_copy);
}

static void agrees_with_equality(const struct type_descriptor *type, const void *value, uint64_t seed)
{
    struct arena arena;
    struct value_changes changes;
    uint64_t other_seed = seed + 77;
    arena_init(&arena, SIZE_MAX);
    const void *other = value_random(type, &other_seed, &arena);
    assert_non_null(other);
    assert_null(value_diff(type, value, other, &arena, &changes));
    if (value_equal(type, value, other) != (changes.count == 0))
        fail_msg("%s, seed %d: %zu differences", type->name, (int)seed, changes.count);
    assert_null(value_diff(type, value, value, &arena, &changes));
    assert_int_equal(changes.count, 0);
    arena_fini(&arena);
}

static void differences_are_found_exactly_where_values_are_not_equal(void **state)
{
    (void)state;
    for_all(agrees_with_equality);
}

static void the_same_seed_gives_the_same_value(void **state)
{
    (void)state;
    for (size_t i = 0; i < cairn_descriptors.count; i++) {
        const struct type_descriptor *type = cairn_descriptors.types[i];
        uint64_t one = i, other = i;
        assert_true(
            value_equal(type, value_random(type, &one, &codec_arena), value_random(type, &other, &codec_arena)));
        assert_int_equal(one, other);
    }
}

/* "path path": what differs between two values. */
static const char *differences(const struct type_descriptor *type, const char *a, const char *b)
{
    struct value_changes changes;
    const char *all = "";
    assert_null(value_diff(type, decoded(type, DECODE_JSON, a), decoded(type, DECODE_JSON, b), &codec_arena, &changes));
    for (size_t i = 0; i < changes.count; i++)
        all = arena_printf(&codec_arena, "%s%s%s", all, i ? " " : "", changes.paths[i]);
    return all;
}

static void differences_are_paths(void **state)
{
    (void)state;
    const struct type_descriptor *options = &blockdev_options_descriptor, *arrays = &sample_arrays_descriptor;
    assert_string_equal(
        differences(options,
                    "{\"driver\": \"raw\", \"read-only\": true, \"file\": {\"driver\": \"file\", \"filename\": \"a\"}}",
                    "{\"driver\": \"raw\", \"file\": {\"driver\": \"file\", \"filename\": \"b\"}}"),
        "read-only file.filename");
    /* A driver that changed says everything; what belongs to it is another thing then. */
    assert_string_equal(differences(options, "{\"driver\": \"file\", \"filename\": \"a\", \"node-name\": \"x\"}",
                                    "{\"driver\": \"null-co\", \"node-name\": \"y\"}"),
                        "driver node-name");
    assert_string_equal(differences(options, "{\"driver\": \"raw\", \"file\": \"node\"}",
                                    "{\"driver\": \"raw\", \"file\": {\"driver\": \"file\", \"filename\": \"b\"}}"),
                        "file");
    assert_string_equal(differences(arrays, "{\"points\": [{\"x\": 1}, {\"x\": 2}], \"strings\": [\"a\"]}",
                                    "{\"points\": [{\"x\": 1}, {\"x\": 3, \"y\": 4}], \"strings\": []}"),
                        "strings points[1].x points[1].y");
    assert_string_equal(differences(&codec_int, "1", "2"), "");
    assert_string_equal(differences(&sample_scalars_descriptor, "{\"anything\": {\"a\": 1, \"b\": [ ]}}",
                                    "{\"anything\": {\"b\": [], \"a\": 1}}"),
                        "");
}

static void lies_over_itself(const struct type_descriptor *type, const void *value, uint64_t seed)
{
    struct arena arena;
    if (type->kind != VALUE_OBJECT)
        return;
    arena_init(&arena, SIZE_MAX);
    const void *same = value_overlay(type, value, value, &arena);
    if (!value_equal(type, value, same))
        fail_msg("%s, seed %d: not equal", type->name, (int)seed);
    arena_fini(&arena);
}

static void a_value_over_itself_is_itself(void **state)
{
    (void)state;
    for_all(lies_over_itself);
}

static void what_lies_over_it(const char *base, const char *over, const char *expected)
{
    const struct type_descriptor *type = &object_options_descriptor;
    const void *result =
        value_overlay(type, decoded(type, DECODE_JSON, base), decoded(type, DECODE_JSON, over), &codec_arena);
    assert_true(value_equal(type, result, decoded(type, DECODE_JSON, expected)));
}

static void members_that_are_there_are_taken_and_objects_put_together(void **state)
{
    (void)state;
#define GROUP(limits) "{\"qom-type\": \"throttle-group\", \"id\": \"g\"" limits "}"
    what_lies_over_it(GROUP(", \"limits\": {\"iops-total\": 1, \"bps-total\": 2}"),
                      GROUP(", \"limits\": {\"iops-total\": 3, \"iops-size\": 4}"),
                      GROUP(", \"limits\": {\"iops-total\": 3, \"bps-total\": 2, \"iops-size\": 4}"));
    what_lies_over_it(GROUP(""), GROUP(", \"limits\": {\"iops-total\": 3}"),
                      GROUP(", \"limits\": {\"iops-total\": 3}"));
    what_lies_over_it(GROUP(", \"limits\": {\"iops-total\": 3}"), GROUP(""),
                      GROUP(", \"limits\": {\"iops-total\": 3}"));
#define LIST(rules) "{\"qom-type\": \"authz-list\", \"id\": \"a\", \"rules\": [" rules "]}"
#define RULE(match) "{\"match\": \"" match "\", \"policy\": \"allow\"}"
    what_lies_over_it(LIST(RULE("a") ", " RULE("b")), LIST(RULE("c")), LIST(RULE("c")));
    what_lies_over_it(LIST(RULE("a")), LIST(""), LIST(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_survive_the_way_to_json_and_back),
        cmocka_unit_test(copies_are_equal_and_share_nothing),
        cmocka_unit_test(differences_are_found_exactly_where_values_are_not_equal),
        cmocka_unit_test(the_same_seed_gives_the_same_value),
        cmocka_unit_test(differences_are_paths),
        cmocka_unit_test(a_value_over_itself_is_itself),
        cmocka_unit_test(members_that_are_there_are_taken_and_objects_put_together),
    };
    return cmocka_run_group_tests(tests, codec_set_up, codec_tear_down);
}
