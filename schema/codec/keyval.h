/* keyval - "driver=qcow2,file.filename=a.img" as a tree
 *
 * The syntax that QEMU's tools share (its source util/keyval.c describes it):
 *
 *     a=1,b.c=2,b.d=3      dots make objects:                { "a": "1", "b": { "c": "2", "d": "3" } }
 *     l.0=x,l.1=y          all keys are numbers: an array    { "l": [ "x", "y" ] }
 *     a=x,,y               a comma is doubled                { "a": "x,y" }
 *     qcow2,a=1            the first value may lack its key  { "driver": "qcow2", "a": "1" }
 *
 * Of a key that is given twice the last one counts. All values are strings; decode_value() with DECODE_TEXT turns them
 * into what the schema wants. */
#ifndef CAIRN_SCHEMA_KEYVAL_H
#define CAIRN_SCHEMA_KEYVAL_H

#include "blockcore/base/error.h"

#include <jansson.h>
#include <stdbool.h>

/* @implied_key: of a first value without one; NULL: it needs one. The caller owns *out. */
struct error *keyval_parse(const char *text, const char *implied_key, json_t **out) MUST_CHECK;

/* The same for the older syntax of --chardev, where a flag stands alone: "server" means server=on, "nowait" wait=off.
 */
struct error *keyval_parse_flags(const char *text, const char *implied_key, json_t **out) MUST_CHECK;

/* Does one of the parts ask for help ("help" or "?")? */
bool keyval_wants_help(const char *text);

#endif
