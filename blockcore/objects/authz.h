/* authz - who is let in
 *
 * A client has proved that it has a name: the distinguished name of its certificate, or the user of a pre-shared key.
 * An object of one of the kinds authz-simple, authz-list and authz-list-file says whether that one may come in.
 *
 *     server --tls-authz--> "admins" (authz-list)
 *                              1. match CN=mallory,*   deny
 *                              2. match *,O=Example    allow
 *                              otherwise               deny
 */
#ifndef CAIRN_OBJECTS_AUTHZ_H
#define CAIRN_OBJECTS_AUTHZ_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct arena;
struct auth_z_list_properties;
struct object;

#define AUTHZ_RULES_MAX 10000
#define AUTHZ_MATCH_BYTES_MAX 4096         /* of a rule, and of a name */
#define AUTHZ_FILE_BYTES_MAX (1024 * 1024) /* of the file of an authz-list-file */

/* The object, as long as it is one that can be asked. Error: there is none of this id, or it is something else. */
struct error *authz_find(const char *id, struct object **out) CONTROL_FN MUST_CHECK;

/* Whether @identity is let in. May await, and does not touch @object after that: it may go meanwhile. When nobody can
 * tell (a file that is not valid), the answer is no, and *why, which the caller frees, says why; else it stays. */
bool authz_allows(struct object *object, const char *identity, struct error **why) CO_FN CONTROL_FN;

/* How the content of a file becomes rules, which stay in @arena. Whoever knows JSON says so once, before the first
 * object is made; without, there can be no authz-list-file. Called on any thread. */
typedef struct error *authz_parser(const char *text, size_t bytes, struct arena *arena,
                                   const struct auth_z_list_properties **out);
void authz_set_parser(authz_parser *parse) CONTROL_FN;

#endif
