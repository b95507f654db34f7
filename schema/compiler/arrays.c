/* Arrays of types. Where [ 'Foo' ] stands, a type FooList comes into being, which other definitions may name: QEMU's
 * generator makes these types when it meets the definition, and checks them just before it. */
#include "schema/compiler/model_private.h"

#include <string.h>

static const char suffix[] = "List";

/* An array as a definition has it. */
struct array_use {
    const struct syntax *element;
    struct location definition_at;
    size_t definition;
    struct subject subject; /* who has it */
};

struct type *builder_array(struct builder *builder, struct type *element)
{
    if (!element->array) {
        struct arena *arena = builder->compilation->arena;
        struct type *array = builder_new_type(builder, TYPE_ARRAY, arena_printf(arena, "%s%s", element->name, suffix),
                                              arena_printf(arena, "%s_list", element->c_name));
        array->element = element;
        array->condition = element->condition;
        array->at = element->at;
        array->state = TYPE_RESOLVED;
        element->array = array;
        if (element->plain)
            builder_array(builder, element->plain);
    }
    return element->array;
}

static void note_array(struct builder *builder, const struct definition *definition, const struct syntax *type,
                       struct subject subject)
{
    struct arena *arena = builder->compilation->arena;
    if (!type || type->kind != SYNTAX_ARRAY)
        return;
    struct array_use *use = arena_alloc(arena, sizeof(*use));
    *use = (struct array_use){
        .element = type->items.items[0],
        .definition_at = definition->body->at,
        .definition = builder->model->entities.count,
        .subject = subject,
    };
    if (!names_add(&builder->arrays, arena, use->element->string, use))
        VECTOR_PUSH(arena, &builder->array_uses, use);
}

static void note_arrays(struct builder *builder, const struct definition *definition, const struct syntax *members,
                        const char *role)
{
    if (!members || members->kind != SYNTAX_OBJECT)
        return;
    for (size_t i = 0; i < members->pairs.count; i++) {
        const struct syntax_pair *pair = &members->pairs.items[i];
        const struct syntax *type = pair->value->kind == SYNTAX_OBJECT ? syntax_get(pair->value, "type") : pair->value;
        note_array(builder, definition, type, (struct subject){ role, pair->key + (pair->key[0] == '*') });
    }
}

void builder_note_arrays(struct builder *builder, const struct definition *definition)
{
    const struct syntax *body = definition->body, *data = syntax_get(body, "data");
    bool payload = strcmp(definition->meta, "command") == 0 || strcmp(definition->meta, "event") == 0;
    bool alternate = strcmp(definition->meta, "alternate") == 0;
    if (strcmp(definition->meta, "enum") == 0)
        return;
    note_arrays(builder, definition, syntax_get(body, "base"), "base member");
    note_arrays(builder, definition, data, payload ? "parameter" : alternate ? "branch" : "member");
    note_array(builder, definition, syntax_get(body, "returns"), (struct subject){ "command's 'returns'", NULL });
}

bool builder_check_arrays(struct builder *builder, size_t definition)
{
    builder->turn = definition;
    for (; builder->arrays_checked < builder->array_uses.count; builder->arrays_checked++) {
        const struct array_use *use = builder->array_uses.items[builder->arrays_checked];
        if (use->definition != definition)
            break;
        if (!builder_find_type(builder, use->element->string))
            return builder_unknown_type(builder, use->definition_at, use->element, use->subject);
    }
    return true;
}

/* Stands for an array of a type that does not exist. That is an error where the array stands, and comes up when that
 * definition has its turn. */
static struct type *array_of_unknown(struct builder *builder, const char *name)
{
    struct arena *arena = builder->compilation->arena;
    struct type *element = arena_alloc(arena, sizeof(*element)), *array = arena_alloc(arena, sizeof(*array));
    *element = *(const struct type *)names_get(&builder->types, "any");
    element->name = name;
    *array = (struct type){ .kind = TYPE_ARRAY, .name = name, .c_name = name, .element = element };
    array->state = TYPE_RESOLVED;
    return array;
}

struct type *builder_array_of(struct builder *builder, const char *element)
{
    struct type *type = builder_find_type(builder, element);
    return type ? builder_array(builder, type) : array_of_unknown(builder, element);
}

/* "Foo" of "FooList"; NULL if it is no such name. */
static const char *element_name(struct builder *builder, const char *name)
{
    size_t length = strlen(name);
    if (length <= strlen(suffix) || strcmp(name + length - strlen(suffix), suffix) != 0)
        return NULL;
    return arena_strndup(builder->compilation->arena, name, length - strlen(suffix));
}

struct type *builder_find_array(struct builder *builder, const char *name)
{
    const char *element = element_name(builder, name);
    const struct type *type = element ? names_get(&builder->types, element) : NULL;
    bool built_in = type && type->kind == TYPE_BUILTIN && !type->plain;
    return element && (built_in || names_get(&builder->arrays, element)) ? builder_array_of(builder, element) : NULL;
}

void builder_note_array_form(struct builder *builder, struct location at, const char *name)
{
    const char *element = element_name(builder, name);
    if (element && names_get(&builder->types, element))
        compilation_note(builder->compilation, at, "the array of '%s' is [ '%s' ]", element, element);
}

bool builder_array_is_later(const struct builder *builder, const struct type *array)
{
    const struct array_use *use = names_get(&builder->arrays, array->element->name);
    return use && use->definition > builder->turn;
}
