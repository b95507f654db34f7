#include "clients/cli/introspection.h"

#include "blockcore/base/memory.h"

#include <string.h>

struct introspection {
    json_t *schema;   /* the reply, which owns all types */
    json_t *by_name;  /* object: masked name of a type -> type */
    json_t *commands; /* object: name -> type of the arguments' name */
    json_t *sorted;   /* array of the commands' names */
};

static const char *text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text ? text : "";
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *sorted_keys(json_t *object)
{
    size_t count = json_object_size(object), i = 0;
    CLEANUP(free) const char **names = xcalloc(count ? count : 1, sizeof(*names));
    const char *key;
    json_t *value, *sorted = json_array();

    json_object_foreach(object, key, value) names[i++] = key;
    qsort(names, count, sizeof(*names), compare_names);
    for (i = 0; i < count; i++)
        json_array_append_new(sorted, json_string(names[i]));
    return sorted;
}

struct error *introspection_load(struct client *client, struct introspection **out)
{
    json_t *schema;
    struct error *err = client_call(client, "query-qmp-schema", NULL, &schema);
    if (err)
        return error_wrap(err, "query-qmp-schema");

    struct introspection *introspection = xcalloc(1, sizeof(*introspection));
    introspection->schema = schema;
    introspection->by_name = json_object();
    introspection->commands = json_object();

    size_t i;
    json_t *element;
    json_array_foreach(schema, i, element)
    {
        /* Commands and types have name spaces of their own. */
        if (strcmp(type_meta(element), "command") == 0)
            json_object_set(introspection->commands, text_of(element, "name"), json_object_get(element, "arg-type"));
        else if (strcmp(type_meta(element), "event") != 0)
            json_object_set(introspection->by_name, text_of(element, "name"), element);
    }
    introspection->sorted = sorted_keys(introspection->commands);
    *out = introspection;
    return NULL;
}

void introspection_free(struct introspection *introspection)
{
    if (!introspection)
        return;
    json_decref(introspection->schema);
    json_decref(introspection->by_name);
    json_decref(introspection->commands);
    json_decref(introspection->sorted);
    free(introspection);
}

const json_t *introspection_commands(const struct introspection *introspection)
{
    return introspection->sorted;
}

static const json_t *type_named(const struct introspection *introspection, const json_t *name)
{
    const char *text = json_string_value(name);
    return text ? json_object_get(introspection->by_name, text) : NULL;
}

const json_t *introspection_arguments(const struct introspection *introspection, const char *command)
{
    return type_named(introspection, json_object_get(introspection->commands, command));
}

const char *type_meta(const json_t *type)
{
    return text_of(type, "meta-type");
}

const char *type_json(const json_t *type)
{
    return json_string_value(json_object_get(type, "json-type"));
}

const json_t *type_values(const json_t *type)
{
    return json_object_get(type, "values");
}

bool type_has_value(const json_t *type, const char *value)
{
    size_t i;
    const json_t *item;

    json_array_foreach(type_values(type), i, item) if (strcmp(json_string_value(item), value) == 0) return true;
    return false;
}

const json_t *type_element(const struct introspection *introspection, const json_t *type)
{
    return type_named(introspection, json_object_get(type, "element-type"));
}

const json_t *type_alternative(const struct introspection *introspection, const json_t *type, size_t index)
{
    const json_t *members = json_object_get(type, "members");
    return type_named(introspection, json_object_get(json_array_get(members, index), "type"));
}

static const json_t *find_member(const struct introspection *introspection, const json_t *type, const char *name)
{
    size_t i;
    const json_t *member;

    json_array_foreach(json_object_get(type, "members"), i,
                       member) if (strcmp(text_of(member, "name"), name) ==
                                   0) return type_named(introspection, json_object_get(member, "type"));
    return NULL;
}

/* The type whose members an object gets by the value of its tag; NULL when it has no tag yet. */
static const json_t *chosen_variant(const struct introspection *introspection, const json_t *type, const json_t *value)
{
    const char *tag = text_of(type, "tag");
    const char *tag_value = text_of(value, tag);
    size_t i;
    const json_t *variant;

    json_array_foreach(json_object_get(type, "variants"), i,
                       variant) if (strcmp(text_of(variant, "case"), tag_value) ==
                                    0) return type_named(introspection, json_object_get(variant, "type"));
    return NULL;
}

const json_t *type_member(const struct introspection *introspection, const json_t *type, const json_t *value,
                          const char *name)
{
    const json_t *found = find_member(introspection, type, name);
    return found ? found : find_member(introspection, chosen_variant(introspection, type, value), name);
}

static void append_names(json_t *names, const json_t *type)
{
    size_t i;
    const json_t *member;

    json_array_foreach(json_object_get(type, "members"), i, member)
        json_array_append(names, json_object_get(member, "name"));
}

json_t *type_member_names(const struct introspection *introspection, const json_t *type, const json_t *value)
{
    json_t *names = json_array();

    append_names(names, type);
    append_names(names, chosen_variant(introspection, type, value));
    return names;
}
