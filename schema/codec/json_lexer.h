/* json_lexer - tokens out of bytes as they come
 *
 * A stream of bytes is cut anywhere: inside a string, an escape, a character. The lexer keeps what it has of the
 * current token and goes on with the next piece; each byte is looked at once.
 *
 * It takes JSON (RFC 8259) and what QMP servers take in addition: 'single-quoted' strings and the escape \'
 * (QMP specification, "General Definitions"). Two kinds of errors are told apart, because they differ in what is known
 * afterwards:
 *
 *     TOKEN_BAD    a token whose end is known but whose content is not acceptable: "\x", 1.e, nul. Framing is intact.
 *     TOKEN_STRAY  a byte that no token has: a control character, 0xFF, '%'. Nobody knows where we are.
 *
 * A pure function of its state and the bytes: no I/O, any thread. */
#ifndef CAIRN_SCHEMA_JSON_LEXER_H
#define CAIRN_SCHEMA_JSON_LEXER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longest number or word; longer ones are TOKEN_BAD. */
#define JSON_WORD_MAX 256

enum json_token {
    TOKEN_MORE, /* all bytes are used up; the next token is not complete yet */
    TOKEN_LBRACE,
    TOKEN_RBRACE,
    TOKEN_LBRACKET,
    TOKEN_RBRACKET,
    TOKEN_COLON,
    TOKEN_COMMA,
    TOKEN_STRING, /* text: UTF-8, escapes resolved, no zero bytes */
    TOKEN_NUMBER, /* text: as written, valid JSON */
    TOKEN_TRUE,
    TOKEN_FALSE,
    TOKEN_NULL,
    TOKEN_BAD,
    TOKEN_STRAY,
};

enum json_lexer_state {
    LEX_BETWEEN, /* tokens */
    LEX_STRING,
    LEX_ESCAPE,  /* after a backslash */
    LEX_UNICODE, /* in the four digits after \u */
    LEX_WORD,    /* number or keyword; ends at the first byte that cannot belong to it */
};

struct json_lexer {
    enum json_lexer_state state;
    char quote;            /* that ends the string */
    bool keep;             /* false: strings are followed to their end but not stored (see json_lexer_skip) */
    bool bad;              /* the current token will be TOKEN_BAD */
    uint8_t continuations; /* bytes of a UTF-8 character still to come */
    uint32_t character;    /* ... and its bits so far */
    uint32_t smallest;     /* ... and the least value that needs this many bytes */
    uint8_t digits;        /* of \u seen */
    uint32_t unit;         /* their value */
    uint32_t high;         /* high surrogate that waits for its other half, or 0 */
    char *text;            /* of the token; valid until the next call */
    size_t length;
    size_t capacity;
    char message[96]; /* what is wrong, after TOKEN_BAD and TOKEN_STRAY */
    bool line_begin;  /* the token just returned was the first thing on its line, without a blank before it */
    bool after_newline;
};

void json_lexer_init(struct json_lexer *lexer);
void json_lexer_fini(struct json_lexer *lexer);

/* Forgets a token that has begun, and gives back memory of a large one. */
void json_lexer_reset(struct json_lexer *lexer);

/* Overwrites the text of tokens: there may have been secrets among them. Between messages. */
void json_lexer_wipe(struct json_lexer *lexer);

/* From now on strings are not stored, until json_lexer_reset(): for input that is thrown away. */
void json_lexer_skip(struct json_lexer *lexer);

/* The next token in [*at, end); moves *at behind it. lexer->text and lexer->length are its text. */
enum json_token json_lexer_next(struct json_lexer *lexer, const char **at, const char *end);

#endif
