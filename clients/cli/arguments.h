/* arguments - what a person types, as the arguments of a command
 *
 *     driver=qcow2 node-name=disk0 file.driver=file file.filename=/srv/a.qcow2 discard=unmap size=10G list.0=a
 *
 * The syntax is that of QEMU's options (schema/codec/keyval.h), with words instead of commas: dots lead into objects,
 * numbers into lists, of a key that is given twice the last one counts. How a value is written in JSON follows from its
 * type in the interface, by the same rules as on the daemon's command line (schema/codec/scalar.h): 1 is a string for a
 * node-name and a number for a size, which may end in k, M, G, T, P or E (powers of 1024); a boolean is on or off. A
 * value that begins with '{' or '[' is JSON where no text is expected, and "null" is null where that may stand. */
#ifndef CAIRN_CLI_ARGUMENTS_H
#define CAIRN_CLI_ARGUMENTS_H

#include "clients/cli/introspection.h"

/* Words "key=value" as a tree whose values are strings: what is known before types are looked at. The caller owns it.
 */
struct error *arguments_parse(size_t count, char *const *words, json_t **tree) MUST_CHECK;

/* Gives each value of @tree the form of its type. @type: the object type of the arguments. Members that it does not
 * know stay text: the daemon's message about them is better than ours. *@out is a new object. */
struct error *arguments_convert(const struct introspection *introspection, const json_t *type, json_t *tree,
                                json_t **out) MUST_CHECK;

#endif
