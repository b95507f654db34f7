/* object - things with a name that others refer to: limits shared by nodes, secrets, credentials
 *
 *     object-add, --object, objects: in a file
 *              |
 *              v
 *     "limits0" (throttle-group) <---- user: node 'disk0'
 *              ^-------------------------- user: node 'disk1'
 *
 * One table of all objects, by id. A kind is a table of functions (kinds.c lists them), as a driver is. Who refers to
 * an object for longer than a moment is one of its users, and while there is one, the object stays.
 *
 * All of this happens on the control thread. What threads share in the state of an object, its kind guards. */
#ifndef CAIRN_OBJECTS_OBJECT_H
#define CAIRN_OBJECTS_OBJECT_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/base/list.h"
#include "schema/cairn_types.h"

#include <stddef.h>

struct arena;
struct object;

struct object_kind {
    enum object_type type;
    const char *parent; /* the type that this one descends from, as qom-list-types tells it */
    size_t state_size;

    /* Looks for mistakes in what is given, without touching anything (--check). Absent: there can be none beyond what
     * the schema says. */
    struct error *(*check)(const struct object_options *options);
    /* Fills in the state, which is zeroed; @options passed check. May await. After an error destroy is not called. */
    struct error *(*create)(struct object *object, const struct object_options *options)CO_FN CONTROL_FN;
    /* There are no users. Does not await. Absent: nothing to do. */
    void (*destroy)(struct object *object) CONTROL_FN;

    /* qom-set: @given holds the properties to change and no others. All of them are changed or, on error, none.
     * Absent: nothing can be changed. */
    struct error *(*change)(struct object *object, const struct object_options *given)CONTROL_FN;
    /* qom-get: fills in the properties as they are now, except those that nobody may read; the rest of @now is zeroed,
     * strings are from @arena or as lasting as the object. */
    void (*describe)(const struct object *object, struct object_options *now, struct arena *arena) CONTROL_FN;
};

/* All kinds, in the order of enum object_type. */
extern const struct object_kind *const object_kinds[OBJECT_TYPE__MAX];

/* A user of an object, embedded in what uses it. */
struct object_user {
    struct list link;
    const char *name; /* for messages: "node 'disk0'" */
};

/* Would object_add() accept these options, names of others aside? */
struct error *object_check(const struct object_options *options) MUST_CHECK;

/* Makes an object. The id is reserved from the first moment; the object is found when it is finished. */
struct error *object_add(const struct object_options *options) CO_FN CONTROL_FN MUST_CHECK;

/* Changes the properties in @given (object_kind.change). @described: what the object is described by from now on; NULL:
 * by what it was before, with these properties. */
struct error *object_change(struct object *object, const struct object_options *given,
                            const struct object_options *described) CONTROL_FN MUST_CHECK;

/* What it was made with and changed to, without what is secret; NULL when that is not known (graph/options.h). Valid
 * until the next await. */
const struct object_options *object_options(const struct object *object) CONTROL_FN;

/* Refuses an object in use, and names a user. */
struct error *object_del(const char *id) CONTROL_FN MUST_CHECK;

/* For the end of the process: nobody uses objects any more, except other objects. */
void object_del_all(void) CONTROL_FN;

/* NULL when there is none (or it is being made). Valid until the next await, unless one becomes its user. */
struct object *object_find(const char *id) CONTROL_FN;
/* The same where it must be of one type: the error names what is missing, or of what type it is instead. */
struct error *object_find_type(const char *id, enum object_type type, struct object **out) CONTROL_FN MUST_CHECK;

/* All objects, in the order in which they were made: pass NULL first; NULL ends. Without awaits between. */
struct object *object_next(const struct object *after) CONTROL_FN;

const char *object_id(const struct object *object);
const struct object_kind *object_kind_of(const struct object *object);
void *object_state(const struct object *object); /* kind->state_size bytes */

/* @user->name lives as long as the use. */
void object_use(struct object *object, struct object_user *user) CONTROL_FN;
void object_leave(struct object_user *user) CONTROL_FN;

#endif
