#include "schema/codec/overlay.h"

#include "schema/codec/copy.h"
#include "schema/codec/value.h"

static size_t bytes_of(const struct type_descriptor *type)
{
    bool by_pointer = type->kind == VALUE_STRING || type->kind == VALUE_OBJECT || type->kind == VALUE_ALTERNATE ||
                      type->kind == VALUE_ARRAY;
    return by_pointer ? sizeof(void *) : type->size;
}

static void take_over(const struct member_descriptor *member, char *object, const void *over)
{
    const bool given = true;
    memcpy(object + member->offset, member_place(member, over), bytes_of(member->type));
    if (member->type->kind == VALUE_ARRAY)
        memcpy(object + member->count_offset, (const char *)over + member->count_offset, sizeof(size_t));
    if (member->has_offset != DESCRIPTOR_NO_OFFSET)
        memcpy(object + member->has_offset, &given, sizeof(given));
}

static bool put_together(const struct member_descriptor *member, char *object, const void *over, struct arena *arena)
{
    const void *both = value_overlay(member->type, value_pointer(object + member->offset),
                                     value_pointer(member_place(member, over)), arena);
    memcpy(object + member->offset, &both, sizeof(both));
    return both;
}

static bool overlay_members(const struct type_descriptor *type, char *object, const char *over, struct arena *arena)
{
    while (type) {
        for (uint32_t i = 0; i < type->object.count; i++) {
            const struct member_descriptor *member = &type->object.members[i];
            if (!(member->flags & MEMBER_OPTIONAL) || !member_present(member, over))
                continue;
            if (member->type->kind != VALUE_OBJECT || !member_present(member, object))
                take_over(member, object, over);
            else if (!put_together(member, object, over, arena))
                return false;
        }
        const struct type_descriptor *branch = union_branch(type, object);
        object += type->object.branch_offset;
        over += type->object.branch_offset;
        type = branch;
    }
    return true;
}

/* What is taken over still points into @over; the copy does not. */
void *value_overlay(const struct type_descriptor *type, const void *base, const void *over, struct arena *arena)
{
    char *object = arena_try_alloc(arena, type->size);
    if (!object)
        return NULL;
    memcpy(object, base, type->size);
    return overlay_members(type, object, over, arena) ? value_copy(type, object, arena) : NULL;
}
