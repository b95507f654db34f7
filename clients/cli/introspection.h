/* introspection - what the daemon's interface looks like, learned from the daemon itself (query-qmp-schema)
 *
 * The command line knows no command by heart: names, members, types and the values of enumerations come from the
 * daemon it talks to, so it fits older, newer and foreign daemons alike. Types are borrowed pointers into the reply,
 * valid as long as the introspection. */
#ifndef CAIRN_CLI_INTROSPECTION_H
#define CAIRN_CLI_INTROSPECTION_H

#include "clients/c/client.h"

struct introspection;

struct error *introspection_load(struct client *client, struct introspection **out) MUST_CHECK;
/* NULL is allowed. */
void introspection_free(struct introspection *introspection);
DEFINE_CLEANUP(introspection_free, struct introspection *)

/* Names of all commands, sorted; an array of strings, borrowed. */
const json_t *introspection_commands(const struct introspection *introspection);

/* The object type of a command's arguments; NULL when there is no such command. */
const json_t *introspection_arguments(const struct introspection *introspection, const char *command);

/* "builtin", "enum", "array", "object" or "alternate". */
const char *type_meta(const json_t *type);
/* For builtins: "string", "int", "number", "boolean", "null", "value"; else NULL. */
const char *type_json(const json_t *type);

/* Values of an enumeration: an array of strings; NULL for other types. Borrowed. */
const json_t *type_values(const json_t *type);
bool type_has_value(const json_t *type, const char *value);

/* Of an array. */
const json_t *type_element(const struct introspection *introspection, const json_t *type);

/* The alternatives of an alternate: pass 0, 1, ...; NULL ends. */
const json_t *type_alternative(const struct introspection *introspection, const json_t *type, size_t index);

/* Type of the member @name of an object type, given the members that are known already (@value: an object; its tag
 * decides which variant counts); NULL when there is none. */
const json_t *type_member(const struct introspection *introspection, const json_t *type, const json_t *value,
                          const char *name);

/* Names of all members that an object of this type and with these members may have: a new array of strings. */
json_t *type_member_names(const struct introspection *introspection, const json_t *type, const json_t *value);

#endif
