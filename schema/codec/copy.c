#include "schema/codec/copy.h"

#include "schema/codec/value.h"

struct copying {
    struct arena *arena;
    value_text *text; /* NULL: texts stay as they are */
};

static bool copy_inside(const struct type_descriptor *type, void *place, const struct copying *copying);
static void *copy_value(const struct type_descriptor *type, const void *value, const struct copying *copying);

static bool copy_text(void *place, const struct copying *copying)
{
    const char *text = value_pointer(place);
    if (!text)
        return true;
    const char *copy = arena_try_strndup(copying->arena, text, strlen(text));
    memcpy(place, &copy, sizeof(copy));
    return copy;
}

static bool copy_any(void *place, const struct copying *copying)
{
    struct any_value any;
    memcpy(&any, place, sizeof(any));
    if (!any.text)
        return true;
    any.text = arena_try_strndup(copying->arena, any.text, any.length);
    memcpy(place, &any, sizeof(any));
    return any.text;
}

static bool copy_pointed(const struct type_descriptor *type, void *place, const struct copying *copying)
{
    const void *from = value_pointer(place);
    if (!from)
        return true;
    void *to = copy_value(type, from, copying);
    memcpy(place, &to, sizeof(to));
    return to;
}

static bool copy_elements(const struct type_descriptor *element, void *items_place, size_t count,
                          const struct copying *copying)
{
    const void *from = value_pointer(items_place);
    char *to = arena_try_array(copying->arena, count, element->size);
    if (!to)
        return false;
    if (count)
        memcpy(to, from, count * element->size);
    for (size_t i = 0; i < count; i++)
        if (!copy_inside(element, to + i * element->size, copying))
            return false;
    memcpy(items_place, &to, sizeof(to));
    return true;
}

/* Of one member: a text, or a list of them that is a copy already. */
static void change_texts(const struct type_descriptor *type, const struct member_descriptor *member, char *object,
                         const struct copying *copying)
{
    bool is_list = member->type->kind == VALUE_ARRAY;
    char *place = object + member->offset;
    char *items = is_list ? (char *)(uintptr_t)value_pointer(place) : place;
    size_t count = is_list ? value_count(object + member->count_offset) : 1;
    for (size_t i = 0; i < count; i++) {
        const char *text = value_pointer(items + i * sizeof(text));
        const char *changed = text ? copying->text(type, object, member, text, copying->arena) : NULL;
        if (changed)
            memcpy(items + i * sizeof(text), &changed, sizeof(changed));
    }
}

static bool holds_texts(const struct type_descriptor *type)
{
    return (type->kind == VALUE_ARRAY ? type->array.element : type)->kind == VALUE_STRING;
}

static bool copy_member(const struct member_descriptor *member, char *object, const struct copying *copying)
{
    void *place = object + member->offset;
    if (!member_present(member, object)) /* a default is constant */
        return true;
    if (member->type->kind == VALUE_ARRAY)
        return copy_elements(member->type->array.element, place, value_count(object + member->count_offset), copying);
    if (member->type->kind == VALUE_OBJECT || member->type->kind == VALUE_ALTERNATE)
        return copy_pointed(member->type, place, copying);
    return copy_inside(member->type, place, copying);
}

static bool copy_object(const struct type_descriptor *type, char *object, const struct copying *copying)
{
    while (type) {
        for (uint32_t i = 0; i < type->object.count; i++) {
            const struct member_descriptor *member = &type->object.members[i];
            if (!copy_member(member, object, copying))
                return false;
            if (copying->text && holds_texts(member->type) && member_present(member, object))
                change_texts(type, member, object, copying);
        }
        const struct type_descriptor *branch = union_branch(type, object);
        object += type->object.branch_offset;
        type = branch;
    }
    return true;
}

static bool copy_alternate(const struct type_descriptor *type, char *value, const struct copying *copying)
{
    const struct type_descriptor *branch = type->alternate.branches[value_enum(value)].type;
    char *place = value + type->alternate.branch_offset;
    return branch->kind == VALUE_OBJECT ? copy_pointed(branch, place, copying) : copy_inside(branch, place, copying);
}

/* @place holds a copy of the value's own bytes: makes what they point to a copy too. */
static bool copy_inside(const struct type_descriptor *type, void *place, const struct copying *copying)
{
    switch (type->kind) {
    case VALUE_STRING:
        return copy_text(place, copying);
    case VALUE_ANY:
        return copy_any(place, copying);
    case VALUE_OBJECT:
        return copy_object(type, place, copying);
    case VALUE_ALTERNATE:
        return copy_alternate(type, place, copying);
    case VALUE_ARRAY:
        return copy_elements(type->array.element, place,
                             value_count((char *)place + offsetof(struct descriptor_list, count)), copying);
    default:
        return true;
    }
}

static void *copy_value(const struct type_descriptor *type, const void *value, const struct copying *copying)
{
    void *copy = arena_try_alloc(copying->arena, type->size);
    if (!copy)
        return NULL;
    memcpy(copy, value, type->size);
    return copy_inside(type, copy, copying) ? copy : NULL;
}

void *value_copy(const struct type_descriptor *type, const void *value, struct arena *arena)
{
    return copy_value(type, value, &(struct copying){ .arena = arena });
}

void *value_copy_with(const struct type_descriptor *type, const void *value, struct arena *arena, value_text *text)
{
    return copy_value(type, value, &(struct copying){ .arena = arena, .text = text });
}
