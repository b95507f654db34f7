#include "schema/codec/decode_private.h"

#include "schema/codec/scalar.h"
#include "schema/codec/suggest.h"
#include "schema/codec/value.h"

#include <stdio.h>
#include <string.h>

/* A part of an object: its own members, and for unions those that branches add. */
struct part {
    const struct type_descriptor *type;
    char *place;
    uint32_t next; /* index of the member behind the last one that was found */
};

struct parts {
    struct part items[DESCRIPTOR_UNION_DEPTH_MAX + 1];
    unsigned count;
};

static bool decode(struct decoder *decoder, const struct step *step, const struct type_descriptor *type,
                   const json_t *json, void *place);

static bool fail_unknown(struct decoder *decoder, const struct step *step, const struct suggestion *suggestion)
{
    struct error *err = suggestion->name ? error_new("unknown member (did you mean '%s'?)", suggestion->name)
                                         : error_new("unknown member");
    return decode_fail(decoder, step, true, err);
}

static bool enter(struct decoder *decoder, const struct step *step)
{
    if (decoder->depth == DECODE_DEPTH_MAX)
        return decode_fail(decoder, step, false, error_new("nested deeper than %d", DECODE_DEPTH_MAX));
    decoder->depth++;
    return true;
}

static bool decode_array(struct decoder *decoder, const struct step *step, const struct type_descriptor *element,
                         const json_t *json, void *items_place, void *count_place)
{
    if (!json_is_array(json))
        return decode_fail_type(decoder, step, "array", json);
    if (!enter(decoder, step))
        return false;
    size_t count = json_array_size(json);
    char *items = arena_try_array(decoder->arena, count, element->size);
    if (!items)
        return decode_fail_memory(decoder, step);
    for (size_t i = 0; i < count; i++) {
        struct step inside = { .up = step, .index = i };
        if (!decode(decoder, &inside, element, json_array_get(json, i), items + i * element->size))
            return false;
    }
    memcpy(items_place, &items, sizeof(items));
    memcpy(count_place, &count, sizeof(count));
    decoder->depth--;
    return true;
}

/* Decodes into memory of its own, to which *place points afterwards. */
static bool decode_pointed(struct decoder *decoder, const struct step *step, const struct type_descriptor *type,
                           const json_t *json, void *place)
{
    void *value = arena_try_alloc(decoder->arena, type->size);
    if (!value)
        return decode_fail_memory(decoder, step);
    if (!decode(decoder, step, type, json, value))
        return false;
    memcpy(place, &value, sizeof(value));
    return true;
}

static bool decode_shape(struct decoder *decoder, const struct step *step, const struct member_descriptor *member,
                         const json_t *json, char *object)
{
    if (member->type->kind == VALUE_OBJECT || member->type->kind == VALUE_ALTERNATE)
        return decode_pointed(decoder, step, member->type, json, object + member->offset);
    if (member->type->kind == VALUE_ARRAY)
        return decode_array(decoder, step, member->type->array.element, json, object + member->offset,
                            object + member->count_offset);
    return decode_scalar(decoder, step, member->type, json, object + member->offset);
}

static bool decode_extraordinary(struct decoder *decoder, const struct step *step,
                                 const struct member_descriptor *member, const json_t *json, char *object)
{
    bool outside = decoder->secret;
    decoder->secret = outside || (member->flags & MEMBER_SECRET);
    if (decoder->secret)
        arena_keep_secret(decoder->arena);
    const struct value_limits *limits = member->extra ? member->extra->limits : NULL;
    bool decoded = decode_shape(decoder, step, member, json, object) &&
                   (!limits || decode_limited(decoder, step, limits, member->type, object + member->offset));
    decoder->secret = outside;
    return decoded;
}

static bool decode_member(struct decoder *decoder, const struct step *step, const struct member_descriptor *member,
                          const json_t *json, char *object)
{
    bool decoded = member->extra || (member->flags & MEMBER_SECRET)
                       ? decode_extraordinary(decoder, step, member, json, object)
                       : decode_shape(decoder, step, member, json, object);
    if (decoded && member->has_offset != DESCRIPTOR_NO_OFFSET)
        object[member->has_offset] = true;
    return decoded;
}

static bool fail_missing(struct decoder *decoder, const struct step *step, const struct member_descriptor *member)
{
    /* The message names the member, the place is that of the object which lacks it. */
    struct decode_failure *failure = decoder->failure;
    struct step inside = { .up = step, .key = member->name };
    decoder->failure = NULL;
    decode_fail(decoder, &inside, false, error_new("missing"));
    decoder->failure = failure;
    if (failure)
        *failure = (struct decode_failure){ .path = decode_path(decoder, step) };
    return false;
}

static void apply_defaults(const struct type_descriptor *type, char *place)
{
    for (uint32_t i = 0; i < type->object.count; i++) {
        const struct member_descriptor *member = &type->object.members[i];
        if (member_default(member))
            memcpy(place + member->offset, member_default(member), member->type->size);
    }
}

/* The discriminator is mostly the first member, so looking is faster than hashing. */
static const json_t *find_value(const json_t *json, const struct member_descriptor *member)
{
    json_t *tree = (json_t *)(uintptr_t)json;
    for (void *at = json_object_iter(tree); at; at = json_object_iter_next(tree, at))
        if (json_object_iter_key_len(at) == member->name_length &&
            memcmp(json_object_iter_key(at), member->name, member->name_length) == 0)
            return json_object_iter_value(at);
    return NULL;
}

/* Reads the discriminators, and so finds the parts the object is made of. */
static bool find_parts(struct decoder *decoder, const struct step *step, const struct type_descriptor *type,
                       const json_t *json, char *place, struct parts *parts)
{
    parts->count = 0;
    while (type && parts->count < sizeof(parts->items) / sizeof(parts->items[0])) {
        parts->items[parts->count++] = (struct part){ .type = type, .place = place };
        if (type->flags & TYPE_HAS_DEFAULTS)
            apply_defaults(type, place);
        if (!type->object.branch_count)
            return true;
        const struct member_descriptor *tag = &type->object.members[type->object.tag];
        const json_t *value = find_value(json, tag);
        struct step inside = { .up = step, .key = tag->name };
        if (!value && !member_default(tag))
            return fail_missing(decoder, step, tag);
        if (value && !decode_scalar(decoder, &inside, tag->type, value, place + tag->offset))
            return false;
        int chosen = value_enum(place + tag->offset);
        place += type->object.branch_offset;
        type = (uint32_t)chosen < type->object.branch_count ? type->object.branches[chosen] : NULL;
    }
    return true;
}

/* Members mostly come in the order of the schema: the search goes on behind the last one that was found. */
static const struct member_descriptor *find_member(struct parts *parts, const char *key, size_t length, char **object)
{
    for (unsigned i = 0; i < parts->count; i++) {
        struct part *part = &parts->items[i];
        const struct member_descriptor *members = part->type->object.members;
        uint32_t count = part->type->object.count;
        for (uint32_t tried = 0, j = part->next; tried < count; tried++, j++) {
            if (j >= count)
                j = 0;
            if (members[j].name_length == length && members[j].name[0] == key[0] &&
                memcmp(members[j].name, key, length) == 0) {
                part->next = j + 1;
                *object = part->place;
                return &members[j];
            }
        }
    }
    return NULL;
}

static bool fail_unknown_member(struct decoder *decoder, const struct step *step, const struct parts *parts,
                                const char *key)
{
    struct suggestion suggestion = { 0 };
    struct step inside = { .up = step, .key = key };
    for (unsigned i = 0; i < parts->count; i++)
        for (uint32_t j = 0; j < parts->items[i].type->object.count; j++)
            suggestion_consider(&suggestion, key, parts->items[i].type->object.members[j].name);
    return fail_unknown(decoder, &inside, &suggestion);
}

static bool check_required(struct decoder *decoder, const struct step *step, const struct parts *parts,
                           const json_t *json, size_t required_given)
{
    size_t required = 0;
    for (unsigned i = 0; i < parts->count; i++)
        for (uint32_t j = 0; j < parts->items[i].type->object.count; j++)
            required += !(parts->items[i].type->object.members[j].flags & MEMBER_OPTIONAL);
    if (required == required_given)
        return true;
    for (unsigned i = 0; i < parts->count; i++) {
        for (uint32_t j = 0; j < parts->items[i].type->object.count; j++) {
            const struct member_descriptor *member = &parts->items[i].type->object.members[j];
            if (!(member->flags & MEMBER_OPTIONAL) && !json_object_getn(json, member->name, member->name_length))
                return fail_missing(decoder, step, member);
        }
    }
    return true;
}

static bool decode_members(struct decoder *decoder, const struct step *step, struct parts *parts, const json_t *json,
                           size_t *required_given)
{
    /* jansson's iterators take a tree that may be changed, but only read it. */
    json_t *tree = (json_t *)(uintptr_t)json;
    for (void *at = json_object_iter(tree); at; at = json_object_iter_next(tree, at)) {
        const char *key = json_object_iter_key(at);
        char *object;
        const struct member_descriptor *member = find_member(parts, key, json_object_iter_key_len(at), &object);
        if (!member && decoder->mode == DECODE_REPLY)
            continue;
        if (!member)
            return fail_unknown_member(decoder, step, parts, key);
        struct step inside = { .up = step, .key = member->name };
        if (!decode_member(decoder, &inside, member, json_object_iter_value(at), object))
            return false;
        *required_given += !(member->flags & MEMBER_OPTIONAL);
    }
    return true;
}

static bool decode_object(struct decoder *decoder, const struct step *step, const struct type_descriptor *type,
                          const json_t *json, char *place)
{
    struct parts parts;
    size_t required_given = 0;
    if (!json_is_object(json))
        return decode_fail_type(decoder, step, "object", json);
    if (!enter(decoder, step) || !find_parts(decoder, step, type, json, place, &parts) ||
        !decode_members(decoder, step, &parts, json, &required_given) ||
        !check_required(decoder, step, &parts, json, required_given))
        return false;
    decoder->depth--;
    return true;
}

static bool kind_takes(enum value_kind kind, const json_t *json)
{
    switch (kind) {
    case VALUE_BOOL:
        return json_is_boolean(json);
    case VALUE_SIGNED:
    case VALUE_UNSIGNED:
    case VALUE_SIZE:
        return json_is_integer(json) || json_wide_digits(json);
    case VALUE_NUMBER:
        return json_is_number(json) || json_wide_digits(json);
    case VALUE_STRING:
    case VALUE_ENUM:
        return json_is_string(json) && !json_wide_digits(json);
    case VALUE_OBJECT:
        return json_is_object(json);
    case VALUE_ARRAY:
        return json_is_array(json);
    case VALUE_NULL:
        return json_is_null(json);
    case VALUE_ALTERNATE:
    case VALUE_ANY:
        break;
    }
    return false;
}

/* Whether text could be a value of this kind, where no branch takes strings. */
static bool kind_takes_text(enum value_kind kind, const char *text)
{
    bool boolean;
    double number;
    uint64_t size;
    switch (kind) {
    case VALUE_BOOL:
        return scalar_bool(text, &boolean) == SCALAR_OK;
    case VALUE_SIGNED:
    case VALUE_UNSIGNED:
    case VALUE_NUMBER:
        return scalar_number(text, &number) != SCALAR_MALFORMED;
    case VALUE_SIZE:
        return scalar_size(text, &size) != SCALAR_MALFORMED;
    case VALUE_NULL:
        return *text == '\0';
    default:
        return false;
    }
}

static int find_alternate(const struct decoder *decoder, const struct type_descriptor *type, const json_t *json)
{
    for (uint32_t i = 0; i < type->alternate.count; i++)
        if (kind_takes(type->alternate.branches[i].type->kind, json))
            return (int)i;
    for (uint32_t i = 0; is_text(decoder, json) && i < type->alternate.count; i++)
        if (kind_takes_text(type->alternate.branches[i].type->kind, json_string_value(json)))
            return (int)i;
    return -1;
}

static bool fail_alternate(struct decoder *decoder, const struct step *step, const struct type_descriptor *type,
                           const json_t *json)
{
    char expected[128] = ""; /* there are seven kinds of JSON values, and each stands once */
    size_t at = 0;
    for (uint32_t i = 0; i < type->alternate.count && at < sizeof(expected); i++) {
        const struct type_descriptor *branch = type->alternate.branches[i].type;
        const char *name = branch->kind == VALUE_OBJECT ? "object"
                           : branch->kind == VALUE_ENUM ? "string"
                                                        : branch->name;
        const char *separator = i == 0 ? "" : i + 1 == type->alternate.count ? " or " : ", ";
        at += (size_t)snprintf(expected + at, sizeof(expected) - at, "%s%s", separator, name);
    }
    return decode_fail_type(decoder, step, expected, json);
}

static bool decode_alternate(struct decoder *decoder, const struct step *step, const struct type_descriptor *type,
                             const json_t *json, char *place)
{
    int kind = find_alternate(decoder, type, json);
    if (kind < 0)
        return fail_alternate(decoder, step, type, json);
    const struct type_descriptor *branch = type->alternate.branches[kind].type;
    memcpy(place, &kind, sizeof(kind));
    place += type->alternate.branch_offset;
    return branch->kind == VALUE_OBJECT ? decode_pointed(decoder, step, branch, json, place)
                                        : decode(decoder, step, branch, json, place);
}

static bool decode(struct decoder *decoder, const struct step *step, const struct type_descriptor *type,
                   const json_t *json, void *place)
{
    switch (type->kind) {
    case VALUE_OBJECT:
        return decode_object(decoder, step, type, json, place);
    case VALUE_ALTERNATE:
        return decode_alternate(decoder, step, type, json, place);
    case VALUE_ARRAY:
        return decode_array(decoder, step, type->array.element, json, place,
                            (char *)place + offsetof(struct descriptor_list, count));
    default:
        return decode_scalar(decoder, step, type, json, place);
    }
}

/* What stands for "no arguments". */
static bool decode_nothing(struct decoder *decoder, const struct type_descriptor *type, void *place)
{
    json_t *nothing = json_object();
    bool decoded = nothing ? decode(decoder, NULL, type, nothing, place) : decode_fail_memory(decoder, NULL);
    json_decref(nothing);
    return decoded;
}

struct error *decode_value(const struct type_descriptor *type, const json_t *json, enum decode_mode mode,
                           const char *root, struct arena *arena, void **value, struct decode_failure *failure)
{
    struct decoder decoder = { .arena = arena, .mode = mode, .root = root, .failure = failure };
    void *place = arena_try_alloc(arena, type->size);
    if (!place)
        return error_new("too large");
    bool decoded = json ? decode(&decoder, NULL, type, json, place) : decode_nothing(&decoder, type, place);
    if (decoded)
        *value = place;
    return decoder.error;
}
