/* Each allocation fails once: the codec reports it, gives everything back and never crashes. jansson is told to use the
 * same functions. */
#include "schema/cairn_descriptors.h"
#include "schema/codec/compare.h"
#include "schema/codec/copy.h"
#include "schema/codec/keyval.h"
#include "schema/codec/random.h"
#include "schema/sample_descriptors.h"

#include "tests/unit/schema/codec.h"
#include "tests/unit/schema/failing_memory.h"

#define ARENA_BYTES_MAX (1 << 20)

/* What the code under test is called with. */
struct material {
    const struct type_descriptor *type;
    const void *value;
    const void *other;
    const char *text;
    const json_t *json;
};

typedef struct error *action(const struct material *material, struct arena *arena);

static struct error *try_to_decode(const struct material *material, struct arena *arena)
{
    void *value;
    struct decode_failure failure;
    return decode_value(material->type, material->json, DECODE_JSON, "arguments", arena, &value, &failure);
}

static struct error *try_to_copy(const struct material *material, struct arena *arena)
{
    return value_copy(material->type, material->value, arena) ? NULL : error_new("no copy");
}

static struct error *try_to_diff(const struct material *material, struct arena *arena)
{
    struct value_changes changes;
    struct error *err = value_diff(material->type, material->value, material->other, arena, &changes);
    if (!err && value_equal(material->type, material->value, material->other) && changes.count)
        err = error_new("wrong");
    return err;
}

static struct error *try_to_encode(const struct material *material, struct arena *arena)
{
    CLEANUP(text_fini) struct text text = { .may_fail = true };
    (void)arena;
    return encode_value(&text, material->type, material->value, ENCODE_PRETTY, 0);
}

static struct error *try_to_read_keyval(const struct material *material, struct arena *arena)
{
    json_t *tree = NULL;
    void *value;
    struct error *err = keyval_parse(material->text, "driver", &tree);
    if (!err)
        err = decode_value(material->type, tree, DECODE_TEXT, "", arena, &value, NULL);
    json_decref(tree);
    return err;
}

/* Runs it with the first allocation failing, the second, ... until it succeeds or fails for another reason. */
static void expect_survival(action *act, const struct material *material)
{
    for (long n = 0;; n++) {
        struct arena arena;
        long before = memory_live();
        arena_init(&arena, ARENA_BYTES_MAX);
        memory_fail_after(n);
        struct error *err = act(material, &arena);
        bool failed_one = memory_has_failed();
        if (failed_one && act != try_to_diff) /* which then may see a difference too many in JSON of any form */
            assert_non_null(err);
        error_free(err);
        arena_fini(&arena);
        assert_int_equal(memory_live(), before);
        if (!failed_one)
            return;
        assert_true(n < 10000);
    }
}

static void for_some_values(const struct descriptor_table *table, void (*check)(const struct material *material))
{
    for (size_t i = 0; i < table->count; i++) {
        for (uint64_t seed = 1; seed <= 3; seed++) {
            const struct type_descriptor *type = table->types[i];
            struct arena arena;
            uint64_t first = seed, second = seed + 100;
            arena_init(&arena, SIZE_MAX);
            struct material material = { .type = type,
                                         .value = value_random(type, &first, &arena),
                                         .other = value_random(type, &second, &arena) };
            check(&material);
            arena_fini(&arena);
        }
    }
}

static void check_decode(const struct material *material)
{
    struct material with_json = *material;
    json_t *json = parse_json(encoded(material->type, material->value, 0));
    with_json.json = json;
    expect_survival(try_to_decode, &with_json);
    json_decref(json);
}

static void decoding_survives(void **state)
{
    (void)state;
    for_some_values(&sample_descriptors, check_decode);
    for_some_values(&cairn_descriptors, check_decode);
}

static void reports_survive_too(void **state)
{
    static const char *const wrong[] = {
        "5",
        "{\"driver\": \"fil\"}",
        "{}",
        "{\"driver\": \"raw\", \"file\": {\"driver\": \"file\", \"filenam\": 1}}",
        "{\"driver\": \"null-co\", \"size\": -5}",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        json_t *json = parse_json(wrong[i]);
        struct material material = { .type = &blockdev_options_descriptor, .json = json };
        expect_survival(try_to_decode, &material);
        json_decref(json);
    }
    struct material nothing = { .type = &blockdev_options_descriptor };
    expect_survival(try_to_decode, &nothing);
}

static void check_others(const struct material *material)
{
    expect_survival(try_to_copy, material);
    expect_survival(try_to_diff, material);
    expect_survival(try_to_encode, material);
}

static void copying_comparing_and_encoding_survive(void **state)
{
    (void)state;
    for_some_values(&sample_descriptors, check_others);
    for_some_values(&cairn_descriptors, check_others);
}

static void key_value_text_survives(void **state)
{
    static const char *const texts[] = {
        "qcow2,node-name=a,file.driver=file,file.filename=/x,,y",
        "driver=blkdebug,inject-error.0.event=read_aio,image=a",
        "raw,file=5,size=1M",
        "raw,file.0=5,file.1=6",
        "a.b=1,a=2",
        "raw,file",
        "",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct material material = { .type = &blockdev_options_descriptor, .text = texts[i] };
        expect_survival(try_to_read_keyval, &material);
    }
}

/* 241 bytes of a request as clients send them. */
static const char request[] =
    "{\"driver\":\"qcow2\",\"node-name\":\"disk-01\",\"read-only\":false,\"discard\":\"unmap\","
    "\"cache\":{\"direct\":true,\"no-flush\":false},\"file\":{\"driver\":\"file\",\"filename\":"
    "\"/srv/images/disk-0001.qcow2\",\"aio\":\"io_uring\","
    "\"cache\":{\"direct\":true,\"no-flush\":false}}}";

static void a_nested_blockdev_add_takes_two_allocations_at_most(void **state)
{
    (void)state;
    struct arena arena;
    void *value;
    json_t *json = parse_json(request);
    assert_int_equal(sizeof(request) - 1, 241);
    arena_init(&arena, ARENA_BYTES_MAX);
    size_t before = memory_allocations();
    assert_null(decode_value(&blockdev_options_descriptor, json, DECODE_JSON, "arguments", &arena, &value, NULL));
    assert_true(memory_allocations() - before <= 2);
    arena_fini(&arena);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_survives),
        cmocka_unit_test(reports_survive_too),
        cmocka_unit_test(copying_comparing_and_encoding_survive),
        cmocka_unit_test(key_value_text_survives),
        cmocka_unit_test(a_nested_blockdev_add_takes_two_allocations_at_most),
    };
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    return cmocka_run_group_tests(tests, codec_set_up, codec_tear_down);
}
