#include "daemon/reconcile/difference.h"

#include "blockcore/base/memory.h"
#include "schema/codec/encode.h"
#include "schema/codec/value.h"

#include <stdlib.h>
#include <string.h>

#define VALUE_BYTES_MAX 80

/* Where a path has led to. */
struct found {
    const struct type_descriptor *type;
    const void *value; /* lies there by value; NULL: there is none */
    bool secret;
};

static bool find_in_alternate(struct found *found)
{
    const struct type_descriptor *type = found->type;
    if (!found->value || type->kind != VALUE_ALTERNATE)
        return false;
    const struct type_descriptor *branch = type->alternate.branches[value_enum(found->value)].type;
    found->value = (const char *)found->value + type->alternate.branch_offset;
    if (branch->kind == VALUE_OBJECT)
        found->value = value_pointer(found->value);
    found->type = branch;
    return true;
}

static void take_member(struct found *found, const struct member_descriptor *member, const void *object)
{
    bool present = member_present(member, object);
    const void *at = present ? member_place(member, object) : member_default(member);
    bool by_pointer = member->type->kind == VALUE_OBJECT || member->type->kind == VALUE_ALTERNATE;
    found->type = member->type;
    found->value = at && by_pointer ? value_pointer(at) : at;
    found->secret = found->secret || (member->flags & MEMBER_SECRET);
    if (member->type->kind == VALUE_ARRAY)
        found->value = NULL; /* is not looked into */
}

static bool find_member(struct found *found, const char *name, size_t length)
{
    const struct type_descriptor *type = found->type;
    const char *object = found->value;
    while (type && object && type->kind == VALUE_OBJECT) {
        for (uint32_t i = 0; i < type->object.count; i++) {
            const struct member_descriptor *member = &type->object.members[i];
            if (member->name_length == length && strncmp(member->name, name, length) == 0) {
                take_member(found, member, object);
                return true;
            }
        }
        const struct type_descriptor *branch = union_branch(type, object);
        object += type->object.branch_offset;
        type = branch;
    }
    return false;
}

/* False where there is no scalar that can be told. */
static bool find(struct found *found, const char *path)
{
    while (*path) {
        size_t length = strcspn(path, ".[");
        while (find_in_alternate(found))
            ;
        if (path[length] == '[' || !find_member(found, path, length))
            return false;
        path += length + (path[length] == '.');
    }
    while (find_in_alternate(found))
        ;
    return found->type->kind != VALUE_OBJECT && found->type->kind != VALUE_ARRAY && found->type->kind != VALUE_ANY;
}

/* NULL: cannot be told. */
static const char *show(const struct found *found, struct arena *arena)
{
    CLEANUP(text_fini) struct text text = { 0 };
    if (!found->value)
        return "absent";
    CLEANUP(error_free) struct error *err = encode_value(&text, found->type, found->value, ENCODE_REDACT, 0);
    return err || text.length > VALUE_BYTES_MAX ? NULL : arena_strndup(arena, text.data, text.length);
}

static const char *difference_at(const struct type_descriptor *type, const void *now, const void *then,
                                 const char *path, struct arena *arena)
{
    struct found before = { .type = type, .value = now };
    struct found after = { .type = type, .value = then };
    bool told = find(&before, path) && find(&after, path) && !before.secret;
    const char *old = told ? show(&before, arena) : NULL;
    const char *new = told ? show(&after, arena) : NULL;
    return old && new ? arena_printf(arena, "%s: %s -> %s", path, old, new) : path;
}

const char *difference_text(const struct type_descriptor *type, const void *now, const void *then,
                            const struct value_changes *changes, struct arena *arena)
{
    const char *text = "";
    for (size_t i = 0; i < changes->count && i < DIFFERENCES_TOLD_MAX; i++)
        text = arena_printf(arena, "%s%s%s", text, i ? ", " : "",
                            difference_at(type, now, then, changes->paths[i], arena));
    if (changes->count > DIFFERENCES_TOLD_MAX)
        text = arena_printf(arena, "%s, and %zu more", text, changes->count - DIFFERENCES_TOLD_MAX);
    return text;
}
