/* Commands for objects (schema/objects.json).
 *
 * What properties an object has, is what the schema says its kind takes: the tables of the codec are walked, so a new
 * kind needs nothing here. Paths are those of QEMU: "/" holds "objects", which holds one object per id. */
#include "blockcore/objects/object.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "daemon/object.h"
#include "schema/cairn_commands.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/decode.h"
#include "schema/codec/encode.h"
#include "schema/codec/json_parse.h"
#include "schema/codec/value.h"

#include <stdio.h>
#include <string.h>

struct error *handle_object_add(struct command_context *context, const struct object_options *arguments)
{
    (void)context;
    const struct object *there = arguments->if_absent ? object_find(arguments->id) : NULL;
    return there && object_kind_of(there)->type == arguments->qom_type ? NULL : object_add(arguments);
}

struct error *handle_object_del(struct command_context *context, const struct object_del_arguments *arguments)
{
    (void)context;
    return arguments->if_present && !object_find(arguments->id) ? NULL : object_del(arguments->id);
}

/* Paths ------------------------------------------------------------------------------------------------------- */

/* What a path leads to. */
struct place {
    enum { PLACE_ROOT, PLACE_OBJECTS, PLACE_OBJECT } kind;
    struct object *object; /* of PLACE_OBJECT */
};

static const char *place_type(const struct place *place)
{
    return place->kind == PLACE_OBJECT ? object_type_name(object_kind_of(place->object)->type) : "container";
}

/* One step down the tree. False where there is nothing of this name. */
static bool step_into(struct place *place, const char *name)
{
    if (place->kind == PLACE_ROOT && strcmp(name, "objects") == 0) {
        place->kind = PLACE_OBJECTS;
        return true;
    }
    struct object *object = place->kind == PLACE_OBJECTS ? object_find(name) : NULL;
    if (!object)
        return false;
    *place = (struct place){ .kind = PLACE_OBJECT, .object = object };
    return true;
}

static bool walk_from(struct place *place, const char *path)
{
    CLEANUP(free) char *steps = xstrdup(path);
    char *rest = NULL;
    for (char *step = strtok_r(steps, "/", &rest); step; step = strtok_r(NULL, "/", &rest)) {
        if (!step_into(place, step))
            return false;
    }
    return true;
}

/* A path that does not begin with '/' may begin at any level; ids and "objects" lead to one place each. */
static struct error *find_place(const char *path, struct place *place)
{
    if (!*path)
        return error_new("Path '' is ambiguous");
    *place = (struct place){ .kind = PLACE_ROOT };
    if (walk_from(place, path))
        return NULL;
    *place = (struct place){ .kind = PLACE_OBJECTS };
    if (*path != '/' && walk_from(place, path))
        return NULL;
    return error_new_class(ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", path);
}

/* Properties -------------------------------------------------------------------------------------------------- */

static const struct type_descriptor *properties_of(enum object_type type)
{
    return object_options_descriptor.object.branches[type];
}

static const struct member_descriptor *find_property(enum object_type type, const char *name)
{
    const struct type_descriptor *properties = properties_of(type);
    for (uint32_t i = 0; i < properties->object.count; i++) {
        if (strcmp(properties->object.members[i].name, name) == 0)
            return &properties->object.members[i];
    }
    return NULL;
}

/* As QEMU calls it: an array by what is in it. */
static const char *type_name(const struct type_descriptor *type)
{
    if (type->kind == VALUE_ARRAY)
        type = type->array.element;
    switch (type->kind) {
    case VALUE_BOOL:
        return "bool";
    case VALUE_SIGNED:
    case VALUE_UNSIGNED:
    case VALUE_SIZE:
        return "int";
    case VALUE_STRING:
        return "string";
    default:
        return type->name;
    }
}

/* "type" and what the kind takes. */
static void list_kind(struct arena *arena, enum object_type type, struct object_property_info_list *list)
{
    const struct type_descriptor *properties = properties_of(type);
    list->items = arena_array(arena, properties->object.count + 1, sizeof(*list->items));
    list->items[list->count++] = (struct object_property_info){ .name = "type", .type = "string" };
    for (uint32_t i = 0; i < properties->object.count; i++) {
        const struct member_descriptor *member = &properties->object.members[i];
        list->items[list->count++] =
            (struct object_property_info){ .name = member->name, .type = type_name(member->type) };
    }
}

static void list_container(struct arena *arena, const struct place *place, struct object_property_info_list *list)
{
    size_t count = 2;
    for (struct object *object = object_next(NULL); object; object = object_next(object))
        count++;
    list->items = arena_array(arena, count, sizeof(*list->items));
    list->items[list->count++] = (struct object_property_info){ .name = "type", .type = "string" };
    if (place->kind == PLACE_ROOT) {
        list->items[list->count++] = (struct object_property_info){ .name = "objects", .type = "child<container>" };
        return;
    }
    for (struct object *object = object_next(NULL); object; object = object_next(object)) {
        list->items[list->count++] = (struct object_property_info){
            .name = arena_strdup(arena, object_id(object)),
            .type = arena_printf(arena, "child<%s>", object_type_name(object_kind_of(object)->type)),
        };
    }
}

struct error *handle_qom_list(struct command_context *context, const struct qom_list_arguments *arguments,
                              struct object_property_info_list *result)
{
    struct place place;
    struct error *err = find_place(arguments->path, &place);
    if (err)
        return err;
    if (place.kind == PLACE_OBJECT)
        list_kind(command_arena(context), object_kind_of(place.object)->type, result);
    else
        list_container(command_arena(context), &place, result);
    return NULL;
}

static struct error *property_not_found(const struct place *place, const char *name)
{
    return error_new("Property '%s.%s' not found", place_type(place), name);
}

/* The member's value in the form that encode_value() takes; NULL where it is absent. @list is memory for it. */
static const void *member_value(const struct member_descriptor *member, const void *object,
                                struct descriptor_list *list)
{
    const void *at = member_place(member, object);
    if (!member_present(member, object) && !member_default(member))
        return NULL;
    switch (member->type->kind) {
    case VALUE_OBJECT:
    case VALUE_ALTERNATE:
        return value_pointer(at);
    case VALUE_ARRAY:
        list->items = (void *)(uintptr_t)value_pointer(at);
        list->count = value_count((const char *)object + member->count_offset);
        return list;
    case VALUE_STRING:
        return value_pointer(at) ? at : NULL;
    default:
        return at;
    }
}

static struct error *give_text(struct arena *arena, struct text *text, struct json_text *result)
{
    *result = (struct json_text){
        .text = arena_strndup(arena, text->data, text->length),
        .length = text->length,
    };
    return NULL;
}

static struct error *get_property(struct arena *arena, const struct object *object,
                                  const struct member_descriptor *member, struct json_text *result)
{
    const struct object_kind *kind = object_kind_of(object);
    if (member->flags & MEMBER_SECRET)
        return error_new("Property '%s.%s' is not readable", object_type_name(kind->type), member->name);
    struct object_options now = { .qom_type = kind->type, .id = object_id(object) };
    kind->describe(object, &now, arena);
    struct descriptor_list list;
    const void *value = member_value(member, &now.u, &list);
    CLEANUP(text_fini) struct text text = { 0 };
    struct error *err = NULL;
    if (value)
        err = encode_value(&text, member->type, value, ENCODE_REDACT, 0);
    else
        text_append_string(&text, member->type->kind == VALUE_STRING ? "\"\"" : "null");
    return err ? err : give_text(arena, &text, result);
}

/* Of what holds objects: the path of what is inside. */
static struct error *get_child(struct arena *arena, const struct place *place, const char *name,
                               struct json_text *result)
{
    struct place child = *place;
    if (!step_into(&child, name))
        return property_not_found(place, name);
    CLEANUP(text_fini) struct text text = { 0 };
    CLEANUP(free) char *path = xasprintf("%s/%s", place->kind == PLACE_ROOT ? "" : "/objects", name);
    text_append_json(&text, path);
    return give_text(arena, &text, result);
}

struct error *handle_qom_get(struct command_context *context, const struct qom_get_arguments *arguments,
                             struct json_text *result)
{
    struct arena *arena = command_arena(context);
    struct place place;
    struct error *err = find_place(arguments->path, &place);
    if (err)
        return err;
    if (strcmp(arguments->property, "type") == 0) {
        CLEANUP(text_fini) struct text text = { 0 };
        text_append_json(&text, place_type(&place));
        return give_text(arena, &text, result);
    }
    if (place.kind != PLACE_OBJECT)
        return get_child(arena, &place, arguments->property, result);
    const struct member_descriptor *member = find_property(object_kind_of(place.object)->type, arguments->property);
    if (!member)
        return property_not_found(&place, arguments->property);
    return get_property(arena, place.object, member, result);
}

/* Changing a property is decoded like an object that has nothing else. */
static struct error *set_property(struct arena *arena, struct object *object, const char *name,
                                  const struct json_text *value)
{
    const struct object_kind *kind = object_kind_of(object);
    json_t *parsed = NULL;
    struct error *err = json_parse(value->text, value->length, JSON_VALUES_MAX, &parsed);
    if (err)
        return err;
    json_t *tree =
        json_pack("{s:s, s:s, s:o}", "qom-type", object_type_name(kind->type), "id", object_id(object), name, parsed);
    void *given = NULL;
    err = decode_value(&object_options_descriptor, tree, DECODE_JSON, "", arena, &given, NULL);
    json_decref(tree);
    return err ? err : object_change(object, given, NULL);
}

static bool has_property(const struct place *place, const char *name)
{
    struct place inside = *place;
    if (strcmp(name, "type") == 0)
        return true;
    if (place->kind == PLACE_OBJECT)
        return find_property(object_kind_of(place->object)->type, name) != NULL;
    return step_into(&inside, name);
}

struct error *handle_qom_set(struct command_context *context, const struct qom_set_arguments *arguments)
{
    const char *name = arguments->property;
    struct place place;
    struct error *err = find_place(arguments->path, &place);
    if (err)
        return err;
    if (!has_property(&place, name))
        return property_not_found(&place, name);
    if (place.kind != PLACE_OBJECT || strcmp(name, "type") == 0 || !object_kind_of(place.object)->change)
        return error_new("Property '%s.%s' is not writable", place_type(&place), name);
    return set_property(command_arena(context), place.object, name, &arguments->value);
}

/* Types ------------------------------------------------------------------------------------------------------- */

#define CREATABLE "user-creatable" /* the interface of what object-add makes */

/* Types beside those of objects: what these descend from. */
static const struct ancestor {
    const char *name;
    const char *parent;
    bool abstract;
} ancestors[] = {
    { "object", NULL, true },         { CREATABLE, "interface", true },      { "authz", "object", true },
    { "container", "object", false }, { "event-loop-base", "object", true }, { "secret_common", "object", true },
    { "tls-creds", "object", true },
};

static const struct ancestor *find_ancestor(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(ancestors); i++) {
        if (strcmp(ancestors[i].name, name) == 0)
            return &ancestors[i];
    }
    return NULL;
}

static bool find_kind(const char *name, enum object_type *type)
{
    for (int i = 0; i < OBJECT_TYPE__MAX; i++) {
        if (strcmp(object_type_name((enum object_type)i), name) == 0) {
            *type = (enum object_type)i;
            return true;
        }
    }
    return false;
}

/* Is @name @wanted, or does it descend from it? */
static bool descends(const char *name, const char *parent, const char *wanted)
{
    while (name && strcmp(name, wanted) != 0) {
        const struct ancestor *ancestor = parent ? find_ancestor(parent) : NULL;
        name = parent;
        parent = ancestor ? ancestor->parent : NULL;
    }
    return name;
}

struct error *handle_qom_list_types(struct command_context *context, const struct qom_list_types_arguments *arguments,
                                    struct object_type_info_list *result)
{
    const char *wanted = arguments->implements;
    result->items =
        arena_array(command_arena(context), OBJECT_TYPE__MAX + ARRAY_SIZE(ancestors), sizeof(*result->items));
    for (int i = 0; i < OBJECT_TYPE__MAX; i++) {
        const char *name = object_type_name((enum object_type)i);
        const char *parent = object_kinds[i]->parent;
        if (!wanted || strcmp(wanted, CREATABLE) == 0 || descends(name, parent, wanted))
            result->items[result->count++] = (struct object_type_info){ .name = name, .parent = parent };
    }
    for (size_t i = 0; i < ARRAY_SIZE(ancestors); i++) {
        const struct ancestor *type = &ancestors[i];
        if ((type->abstract && !arguments->abstract) || (wanted && !descends(type->name, type->parent, wanted)))
            continue;
        result->items[result->count++] = (struct object_type_info){
            .name = type->name,
            .has_abstract = type->abstract,
            .abstract = type->abstract,
            .parent = type->parent,
        };
    }
    return NULL;
}

struct error *handle_qom_list_properties(struct command_context *context,
                                         const struct qom_list_properties_arguments *arguments,
                                         struct object_property_info_list *result)
{
    struct arena *arena = command_arena(context);
    enum object_type type;
    if (find_kind(arguments->typename_, &type)) {
        list_kind(arena, type, result);
        return NULL;
    }
    const struct ancestor *ancestor = find_ancestor(arguments->typename_);
    if (!ancestor)
        return error_new_class(ERROR_DEVICE_NOT_FOUND, "Class '%s' not found", arguments->typename_);
    if (ancestor->abstract)
        return error_new("Parameter 'typename' expects a QOM type: '%s' is abstract", arguments->typename_);
    result->items = arena_alloc(arena, sizeof(*result->items));
    result->items[result->count++] = (struct object_property_info){ .name = "type", .type = "string" };
    return NULL;
}

/* Help -------------------------------------------------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_kinds(void)
{
    const char *names[OBJECT_TYPE__MAX];
    for (int i = 0; i < OBJECT_TYPE__MAX; i++)
        names[i] = object_type_name((enum object_type)i);
    qsort(names, ARRAY_SIZE(names), sizeof(names[0]), compare_names);
    puts("List of user creatable objects:");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        printf("  %s\n", names[i]);
}

/* In the order of their lines. */
static void print_properties(const struct type_descriptor *properties)
{
    uint32_t count = properties->object.count;
    char **lines = xcalloc(count ? count : 1, sizeof(*lines));
    for (uint32_t i = 0; i < count; i++) {
        const struct member_descriptor *member = &properties->object.members[i];
        lines[i] = xasprintf("  %s=<%s>", member->name, type_name(member->type));
    }
    qsort(lines, count, sizeof(lines[0]), compare_names);
    for (uint32_t i = 0; i < count; i++) {
        puts(lines[i]);
        free(lines[i]);
    }
    free(lines);
}

void object_print_help(const char *text)
{
    size_t length = strcspn(text, ",");
    CLEANUP(free) char *name = xstrndup(text, length);
    const char *given = strncmp(name, "qom-type=", 9) == 0 ? name + 9 : name;
    enum object_type type;
    if (!find_kind(given, &type)) {
        print_kinds();
        return;
    }
    printf("%s options:\n", given);
    print_properties(properties_of(type));
}
