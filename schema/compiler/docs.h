/* docs - the reference manual, walked once and written in several formats
 *
 * The walk decides what is said and in which order: an introduction, commands, events, types, each with its text,
 * members, features, errors and examples. A format decides how each of these looks. Text goes through
 * struct docs_format's functions unescaped; they escape it. */
#ifndef SCHEMAC_DOCS_H
#define SCHEMAC_DOCS_H

#include "schema/compiler/backend.h"
#include "schema/compiler/markup.h"

enum docs_style {
    DOCS_PLAIN,
    DOCS_CODE,
    DOCS_LINK, /* to a definition */
    DOCS_NOTE, /* what is said in passing: "optional" */
};

enum docs_kind {
    DOCS_COMMAND,
    DOCS_EVENT,
    DOCS_TYPE,
};

struct docs {
    struct output *output;
    const struct model *model;
    const struct backend_options *options;
    const struct docs_format *format;
    bool in_list;      /* elements of a list were the last thing written */
    bool in_row;       /* between row_text() and row_end() */
    bool row_has_text; /* and something was written there */
};

struct docs_format {
    void (*begin)(struct docs *docs);
    void (*end)(struct docs *docs);
    /* A chapter: "Commands". */
    void (*chapter)(struct docs *docs, const char *title);
    /* A definition, with what is special about it ("unstable") as @marks, comma separated, "" for nothing. */
    void (*entity_begin)(struct docs *docs, const struct entity *entity, const char *kind, const char *marks);
    void (*entity_end)(struct docs *docs);
    /* A heading inside a definition: "Members". */
    void (*heading)(struct docs *docs, const char *title);
    /* What is between is written with piece(). */
    void (*paragraph_begin)(struct docs *docs);
    void (*paragraph_end)(struct docs *docs);
    void (*item_begin)(struct docs *docs); /* of a list */
    void (*item_end)(struct docs *docs);
    void (*list_begin)(struct docs *docs);
    void (*list_end)(struct docs *docs);
    /* A table: rows of a name (with its type) and a text. */
    void (*table_begin)(struct docs *docs);
    void (*table_end)(struct docs *docs);
    void (*row_name)(struct docs *docs, const char *name);
    void (*row_text)(struct docs *docs);
    void (*row_end)(struct docs *docs);
    void (*piece)(struct docs *docs, enum docs_style style, const char *text, const char *anchor);
    void (*example)(struct docs *docs, const char *title, const char *text);
};

/* Writes the whole manual. */
void docs_write(struct output *output, const struct model *model, const struct backend_options *options,
                const struct docs_format *format);

/* The name, and the place in the document: "command-blockdev-add", "type-BlockdevOptions". */
const char *docs_name(const struct entity *entity);
const char *docs_anchor(struct arena *arena, const struct entity *entity);

enum docs_kind docs_kind(const struct entity *entity);

/* What the interface is called: the schema's file without its ending. */
const char *docs_title(const struct docs *docs);

/* Prose, with its links. */
void docs_prose(struct docs *docs, const char *text);

/* The first sentence of a definition, for lists of contents; "" if it has none. */
const char *docs_summary(struct arena *arena, const struct entity *entity);

/* Whether a definition refers to @type itself, not by what a base brings. */
bool docs_uses(const struct entity *entity, const struct type *type);

/* Does any command need less than the role of an administrator? */
bool docs_has_roles(const struct docs *docs);

/* The chapter that says which role allows which commands; nothing where all need the same. */
void docs_put_roles(struct docs *docs);

/* Entities in the order of the manual: of one kind, by name. *count is how many. */
const struct entity **docs_sorted(const struct docs *docs, enum docs_kind kind, size_t *count);

#endif
