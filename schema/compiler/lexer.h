/* lexer - the characters of a schema file, as tokens
 *
 * The language is a part of JSON with single-quoted strings, true and false, and comments from '#' to the end of the
 * line. A line of "##" opens a documentation comment, which ends with the next such line; it is one token. Source:
 * QEMU's "How to use the QAPI code generator", section "Schema syntax". */
#ifndef SCHEMAC_LEXER_H
#define SCHEMAC_LEXER_H

#include "schema/compiler/source.h"

enum token_kind {
    TOKEN_END,
    TOKEN_LEFT_BRACE,
    TOKEN_RIGHT_BRACE,
    TOKEN_LEFT_BRACKET,
    TOKEN_RIGHT_BRACKET,
    TOKEN_COLON,
    TOKEN_COMMA,
    TOKEN_STRING,
    TOKEN_TRUE,
    TOKEN_FALSE,
    TOKEN_DOC,
};

struct token {
    enum token_kind kind;
    struct location at;
    const char *text; /* TOKEN_STRING: its content, in the arena; TOKEN_DOC: first line after "##", in the source */
    size_t length;    /* of text */
};

struct lexer {
    struct compilation *compilation;
    const struct source *source;
    const char *next;
    const char *line_start;
    unsigned line;
    struct token token; /* the current one */
};

/* Begins before the first token. */
void lexer_init(struct lexer *lexer, struct compilation *compilation, const struct source *source);

/* Moves to the next token. False after an error, which was reported. */
bool lexer_next(struct lexer *lexer) MUST_CHECK;

#endif
