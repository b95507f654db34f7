/* One file per rule of the language and its message: errors/NAME.json is refused with the words of errors/NAME.out.
 * What stands in valid/ is accepted without a word. To write new .out files after a change of words: for f in *.json;
 * do schemac --check $f 2> ${f%.json}.out; done */
#include "schema/compiler/backend.h"
#include "schema/compiler/check.h"
#include "schema/compiler/model.h"

#include "tests/unit/base/unit.h"

#include <dirent.h>
#include <unistd.h>

/* What is said about @path, and whether it was refused. The caller frees it. */
static char *messages_about(const char *path, bool *refused)
{
    char *text = NULL;
    size_t length = 0;
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    FILE *messages = open_memstream(&text, &length);
    struct compilation compilation = { .arena = &arena, .messages = messages };
    struct program program = { 0 };
    struct model model;
    bool valid = program_parse(&program, &compilation, path) && program_check(&program, &compilation) &&
                 model_build(&model, &compilation, &program);
    fclose(messages);
    *refused = !valid && compilation.failed;
    arena_fini(&arena);
    return text;
}

static char *content_of(const char *path)
{
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    int errnum;
    struct source *source = source_read(&arena, path, &errnum);
    char *content = strdup(source ? source->text : "");
    arena_fini(&arena);
    return content;
}

static bool check_one(const char *name)
{
    char expected_path[512];
    snprintf(expected_path, sizeof(expected_path), "%.*s.out", (int)(strlen(name) - strlen(".json")), name);
    bool refused;
    char *expected = content_of(expected_path), *said = messages_about(name, &refused);
    bool same = refused && strcmp(said, expected) == 0;
    if (!same)
        print_error("%s: expected\n%sgot\n%s", name, expected, said);
    free(expected);
    free(said);
    return same;
}

static bool accept_one(const char *name)
{
    bool refused;
    char *said = messages_about(name, &refused);
    bool accepted = !refused && !*said;
    if (!accepted)
        print_error("%s: refused\n%s", name, said);
    free(said);
    return accepted;
}

/* How many schemas are in a folder; those that @check does not like are counted in *wrong. */
static unsigned check_folder(const char *path, bool (*check)(const char *name), unsigned *wrong)
{
    unsigned count = 0;
    assert_int_equal(chdir(path), 0);
    DIR *folder = opendir(".");
    assert_non_null(folder);
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        size_t length = strlen(entry->d_name);
        if (length < 5 || strcmp(entry->d_name + length - 5, ".json") != 0)
            continue;
        count++;
        *wrong += !check(entry->d_name);
    }
    closedir(folder);
    return count;
}

static void each_rule_has_its_message(void **state)
{
    (void)state;
    unsigned wrong = 0;
    assert_true(check_folder(ERRORS_FOLDER, check_one, &wrong) > 200);
    assert_int_equal(wrong, 0);
}

static void the_corners_of_the_language_are_accepted(void **state)
{
    (void)state;
    unsigned wrong = 0;
    assert_true(check_folder(ERRORS_FOLDER "/../valid", accept_one, &wrong) >= 3);
    assert_int_equal(wrong, 0);
}

static void types_are_numbered_whether_conditions_hold_or_not(void **state)
{
    (void)state;
    static const char *const defined[] = { "ON" };
    const struct backend_options options = { .prefix = "", .schema = "", .defined = defined, .defined_count = 1 };
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    struct compilation compilation = { .arena = &arena, .messages = stderr };
    struct output output = { .arena = &arena };
    struct program program = { 0 };
    struct model model;
    assert_int_equal(chdir(ERRORS_FOLDER "/../valid"), 0);
    assert_true(program_parse(&program, &compilation, "numbering.json") && program_check(&program, &compilation) &&
                model_build(&model, &compilation, &program));
    write_introspect_json(&output, &model, &options);
    char *expected = content_of("numbering.introspect");
    assert_int_equal(output.text.count, strlen(expected));
    assert_memory_equal(output.text.items, expected, output.text.count);
    free(expected);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_rule_has_its_message),
        cmocka_unit_test(the_corners_of_the_language_are_accepted),
        cmocka_unit_test(types_are_numbered_whether_conditions_hold_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
