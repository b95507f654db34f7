/* markup - the prose of documentation comments, taken apart for whoever prints it
 *
 * A text is a sequence of blocks: paragraphs, elements of lists ("- "), and examples:
 *
 *     .. qmp-example::
 *        :title: what it shows
 *
 *        -> { "execute": "query-version" }
 *        <- { "return": { ... } }
 *
 * An example ends where its paragraph-like lines do: at the next directive, or at a line that begins at the margin and
 * is neither JSON nor an arrow. Inside a paragraph there are pieces: "@name", "``literal``", and the names of
 * definitions, which become links. */
#ifndef SCHEMAC_MARKUP_H
#define SCHEMAC_MARKUP_H

#include "schema/compiler/model.h"

enum block_kind {
    BLOCK_PARAGRAPH,
    BLOCK_ITEM,    /* of a list */
    BLOCK_EXAMPLE, /* lines as they are */
};

struct block {
    enum block_kind kind;
    const char *title; /* of an example; "" if it has none */
    const char *text;  /* paragraphs and items: one line; examples: lines, indented as little as possible */
};

struct blocks {
    VECTOR(struct block) list;
};

enum piece_kind {
    PIECE_PLAIN,
    PIECE_CODE,
    PIECE_NAME, /* maybe that of a definition: the caller knows */
};

struct piece {
    enum piece_kind kind;
    const char *text;
};

/* Appends the blocks of @text to @blocks. */
void markup_blocks(struct arena *arena, const char *text, struct blocks *blocks);

/* The next piece of a paragraph; false at its end. Adjacent pieces together are the whole text, without its marks. */
bool markup_piece(struct arena *arena, const char **rest, struct piece *piece);

/* The examples of a definition, wherever they stand in its comment. @doc may be NULL. */
void markup_examples(struct arena *arena, const struct doc *doc, struct blocks *examples);

#endif
