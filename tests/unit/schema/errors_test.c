/* One file per rule of the language and its message: errors/NAME.json is refused with the words of errors/NAME.out.
 * To write new .out files after a change of words: for f in *.json; do schemac --check $f 2> ${f%.json}.out; done */
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

static void each_rule_has_its_message(void **state)
{
    (void)state;
    unsigned count = 0, wrong = 0;
    assert_int_equal(chdir(ERRORS_FOLDER), 0);
    DIR *folder = opendir(".");
    assert_non_null(folder);
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        size_t length = strlen(entry->d_name);
        if (length < 5 || strcmp(entry->d_name + length - 5, ".json") != 0)
            continue;
        count++;
        wrong += !check_one(entry->d_name);
    }
    closedir(folder);
    assert_int_equal(wrong, 0);
    assert_true(count > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_rule_has_its_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
