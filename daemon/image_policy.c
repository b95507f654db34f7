#include "daemon/image_policy.h"

#include "blockcore/base/arena.h"
#include "blockcore/graph/image_name.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <stdlib.h>

static struct error *take_directories(const struct image_policy_options *options, struct arena *arena,
                                      const char **directories)
{
    for (size_t i = 0; i < options->directories_count; i++) {
        CLEANUP(free) char *real = realpath(options->directories[i], NULL);
        if (!real)
            return error_errno(errno, "directories[%zu]: cannot look up '%s'", i, options->directories[i]);
        directories[i] = arena_strdup(arena, real);
    }
    return NULL;
}

struct error *image_policy_begin(const struct image_policy_options *options)
{
    static struct arena arena;
    static struct image_policy policy;
    arena_fini(&arena);
    arena_init(&arena, SIZE_MAX);
    const char **directories = arena_array(&arena, options->directories_count, sizeof(char *));
    const char **schemes = arena_array(&arena, options->schemes_count, sizeof(char *));
    struct error *err = take_directories(options, &arena, directories);
    if (err)
        return err;
    for (size_t i = 0; i < options->schemes_count; i++)
        schemes[i] = arena_strdup(&arena, options->schemes[i]);
    policy = (struct image_policy){
        .any_directory = !options->has_directories,
        .directories = { .paths = directories, .count = options->directories_count },
        .schemes = schemes,
        .schemes_count = options->schemes_count,
        .json = options->has_json && options->json,
    };
    image_policy_set(&policy);
    return NULL;
}
