/* doc - a documentation comment, taken apart
 *
 *     ##
 *     # @SYMBOL:
 *     #
 *     # what it is
 *     #
 *     # @member: what it is; the text goes on
 *     #     in indented lines
 *     #
 *     # Features:
 *     #
 *     # @feature: what it means
 *     #
 *     # Returns: ...        also Errors:, Since:, TODO:
 *     ##
 *
 * Source: QEMU's "How to use the QAPI code generator", section "Documentation comments". Notes and examples are
 * directives of reStructuredText inside a text (".. note::", ".. qmp-example::"); who prints documentation reads them.
 *
 * Without a symbol the comment is a text of its own, about no definition. */
#ifndef SCHEMAC_DOC_H
#define SCHEMAC_DOC_H

#include "schema/compiler/lexer.h"
#include "schema/compiler/vector.h"

struct doc_entry {
    const char *name; /* of the member or feature, or of the section ("Returns"); "" for a text without heading */
    struct location at;
    const char *text; /* lines joined by newlines, without "# " and the common indentation */
};

struct doc_entries {
    struct doc_entry *items;
    size_t count;
    size_t capacity;
};

struct doc {
    struct location at;
    const char *symbol; /* NULL: about no definition */
    const char *text;   /* what stands before anything else */
    struct doc_entries members;
    struct doc_entries features;
    struct doc_entries sections;
    const char *raw; /* the comment as it stands in the file, from "##" to "##" */
    size_t raw_length;
};

/* The current token is the "##" that opens the comment; moves behind its last line. NULL after an error. */
struct doc *doc_parse(struct compilation *compilation, struct lexer *lexer);

/* The entry of that name, or NULL. */
const struct doc_entry *doc_find(const struct doc_entry *entries, size_t count, const char *name);

#endif
