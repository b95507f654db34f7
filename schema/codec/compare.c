#include "schema/codec/compare.h"

#include "schema/codec/value.h"

#include <jansson.h>
#include <stdio.h>

/* One step of the path to what is compared. */
struct step {
    const struct step *up;
    const char *key; /* NULL: an element of an array */
    size_t index;
};

struct comparison {
    struct arena *arena; /* NULL: only whether there is a difference is asked */
    const char **paths;
    size_t count, capacity;
    bool out_of_memory;
};

static bool compare(struct comparison *comparison, const struct step *step, const struct type_descriptor *type,
                    const void *a, const void *b);

static size_t show_step(const struct step *step, char index[24], const char **shown)
{
    if (!step->key)
        snprintf(index, 24, "[%zu]", step->index);
    *shown = step->key ? step->key : index;
    return strlen(*shown);
}

static const char *path_of(struct arena *arena, const struct step *step)
{
    char index[24];
    const char *shown;
    size_t total = 1;
    for (const struct step *s = step; s; s = s->up)
        total += show_step(s, index, &shown) + 1;
    char *at = arena_try_alloc(arena, total);
    if (!at)
        return NULL;
    at += total - 1;
    for (const struct step *s = step; s; s = s->up) {
        size_t length = show_step(s, index, &shown);
        at -= length;
        memcpy(at, shown, length);
        if (s->up && s->key)
            *--at = '.';
    }
    return at;
}

static bool keep_path(struct comparison *comparison, const char *path)
{
    if (comparison->count == comparison->capacity) {
        size_t larger = comparison->capacity ? comparison->capacity * 2 : 8;
        const char **moved = arena_try_array(comparison->arena, larger, sizeof(*moved));
        if (!moved)
            return false;
        if (comparison->count)
            memcpy(moved, comparison->paths, comparison->count * sizeof(*moved));
        comparison->paths = moved;
        comparison->capacity = larger;
    }
    comparison->paths[comparison->count++] = path;
    return true;
}

/* Notes a difference; false, to be returned. */
static bool differ(struct comparison *comparison, const struct step *step)
{
    const char *path = comparison->arena ? path_of(comparison->arena, step) : NULL;
    if (comparison->arena && (!path || !keep_path(comparison, path)))
        comparison->out_of_memory = true;
    return false;
}

/* After a difference: whether there is nothing more to learn. */
static bool is_decided(const struct comparison *comparison, bool equal)
{
    return !equal && (!comparison->arena || comparison->out_of_memory);
}

static bool compare_elements(struct comparison *comparison, const struct step *step,
                             const struct type_descriptor *element, const struct descriptor_list *a,
                             const struct descriptor_list *b)
{
    bool equal = true;
    if (a->count != b->count)
        return differ(comparison, step);
    for (size_t i = 0; i < a->count && !is_decided(comparison, equal); i++) {
        struct step inside = { .up = step, .index = i };
        size_t offset = i * element->size;
        equal &= compare(comparison, &inside, element, (char *)a->items + offset, (char *)b->items + offset);
    }
    return equal;
}

static struct descriptor_list member_list(const struct member_descriptor *member, const void *object)
{
    struct descriptor_list list;
    memcpy(&list.items, member_place(member, object), sizeof(list.items));
    list.count = value_count((const char *)object + member->count_offset);
    return list;
}

/* Where the value of a member lies, or its default; NULL if it is absent. */
static const void *effective(const struct member_descriptor *member, const void *object)
{
    return member_present(member, object) ? member_place(member, object) : member_default(member);
}

static bool compare_member(struct comparison *comparison, const struct step *step,
                           const struct member_descriptor *member, const void *a, const void *b)
{
    const void *one = effective(member, a), *other = effective(member, b);
    if (!one || !other)
        return one == other || differ(comparison, step);
    if (member->type->kind == VALUE_ARRAY) {
        struct descriptor_list list = member_list(member, a), other_list = member_list(member, b);
        return compare_elements(comparison, step, member->type->array.element, &list, &other_list);
    }
    if (member->type->kind == VALUE_OBJECT || member->type->kind == VALUE_ALTERNATE)
        return compare(comparison, step, member->type, value_pointer(one), value_pointer(other));
    return compare(comparison, step, member->type, one, other);
}

/* One part of an object. *@tag_differs: the rest of the union cannot be compared. */
static bool compare_part(struct comparison *comparison, const struct step *step, const struct type_descriptor *type,
                         const void *a, const void *b, bool *tag_differs)
{
    bool equal = true;
    for (uint32_t i = 0; i < type->object.count && !is_decided(comparison, equal); i++) {
        const struct member_descriptor *member = &type->object.members[i];
        struct step inside = { .up = step, .key = member->name };
        bool same = compare_member(comparison, &inside, member, a, b);
        equal &= same;
        *tag_differs |= !same && type->object.branch_count && i == type->object.tag;
    }
    return equal;
}

static bool compare_objects(struct comparison *comparison, const struct step *step, const struct type_descriptor *type,
                            const char *a, const char *b)
{
    bool equal = true, tag_differs = false;
    while (type && !tag_differs && !is_decided(comparison, equal)) {
        equal &= compare_part(comparison, step, type, a, b, &tag_differs);
        const struct type_descriptor *branch = union_branch(type, a);
        a += type->object.branch_offset;
        b += type->object.branch_offset;
        type = branch;
    }
    return equal;
}

static bool compare_alternates(struct comparison *comparison, const struct step *step,
                               const struct type_descriptor *type, const char *a, const char *b)
{
    if (value_enum(a) != value_enum(b))
        return differ(comparison, step);
    const struct type_descriptor *branch = type->alternate.branches[value_enum(a)].type;
    const void *one = a + type->alternate.branch_offset, *other = b + type->alternate.branch_offset;
    if (branch->kind == VALUE_OBJECT) {
        one = value_pointer(one);
        other = value_pointer(other);
    }
    return compare(comparison, step, branch, one, other);
}

static bool same_json(const void *a, const void *b)
{
    struct any_value one, other;
    memcpy(&one, a, sizeof(one));
    memcpy(&other, b, sizeof(other));
    if (one.length == other.length && memcmp(one.text, other.text, one.length) == 0)
        return true;
    json_t *tree = json_loadb(one.text, one.length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    json_t *other_tree = json_loadb(other.text, other.length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    bool same = tree && other_tree && json_equal(tree, other_tree);
    json_decref(tree);
    json_decref(other_tree);
    return same;
}

static bool same_number(const void *a, const void *b)
{
    double one, other;
    memcpy(&one, a, sizeof(one));
    memcpy(&other, b, sizeof(other));
    return !(one < other) && !(one > other);
}

static bool same_scalar(const struct type_descriptor *type, const void *a, const void *b)
{
    switch (type->kind) {
    case VALUE_NULL:
        return true;
    case VALUE_NUMBER:
        return same_number(a, b);
    case VALUE_STRING:
        return strcmp(value_pointer(a), value_pointer(b)) == 0;
    case VALUE_ANY:
        return same_json(a, b);
    default:
        return memcmp(a, b, type->size) == 0;
    }
}

static bool compare(struct comparison *comparison, const struct step *step, const struct type_descriptor *type,
                    const void *a, const void *b)
{
    switch (type->kind) {
    case VALUE_OBJECT:
        return compare_objects(comparison, step, type, a, b);
    case VALUE_ALTERNATE:
        return compare_alternates(comparison, step, type, a, b);
    case VALUE_ARRAY:
        return compare_elements(comparison, step, type->array.element, a, b);
    default:
        return same_scalar(type, a, b) || differ(comparison, step);
    }
}

bool value_equal(const struct type_descriptor *type, const void *a, const void *b)
{
    struct comparison comparison = { 0 };
    return compare(&comparison, NULL, type, a, b);
}

struct error *value_diff(const struct type_descriptor *type, const void *a, const void *b, struct arena *arena,
                         struct value_changes *changes)
{
    struct comparison comparison = { .arena = arena };
    compare(&comparison, NULL, type, a, b);
    if (comparison.out_of_memory)
        return error_new("too large");
    *changes = (struct value_changes){ .paths = comparison.paths, .count = comparison.count };
    return NULL;
}
