#include "schema/compiler/output.h"

#include "tests/unit/base/unit.h"
#include "tests/unit/support/temp.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static struct arena arena;
static struct compilation compilation;
static char folder[TEMP_FOLDER_BYTES];

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, SIZE_MAX);
    compilation = (struct compilation){ .arena = &arena, .messages = tmpfile() };
    temp_folder_make(folder);
    return compilation.messages ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    fclose(compilation.messages);
    unlink(arena_printf(&arena, "%s/file", folder));
    rmdir(folder);
    arena_fini(&arena);
    return 0;
}

static bool write_text(const char *text)
{
    struct output output = { .arena = &arena };
    output_text(&output, text);
    return output_write(&output, &compilation, folder, "file");
}

/* Gives the file a time stamp that no write leaves behind. */
static void make_old(const char *path)
{
    const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool is_old(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mtim.tv_sec == 1;
}

static void a_file_that_stays_the_same_is_not_written(void **state)
{
    (void)state;
    const char *path = arena_printf(&arena, "%s/file", folder);
    assert_true(write_text("one"));
    make_old(path);
    assert_true(write_text("one"));
    assert_true(is_old(path));
    assert_true(write_text("one and more"));
    assert_false(is_old(path));
    make_old(path);
    assert_true(write_text("one"));
    assert_false(is_old(path));
}

static void a_folder_that_does_not_exist_is_an_error(void **state)
{
    (void)state;
    struct output output = { .arena = &arena };
    output_text(&output, "x");
    assert_false(output_write(&output, &compilation, "/nonexistent", "file"));
    assert_true(compilation.failed);
}

static void conditions_become_expressions(void **state)
{
    (void)state;
    struct condition a = { .kind = CONDITION_NAME, .name = "A" }, b = { .kind = CONDITION_NAME, .name = "B" };
    struct condition not_b = { .kind = CONDITION_NOT }, all = { .kind = CONDITION_ALL };
    VECTOR_PUSH(&arena, &not_b.operands, (const struct condition *)&b);
    VECTOR_PUSH(&arena, &all.operands, (const struct condition *)&a);
    VECTOR_PUSH(&arena, &all.operands, (const struct condition *)&not_b);
    assert_string_equal(condition_expression(&arena, &all), "(defined(A) && !defined(B))");
    assert_string_equal(condition_expression(&arena, NULL), "1");
}

static void long_lines_are_kept_whole(void **state)
{
    (void)state;
    char text[3000];
    struct output output = { .arena = &arena };
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    output_printf(&output, "<%s>", text);
    assert_int_equal(output.text.count, sizeof(text) + 1);
    assert_int_equal(output.text.items[output.text.count - 1], '>');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_stays_the_same_is_not_written),
        cmocka_unit_test(a_folder_that_does_not_exist_is_an_error),
        cmocka_unit_test(conditions_become_expressions),
        cmocka_unit_test(long_lines_are_kept_whole),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
