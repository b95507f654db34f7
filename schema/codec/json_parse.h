/* json_parse - a JSON text as a tree
 *
 * For JSON in options, files and replies. Unlike jansson's own loader it takes integers of all 64 bits (json_tree.h).
 */
#ifndef CAIRN_SCHEMA_JSON_PARSE_H
#define CAIRN_SCHEMA_JSON_PARSE_H

#include "schema/codec/json_builder.h"

/* One value of any type that fills all of the text, blanks aside. @values_max: the most values that it may have, such
 * as JSON_VALUES_MAX. *@out is a new reference, untouched on failure. */
struct error *json_parse(const char *text, size_t length, size_t values_max, json_t **out) MUST_CHECK;

#endif
