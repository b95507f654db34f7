#include "blockcore/objects/object.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/hash.h"
#include "blockcore/base/memory.h"
#include "blockcore/graph/options.h"
#include "blockcore/runtime/coroutine.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct object {
    const struct object_kind *kind;
    char *id;
    void *state;
    struct list users; /* of struct object_user */
    struct list in_table;
    struct hash_link by_id;
    struct arena arena; /* of given */
    const struct object_options *given;
};

static struct {
    struct hash by_id;   /* also those that are being made */
    struct list objects; /* those that are finished, in the order of their making */
} table = { .objects = LIST_INIT(table.objects) };

static struct object *object_create(const struct object_kind *kind, const char *id)
{
    struct object *object = xcalloc(1, sizeof(*object));
    object->kind = kind;
    object->id = xstrdup(id);
    object->state = kind->state_size ? xcalloc(1, kind->state_size) : NULL;
    list_init(&object->users);
    list_init(&object->in_table);
    arena_init_small(&object->arena, SIZE_MAX);
    hash_insert_string(&table.by_id, &object->by_id, object->id);
    return object;
}

static void object_free(struct object *object)
{
    hash_remove(&table.by_id, &object->by_id);
    list_remove(&object->in_table);
    arena_fini(&object->arena);
    free(object->state);
    free(object->id);
    free(object);
}

struct error *object_check(const struct object_options *options)
{
    const struct object_kind *kind = object_kinds[options->qom_type];
    return kind->check ? kind->check(options) : NULL;
}

static void object_destroy(struct object *object)
{
    if (object->kind->destroy)
        object->kind->destroy(object);
    object_free(object);
}

struct error *object_add(const struct object_options *options)
{
    struct error *err = object_check(options);
    if (err)
        return err;
    if (hash_find_string(&table.by_id, options->id))
        return error_new("attempt to add duplicate property '%s' to object (type 'container')", options->id);
    struct object *object = object_create(object_kinds[options->qom_type], options->id);
    struct co_note note;
    co_note_begin(&note, "making object", object->id);
    err = object->kind->create(object, options);
    co_note_end(&note);
    if (err) {
        object_free(object);
    } else if (co_cancelled()) {
        err = error_errno(ECANCELED, "object '%s'", options->id);
        object_destroy(object);
    } else {
        const struct options_service *service = options_service();
        object->given = service->copy_object ? service->copy_object(options, &object->arena) : NULL;
        list_append(&table.objects, &object->in_table);
    }
    return err;
}

/* In memory of its own: what it is made from may lie in the old one. */
static void remember(struct object *object, const struct object_options *given, const struct object_options *described)
{
    const struct options_service *service = options_service();
    const struct object_options *now = NULL;
    struct arena arena;
    arena_init_small(&arena, SIZE_MAX);
    if (described && service->copy_object)
        now = service->copy_object(described, &arena);
    else if (object->given && service->overlay_object)
        now = service->overlay_object(object->given, given, &arena);
    arena_fini(&object->arena);
    object->arena = arena;
    object->given = now;
}

struct error *object_change(struct object *object, const struct object_options *given,
                            const struct object_options *described)
{
    struct error *err = object->kind->change(object, given);
    if (!err)
        remember(object, given, described);
    return err;
}

const struct object_options *object_options(const struct object *object)
{
    return object->given;
}

struct error *object_del(const char *id)
{
    struct object *object = object_find(id);
    if (!object)
        return error_new("object '%s' not found", id);
    const struct object_user *user = list_first(&object->users, struct object_user, link);
    if (user)
        return error_new("object '%s' is in use, can not be deleted: %s uses it", id, user->name);
    object_destroy(object);
    return NULL;
}

void object_del_all(void)
{
    /* Who uses another object was made after it. */
    while (!list_empty(&table.objects)) {
        struct object *object = list_entry(table.objects.prev, struct object, in_table);
        assert(list_empty(&object->users));
        object_destroy(object);
    }
    if (table.by_id.count == 0)
        hash_fini(&table.by_id);
}

struct object *object_find(const char *id)
{
    struct hash_link *link = hash_find_string(&table.by_id, id);
    if (!link)
        return NULL;
    struct object *object = hash_entry(link, struct object, by_id);
    return list_empty(&object->in_table) ? NULL : object;
}

struct error *object_find_type(const char *id, enum object_type type, struct object **out)
{
    struct object *object = object_find(id);
    if (!object)
        return error_new("object '%s' not found (a '%s' is wanted)", id, object_type_name(type));
    if (object->kind->type != type)
        return error_new("object '%s' is a '%s', but a '%s' is wanted", id, object_type_name(object->kind->type),
                         object_type_name(type));
    *out = object;
    return NULL;
}

struct object *object_next(const struct object *after)
{
    const struct list *at = after ? &after->in_table : &table.objects;
    return at->next == &table.objects ? NULL : list_entry(at->next, struct object, in_table);
}

const char *object_id(const struct object *object)
{
    return object->id;
}

const struct object_kind *object_kind_of(const struct object *object)
{
    return object->kind;
}

void *object_state(const struct object *object)
{
    return object->state;
}

void object_use(struct object *object, struct object_user *user)
{
    list_append(&object->users, &user->link);
}

void object_leave(struct object_user *user)
{
    list_remove(&user->link);
}
