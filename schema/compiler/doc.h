/* doc - a documentation comment, taken apart
 *
 *     ##
 *     # @SYMBOL:
 *     #
 *     # what it is
 *     #
 *     # @member: what it is; the text goes on in indented lines
 *     #
 *     # Features:
 *     #
 *     # @feature: what it means
 *     #
 *     # Returns: ...        also Errors:, Since:, Example:, TODO:
 *     ##
 *
 * Without a symbol the comment is a text of its own, about no definition. */
#ifndef SCHEMAC_DOC_H
#define SCHEMAC_DOC_H

#include "schema/compiler/source.h"
#include "schema/compiler/vector.h"

struct doc_entry {
    const char *name; /* of the member or feature, or of the section ("Returns") */
    struct location at;
    const char *text; /* lines joined by newlines, without "# " and the common indentation */
};

struct doc {
    struct location at;
    const char *symbol;
    const char *text;
    VECTOR(struct doc_entry) members;
    VECTOR(struct doc_entry) features;
    VECTOR(struct doc_entry) sections;
};

/* @text holds the lines between the "##" lines; @at is the place of the first "##". NULL after an error. */
struct doc *doc_parse(struct compilation *compilation, struct location at, const char *text, size_t length);

/* The entry of that name, or NULL. */
const struct doc_entry *doc_find(const struct doc_entry *entries, size_t count, const char *name);

#endif
