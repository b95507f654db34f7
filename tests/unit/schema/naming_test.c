#include "schema/compiler/naming.h"

#include "tests/unit/base/unit.h"

static void with_arena(void (*body)(struct arena *arena))
{
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    body(&arena);
    arena_fini(&arena);
}

static void check_snake(struct arena *arena)
{
    assert_string_equal(c_snake(arena, "BlockdevOptionsQcow2"), "blockdev_options_qcow2");
    assert_string_equal(c_snake(arena, "Qcow2OverlapChecks"), "qcow2_overlap_checks");
    assert_string_equal(c_snake(arena, "BlkdebugIOType"), "blkdebug_io_type");
    assert_string_equal(c_tag(arena, "BlkdebugIOType"), "blkdebug_io_type");
    assert_string_equal(c_tag(arena, "Union"), "union_");
    assert_string_equal(c_tag(arena, "Class"), "class_");
    assert_string_equal(c_snake(arena, "QMPCapability"), "qmp_capability");
    assert_string_equal(c_snake(arena, "block-export-del"), "block_export_del");
    assert_string_equal(c_snake(arena, "BLOCK_EXPORT_DELETED"), "block_export_deleted");
}

static void words_of_a_type_are_split_by_underscores(void **state)
{
    (void)state;
    with_arena(check_snake);
}

static void check_identifiers(struct arena *arena)
{
    assert_string_equal(c_identifier(arena, "node-name"), "node_name");
    assert_string_equal(c_identifier(arena, "null-co"), "null_co");
    assert_string_equal(c_identifier(arena, "default"), "default_");
    assert_string_equal(c_identifier(arena, "template"), "template_");
    assert_string_equal(c_identifier(arena, "unix"), "unix_");
    assert_string_equal(c_identifier(arena, "errno"), "errno_");
    assert_string_equal(c_identifier(arena, "3d"), "_3d");
    assert_string_equal(c_part(arena, "default"), "default");
    assert_string_equal(c_constant(arena, "on_off_auto", "on"), "ON_OFF_AUTO_ON");
    assert_string_equal(c_constant(arena, "blkdebug_io_type", "write-zeroes"), "BLKDEBUG_IO_TYPE_WRITE_ZEROES");
}

static void keywords_of_c_and_cxx_get_an_underscore(void **state)
{
    (void)state;
    with_arena(check_identifiers);
}

static void names_have_a_form(void **state)
{
    (void)state;
    assert_true(name_is_valid("node-name"));
    assert_true(name_is_valid("x-gate-hold"));
    assert_true(name_is_valid("__org.example_x-thing"));
    assert_false(name_is_valid(""));
    assert_false(name_is_valid("1st"));
    assert_false(name_is_valid("-a"));
    assert_false(name_is_valid("a b"));
    assert_false(name_is_valid("a.b"));
    assert_false(name_is_valid("q_reserved"));
    assert_string_equal(name_stem("__org.example_x-thing"), "thing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_of_a_type_are_split_by_underscores),
        cmocka_unit_test(keywords_of_c_and_cxx_get_an_underscore),
        cmocka_unit_test(names_have_a_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
