#include "clients/cli/completion.h"

#include "blockcore/base/memory.h"
#include "clients/cli/arguments.h"
#include "clients/cli/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Appends "@prefix@name@suffix" if it begins with @word. */
static void offer(json_t *candidates, const char *word, const char *prefix, const char *name, const char *suffix)
{
    CLEANUP(free) char *candidate = xasprintf("%s%s%s", prefix, name, suffix);

    if (strncmp(candidate, word, strlen(word)) == 0)
        json_array_append_new(candidates, json_string(candidate));
}

static void offer_all(json_t *candidates, const char *word, const char *prefix, const json_t *names)
{
    size_t i;
    const json_t *name;

    json_array_foreach(names, i, name) offer(candidates, word, prefix, json_string_value(name), "");
}

static bool is_boolean(const json_t *type)
{
    return type_json(type) && strcmp(type_json(type), "boolean") == 0;
}

/* Does an object of this type, or an alternate that may be an object, lead on with a dot? */
static const json_t *as_object(const struct introspection *introspection, const json_t *type)
{
    const json_t *candidate;

    if (strcmp(type_meta(type), "object") == 0)
        return type;
    if (strcmp(type_meta(type), "alternate") != 0)
        return NULL;
    for (size_t i = 0; (candidate = type_alternative(introspection, type, i)); i++)
        if (strcmp(type_meta(candidate), "object") == 0)
            return candidate;
    return NULL;
}

/* Follows the keys of @path ("file.cache.") down from *type and *value. False when they lead nowhere. */
static bool descend(const struct introspection *introspection, char *path, const json_t **type, const json_t **value)
{
    for (char *key = strsep(&path, "."); key; key = strsep(&path, ".")) {
        const json_t *member = type_member(introspection, *type, *value, key);
        if (member && strcmp(type_meta(member), "array") == 0 && path) {
            *value = json_object_get(*value, key);
            key = strsep(&path, ".");
            member = type_element(introspection, member);
        }
        *type = as_object(introspection, member);
        *value = json_is_array(*value) ? json_array_get(*value, strtoul(key, NULL, 10)) : json_object_get(*value, key);
        if (!*type)
            return false;
    }
    return true;
}

static void offer_members(json_t *candidates, const struct introspection *introspection, const char *word,
                          const char *prefix, const json_t *type, const json_t *value)
{
    CLEANUP(json_decref) json_t *names = type_member_names(introspection, type, value);
    size_t i;
    const json_t *name;

    json_array_foreach(names, i, name)
    {
        const json_t *member = type_member(introspection, type, value, json_string_value(name));
        bool is_scalar = strcmp(type_meta(member), "object") != 0 && strcmp(type_meta(member), "array") != 0;

        if (as_object(introspection, member) || strcmp(type_meta(member), "array") == 0)
            offer(candidates, word, prefix, json_string_value(name), ".");
        if (is_scalar && !json_object_get(value, json_string_value(name)))
            offer(candidates, word, prefix, json_string_value(name), "=");
    }
}

static void offer_values(json_t *candidates, const struct introspection *introspection, const char *word,
                         const json_t *type)
{
    size_t key_length = (size_t)(strchr(word, '=') - word) + 1;
    CLEANUP(free) char *prefix = xstrndup(word, key_length);
    const json_t *alternative;

    if (is_boolean(type)) {
        offer(candidates, word, prefix, "on", "");
        offer(candidates, word, prefix, "off", "");
    }
    offer_all(candidates, word, prefix, type_values(type));
    for (size_t i = 0; (alternative = type_alternative(introspection, type, i)); i++)
        offer_all(candidates, word, prefix, type_values(alternative));
}

/* The last word is an argument of a command whose arguments are of @type; @value: those that stand before it. */
static void complete_argument(json_t *candidates, const struct introspection *introspection, const char *word,
                              const json_t *type, const json_t *value)
{
    const char *equals = strchr(word, '=');
    size_t path_length = equals ? (size_t)(equals - word) : strlen(word);

    while (path_length > 0 && word[path_length - 1] != '.')
        path_length--;
    CLEANUP(free) char *prefix = xstrndup(word, path_length);
    if (path_length > 0) {
        CLEANUP(free) char *path = xstrndup(word, path_length - 1);
        if (!descend(introspection, path, &type, &value))
            return;
    }
    if (!equals) {
        offer_members(candidates, introspection, word, prefix, type, value);
        return;
    }
    CLEANUP(free) char *key = xstrndup(word + path_length, (size_t)(equals - word) - path_length);
    offer_values(candidates, introspection, word, type_member(introspection, type, value, key));
}

/* Adds a word to those that @value is made of. False for JSON and what is half-written: it says nothing about what
 * comes next. */
static bool keep_word(char **words, size_t count, char *word, json_t **value)
{
    json_t *longer = NULL;
    words[count] = word;
    CLEANUP(error_free) struct error *err = arguments_parse(count + 1, words, &longer);
    if (err)
        return false;
    json_decref(*value);
    *value = longer;
    return true;
}

json_t *completion_candidates(const struct introspection *introspection, const char *line)
{
    json_t *candidates = json_array();
    CLEANUP(json_decref) json_t *value = json_object();
    CLEANUP(free) char *copy = xstrdup(line);
    char *words[WORDS_MAX], *rest = copy, *command = NULL, *word = strsep(&rest, " \t");
    size_t count = 0;

    for (; rest; word = strsep(&rest, " \t")) {
        if (!*word)
            continue;
        if (command && count < WORDS_MAX)
            count += keep_word(words, count, word, &value);
        else if (!command)
            command = word;
    }
    if (!command)
        offer_all(candidates, word, "", introspection_commands(introspection));
    else
        complete_argument(candidates, introspection, word, introspection_arguments(introspection, command), value);
    return candidates;
}
