#include "daemon/option_text.h"

#include <stdbool.h>
#include <string.h>

static bool is_member_begin(const char *text, const char *at)
{
    return at == text || strchr(",.\"", at[-1]);
}

/* Where the value of @name may begin first, behind '=' or '"'; NULL: nowhere. */
static const char *find_value(const char *text, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = text; (at = strstr(at, name)); at += length) {
        if (is_member_begin(text, at) && (at[length] == '=' || at[length] == '"'))
            return at + length + 1;
    }
    return NULL;
}

/* The first secret of @text: *end is where its value begins. */
static void find_secrets(const struct type_descriptor *type, const char *text, const char **end)
{
    for (uint32_t i = 0; i < type->object.count; i++) {
        const struct member_descriptor *member = &type->object.members[i];
        const char *value = member->flags & MEMBER_SECRET ? find_value(text, member->name) : NULL;
        if (value && (!*end || value < *end))
            *end = value;
    }
    for (uint32_t i = 0; i < type->object.branch_count; i++) {
        if (type->object.branches[i])
            find_secrets(type->object.branches[i], text, end);
    }
}

const char *option_text_shown(const struct type_descriptor *type, const char *text, struct arena *arena)
{
    const char *end = NULL;
    find_secrets(type, text, &end);
    return end ? arena_printf(arena, "%.*s(secret)", (int)(end - text), text) : text;
}
