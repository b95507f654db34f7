#include "blockcore/objects/authz_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/objects/kinds.h"

#include <string.h>

struct error *authz_find(const char *id, struct object **out)
{
    struct object *object = object_find(id);
    if (!object)
        return error_new(
            "object '%s' not found (one that lets clients in is wanted: 'authz-list', 'authz-list-file' or "
            "'authz-simple')",
            id);
    enum object_type type = object_kind_of(object)->type;
    if (type != OBJECT_TYPE_AUTHZ_LIST && type != OBJECT_TYPE_AUTHZ_LIST_FILE && type != OBJECT_TYPE_AUTHZ_SIMPLE)
        return error_new("object '%s' is a '%s', but 'authz-list', 'authz-list-file' or 'authz-simple' is wanted", id,
                         object_type_name(type));
    *out = object;
    return NULL;
}

static bool simple_allows(const struct object *object, const char *identity)
{
    char *const *allowed = object_state(object);
    return strcmp(*allowed, identity) == 0;
}

bool authz_allows(struct object *object, const char *identity, struct error **why)
{
    switch (object_kind_of(object)->type) {
    case OBJECT_TYPE_AUTHZ_SIMPLE:
        return simple_allows(object, identity);
    case OBJECT_TYPE_AUTHZ_LIST:
        return authz_list_allows(object, identity);
    case OBJECT_TYPE_AUTHZ_LIST_FILE:
        return authz_list_file_allows(object, identity, why);
    default:
        return false;
    }
}

/* authz-simple: the state is the name. */

static struct error *simple_create(struct object *object, const struct object_options *options)
{
    char **allowed = object_state(object);
    *allowed = xstrdup(options->u.authz_simple.identity);
    return NULL;
}

static void simple_destroy(struct object *object)
{
    free(*(char **)object_state(object));
}

static void simple_describe(const struct object *object, struct object_options *now, struct arena *arena)
{
    (void)arena;
    now->u.authz_simple.identity = *(char **)object_state(object);
}

const struct object_kind authz_simple_kind = {
    .type = OBJECT_TYPE_AUTHZ_SIMPLE,
    .parent = "authz",
    .state_size = sizeof(char *),
    .create = simple_create,
    .destroy = simple_destroy,
    .describe = simple_describe,
};
