/* Each allocation of the compiler fails once, in each of its modes: it says that there is no memory and ends, as
 * arena.h has it, and up to there nothing was lost or touched that should not be. */
#include "schema/compiler/backend.h"
#include "schema/compiler/check.h"
#include "schema/compiler/printers.h"

#include "tests/unit/base/unit.h"
#include "tests/unit/schema/failing_memory.h"

#include <fcntl.h>
#include <setjmp.h>
#include <unistd.h>

void __real_abort(void) __attribute__((noreturn));
void __wrap_abort(void) __attribute__((noreturn));

static jmp_buf *on_abort; /* where a process that would end goes on; NULL: it ends */

void __wrap_abort(void)
{
    if (on_abort)
        longjmp(*on_abort, 1);
    __real_abort();
}

static const struct backend_options options = { .prefix = "p_", .schema = "test.json" };
static struct arena file_arena; /* what the test itself keeps */
static const struct source *files[2];

static bool build(struct model *model, struct compilation *compilation, const struct source *file)
{
    struct program *program = arena_alloc(compilation->arena, sizeof(*program));
    struct source *source = source_from_text(compilation->arena, file->path, file->text, file->length);
    return program_parse_source(program, compilation, source) && program_check(program, compilation) &&
           model_build(model, compilation, program);
}

static void only_build(struct output *output, const struct model *model, const struct backend_options *unused)
{
    (void)unused;
    struct compilation compilation = { .arena = output->arena, .messages = stderr };
    struct model again;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        assert_true(build(&again, &compilation, files[i]) && model);
}

static void write_one_json_schema(struct output *output, const struct model *model, const struct backend_options *with)
{
    assert_true(write_json_schema(output, model, with, NULL, false));
}

static void write_yaml_schema(struct output *output, const struct model *model, const struct backend_options *with)
{
    size_t i = 0;
    while (model->types.items[i]->kind != TYPE_OBJECT || model->types.items[i]->implicit)
        i++;
    assert_true(write_json_schema(output, model, with, model->types.items[i]->name, true));
}

static void write_diff_of_both(struct output *output, const struct model *model, const struct backend_options *unused)
{
    (void)unused;
    struct compilation compilation = { .arena = output->arena, .messages = stderr };
    struct model other;
    assert_true(build(&other, &compilation, files[0]));
    write_diff(output, model, &other);
}

typedef void writer(struct output *output, const struct model *model, const struct backend_options *with);

/* False if memory ran out. */
static bool write_unless_memory_fails(writer *write, const struct model *model, struct arena *arena)
{
    jmp_buf here;
    on_abort = &here;
    volatile bool wrote = false;
    if (setjmp(here) == 0) {
        struct output output = { .arena = arena };
        write(&output, model, &options);
        wrote = true;
    }
    on_abort = NULL;
    return wrote;
}

/* Messages about memory are no news here. */
static int silence(void)
{
    int kept = dup(STDERR_FILENO), nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(nowhere, STDERR_FILENO);
    close(nowhere);
    return kept;
}

static void speak_again(int kept)
{
    dup2(kept, STDERR_FILENO);
    close(kept);
}

/* Returns how many allocations failed, one after the other. */
static long fail_each(writer *write, const struct model *model)
{
    for (long n = 0;; n++) {
        struct arena arena;
        arena_init(&arena, SIZE_MAX);
        long before = memory_live();
        int kept = silence();
        memory_fail_after(n);
        bool wrote = write_unless_memory_fails(write, model, &arena);
        bool failed = memory_has_failed();
        speak_again(kept);
        arena_fini(&arena);
        assert_int_equal(wrote, !failed);
        assert_int_equal(memory_live(), before);
        if (!failed)
            return n;
        assert_true(n < 10000);
    }
}

static void every_mode_survives(void **state)
{
    static writer *const writers[] = {
        write_types_header,
        write_types_source,
        write_descriptors_header,
        write_descriptors_source,
        write_commands_header,
        write_commands_source,
        write_events_header,
        write_events_source,
        write_introspect_header,
        write_introspect_source,
        write_introspect_json,
        write_client_header,
        write_client_source,
        write_model_json,
        write_docs_md,
        write_docs_html,
        write_docs_man,
        write_python,
        write_qapi,
        write_one_json_schema,
        write_yaml_schema,
        write_diff_of_both,
        only_build,
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        struct compilation compilation = { .arena = &file_arena, .messages = stderr };
        struct model model;
        assert_true(build(&model, &compilation, files[i]));
        for (size_t j = 0; j < ARRAY_SIZE(writers); j++)
            assert_true(fail_each(writers[j], &model) > 0);
    }
}

static int read_files(void **state)
{
    static const char *const paths[] = { SCHEMA_FOLDER "/valid/language.json", SCHEMA_FOLDER "/manual.json" };
    (void)state;
    arena_init(&file_arena, SIZE_MAX);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        int errnum;
        files[i] = source_read(&file_arena, paths[i], &errnum);
        if (!files[i])
            return -1;
    }
    return 0;
}

static int forget_files(void **state)
{
    (void)state;
    arena_fini(&file_arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mode_survives),
    };
    return cmocka_run_group_tests(tests, read_files, forget_files);
}
