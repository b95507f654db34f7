/* arguments - what a person types, as the arguments of a command
 *
 *     driver=qcow2 node-name=disk0 file.driver=file file.filename=/srv/a.qcow2 discard=unmap size=10G list.0=a
 *
 * Dots lead into objects, numbers into lists. How a value is written in JSON follows from its type in the interface: 1
 * is a string for a node-name and a number for a size, which may end in k, M, G, T, P or E (powers of 1024); a boolean
 * is on, off, true, false, yes or no. A value that begins with '{' or '[' is JSON where no text is expected. */
#ifndef CAIRN_CLI_ARGUMENTS_H
#define CAIRN_CLI_ARGUMENTS_H

#include "clients/cli/introspection.h"

/* Sets one "key=value" in @tree (an object), with every value as a string and lists as objects with numeric keys:
 * what is known before types are looked at. */
struct error *arguments_set(json_t *tree, const char *assignment) MUST_CHECK;

/* Gives each value of @tree the form of its type. @type: the object type of the arguments. Members that it does not
 * know stay text: the daemon's message about them is better than ours. *@out is a new object. */
struct error *arguments_convert(const struct introspection *introspection, const json_t *type, json_t *tree,
                                json_t **out) MUST_CHECK;

#endif
