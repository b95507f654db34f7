/* lexer - the characters of a schema file, as tokens
 *
 * The language is a part of JSON with single-quoted strings, true and false, and comments from '#' to the end of the
 * line. What begins with "##" opens a documentation comment, whose lines are tokens of their own. Numbers are there
 * only where language 1 has them. Source: QEMU's "How to use the QAPI code generator", section "Schema syntax". */
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
    TOKEN_NUMBER,
    TOKEN_COMMENT, /* a "##" line, or from lexer_next_comment() any comment */
};

struct token {
    enum token_kind kind;
    struct location at;
    const char *text; /* STRING: its content, in the arena; NUMBER, COMMENT: as it stands in the source */
    size_t length;    /* of text */
};

struct lexer {
    struct compilation *compilation;
    const struct source *source;
    const char *next;
    unsigned line;
    const char *counted; /* the place on this line up to which columns are counted */
    unsigned column;     /* of that place */
    bool numbers;        /* whether numbers are tokens; else they are stray */
    struct token token;  /* the current one */
};

/* Begins before the first token. */
void lexer_init(struct lexer *lexer, struct compilation *compilation, const struct source *source);

/* Moves to the next token; comments other than "##" lines are skipped. False after an error, which was reported. */
bool lexer_next(struct lexer *lexer) MUST_CHECK;

/* The same, but no comment is skipped: inside a documentation comment. */
bool lexer_next_comment(struct lexer *lexer) MUST_CHECK;

#endif
