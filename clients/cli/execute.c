#include "clients/cli/execute.h"

#include "blockcore/base/memory.h"
#include "clients/cli/arguments.h"
#include "schema/codec/json_parse.h"

#include <stdio.h>
#include <string.h>

/* "-" is an object on standard input. */
static struct error *parse_object(const char *word, json_t **out)
{
    bool from_stdin = strcmp(word, "-") == 0;
    const char *source = from_stdin ? "standard input" : word;
    CLEANUP(free) char *input = NULL;
    size_t capacity = 0;
    ssize_t bytes = from_stdin ? getdelim(&input, &capacity, EOF, stdin) : (ssize_t)strlen(word);
    CLEANUP(json_decref) json_t *object = NULL;
    struct error *err = json_parse(from_stdin ? input : word, bytes > 0 ? (size_t)bytes : 0, JSON_VALUES_MAX, &object);

    if (!err && !json_is_object(object))
        err = error_new("arguments must be an object");
    if (!err)
        *out = steal(&object);
    return error_wrap(err, "%s", source);
}

/* Sorts the words into @arguments (what is JSON already) and *tree (what still needs its types). */
static struct error *collect_arguments(size_t count, char *const *words, json_t *arguments, json_t **tree)
{
    CLEANUP(free) char **pairs = xcalloc(count ? count : 1, sizeof(*pairs));
    size_t pair_count = 0;

    for (size_t i = 0; i < count; i++) {
        if (words[i][0] != '{' && strcmp(words[i], "-") != 0) {
            pairs[pair_count++] = words[i];
            continue;
        }
        CLEANUP(json_decref) json_t *object = NULL;
        struct error *err = parse_object(words[i], &object);
        if (err)
            return err;
        json_object_update(arguments, object);
    }
    return arguments_parse(pair_count, pairs, tree);
}

static struct error *add_typed(struct client *client, struct introspection **introspection, const char *command,
                               json_t *tree, json_t *arguments)
{
    struct error *err = *introspection ? NULL : introspection_load(client, introspection);
    if (err)
        return err;

    CLEANUP(json_decref) json_t *typed = NULL;
    err = arguments_convert(*introspection, introspection_arguments(*introspection, command), tree, &typed);
    if (!err)
        json_object_update(arguments, typed);
    return err;
}

struct error *execute_words(struct client *client, struct introspection **introspection, size_t count,
                            char *const *words, json_t **result)
{
    CLEANUP(json_decref) json_t *arguments = json_object();
    CLEANUP(json_decref) json_t *tree = NULL;

    struct error *err = collect_arguments(count - 1, words + 1, arguments, &tree);
    if (!err && json_object_size(tree) > 0)
        err = add_typed(client, introspection, words[0], tree, arguments);
    if (err)
        return err;
    return client_call(client, words[0], steal(&arguments), result);
}
