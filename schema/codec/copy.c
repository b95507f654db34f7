#include "schema/codec/copy.h"

#include "schema/codec/value.h"

static bool copy_inside(const struct type_descriptor *type, void *place, struct arena *arena);

static bool copy_text(void *place, struct arena *arena)
{
    const char *text = value_pointer(place);
    if (!text)
        return true;
    const char *copy = arena_try_strndup(arena, text, strlen(text));
    memcpy(place, &copy, sizeof(copy));
    return copy;
}

static bool copy_any(void *place, struct arena *arena)
{
    struct any_value any;
    memcpy(&any, place, sizeof(any));
    if (!any.text)
        return true;
    any.text = arena_try_strndup(arena, any.text, any.length);
    memcpy(place, &any, sizeof(any));
    return any.text;
}

static bool copy_pointed(const struct type_descriptor *type, void *place, struct arena *arena)
{
    const void *from = value_pointer(place);
    if (!from)
        return true;
    void *to = value_copy(type, from, arena);
    memcpy(place, &to, sizeof(to));
    return to;
}

static bool copy_elements(const struct type_descriptor *element, void *items_place, size_t count, struct arena *arena)
{
    const void *from = value_pointer(items_place);
    char *to = arena_try_array(arena, count, element->size);
    if (!to)
        return false;
    if (count)
        memcpy(to, from, count * element->size);
    for (size_t i = 0; i < count; i++)
        if (!copy_inside(element, to + i * element->size, arena))
            return false;
    memcpy(items_place, &to, sizeof(to));
    return true;
}

static bool copy_member(const struct member_descriptor *member, char *object, struct arena *arena)
{
    void *place = object + member->offset;
    if (!member_present(member, object)) /* a default is constant */
        return true;
    if (member->type->kind == VALUE_ARRAY)
        return copy_elements(member->type->array.element, place, value_count(object + member->count_offset), arena);
    if (member->type->kind == VALUE_OBJECT || member->type->kind == VALUE_ALTERNATE)
        return copy_pointed(member->type, place, arena);
    return copy_inside(member->type, place, arena);
}

static bool copy_object(const struct type_descriptor *type, char *object, struct arena *arena)
{
    while (type) {
        for (uint32_t i = 0; i < type->object.count; i++)
            if (!copy_member(&type->object.members[i], object, arena))
                return false;
        const struct type_descriptor *branch = union_branch(type, object);
        object += type->object.branch_offset;
        type = branch;
    }
    return true;
}

static bool copy_alternate(const struct type_descriptor *type, char *value, struct arena *arena)
{
    const struct type_descriptor *branch = type->alternate.branches[value_enum(value)].type;
    char *place = value + type->alternate.branch_offset;
    return branch->kind == VALUE_OBJECT ? copy_pointed(branch, place, arena) : copy_inside(branch, place, arena);
}

/* @place holds a copy of the value's own bytes: makes what they point to a copy too. */
static bool copy_inside(const struct type_descriptor *type, void *place, struct arena *arena)
{
    switch (type->kind) {
    case VALUE_STRING:
        return copy_text(place, arena);
    case VALUE_ANY:
        return copy_any(place, arena);
    case VALUE_OBJECT:
        return copy_object(type, place, arena);
    case VALUE_ALTERNATE:
        return copy_alternate(type, place, arena);
    case VALUE_ARRAY:
        return copy_elements(type->array.element, place,
                             value_count((char *)place + offsetof(struct descriptor_list, count)), arena);
    default:
        return true;
    }
}

void *value_copy(const struct type_descriptor *type, const void *value, struct arena *arena)
{
    void *copy = arena_try_alloc(arena, type->size);
    if (!copy)
        return NULL;
    memcpy(copy, value, type->size);
    return copy_inside(type, copy, arena) ? copy : NULL;
}
