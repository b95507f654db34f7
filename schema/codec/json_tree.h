/* json_tree - integers that jansson cannot hold, and trees as text
 *
 * A json_t holds integers of 64 bits with a sign. A wider one, such as a size of 2^64 - 1 bytes, is in a tree as a
 * string that no JSON has: its first byte is 0xff, which stands nowhere in UTF-8, and its digits follow. Whoever builds
 * trees puts them in, the decoder takes them as the integers that they are. To jansson they are strings that are not
 * valid, so a tree becomes text here and not there. */
#ifndef CAIRN_SCHEMA_JSON_TREE_H
#define CAIRN_SCHEMA_JSON_TREE_H

#include "schema/codec/text.h"

#include <jansson.h>

/* An integer by its digits, a sign perhaps in front. NULL when there is no memory. The caller owns it. */
json_t *json_wide_integer(const char *digits);

/* The digits of such an integer; NULL if @json is anything else. */
const char *json_wide_digits(const json_t *json);

/* Overwrites all strings of a tree that is about to be freed: there may be secrets in it. Recursive as deep as it. */
void json_wipe_strings(json_t *json);

/* Appends @json as JSON, on one line, in ASCII. Recursive as deep as the tree. */
void text_append_tree(struct text *text, const json_t *json);

#endif
