/* value - members of values, as the tables say where they lie
 *
 * Shared by everything that walks values. All access goes through memcpy(), so no type is read as another. */
#ifndef CAIRN_SCHEMA_VALUE_H
#define CAIRN_SCHEMA_VALUE_H

#include "schema/codec/descriptor.h"

#include <string.h>

/* The layout of struct json_text, which the generated header defines for those who know no JSON. */
struct any_value {
    const char *text;
    size_t length;
};

static inline const void *value_pointer(const void *place)
{
    const void *pointer;
    memcpy(&pointer, place, sizeof(pointer));
    return pointer;
}

static inline int value_enum(const void *place)
{
    int value;
    memcpy(&value, place, sizeof(value));
    return value;
}

static inline bool value_bool(const void *place)
{
    bool value;
    memcpy(&value, place, sizeof(value));
    return value;
}

static inline size_t value_count(const void *place)
{
    size_t count;
    memcpy(&count, place, sizeof(count));
    return count;
}

static inline int64_t value_signed(const void *place, size_t bytes)
{
    switch (bytes) {
    case 1:
        return *(const int8_t *)place;
    case 2: {
        int16_t value;
        memcpy(&value, place, sizeof(value));
        return value;
    }
    case 4: {
        int32_t value;
        memcpy(&value, place, sizeof(value));
        return value;
    }
    default: {
        int64_t value;
        memcpy(&value, place, sizeof(value));
        return value;
    }
    }
}

static inline uint64_t value_unsigned(const void *place, size_t bytes)
{
    switch (bytes) {
    case 1:
        return *(const uint8_t *)place;
    case 2: {
        uint16_t value;
        memcpy(&value, place, sizeof(value));
        return value;
    }
    case 4: {
        uint32_t value;
        memcpy(&value, place, sizeof(value));
        return value;
    }
    default: {
        uint64_t value;
        memcpy(&value, place, sizeof(value));
        return value;
    }
    }
}

static inline const void *member_place(const struct member_descriptor *member, const void *object)
{
    return (const char *)object + member->offset;
}

/* What an optional member has where it is absent; NULL: nothing. */
static inline const void *member_default(const struct member_descriptor *member)
{
    return member->extra ? member->extra->default_value : NULL;
}

/* Whether a member is there, with what was given rather than its default; members that are not optional always are,
 * right or wrong. */
static inline bool member_present(const struct member_descriptor *member, const void *object)
{
    if (!(member->flags & MEMBER_OPTIONAL))
        return true;
    if (member->has_offset != DESCRIPTOR_NO_OFFSET)
        return value_bool((const char *)object + member->has_offset);
    const void *value = value_pointer(member_place(member, object)), *fallback = member_default(member);
    return value && !(fallback && value == value_pointer(fallback));
}

/* The type that the discriminator of a union adds; NULL for nothing. @object was decoded or is to be trusted no further
 * than its bounds. */
static inline const struct type_descriptor *union_branch(const struct type_descriptor *type, const void *object)
{
    if (!type->object.branch_count)
        return NULL;
    const struct member_descriptor *member = &type->object.members[type->object.tag];
    const void *fallback = member_default(member);
    int tag = value_enum(fallback && !member_present(member, object) ? fallback : member_place(member, object));
    return tag >= 0 && (uint32_t)tag < type->object.branch_count ? type->object.branches[tag] : NULL;
}

#endif
