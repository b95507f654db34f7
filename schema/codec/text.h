/* text - bytes that grow at their end
 *
 * What the encoder writes to. Growth doubles, so appending costs the same however long the text is. */
#ifndef CAIRN_SCHEMA_TEXT_H
#define CAIRN_SCHEMA_TEXT_H

#include "blockcore/base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero is empty. */
struct text {
    bool may_fail; /* whoever sets it looks at @failed; otherwise running out of memory ends the process */
    bool failed;   /* there was no memory: what was appended since is lost */
    char *data;    /* no zero byte at the end */
    size_t length;
    size_t capacity;
};

/* Frees the memory; the text is empty afterwards. */
void text_fini(struct text *text);

static inline void text_fini_cleanup(struct text *text)
{
    text_fini(text);
}

void text_append(struct text *text, const char *bytes, size_t length);
void text_append_string(struct text *text, const char *string);
void text_append_signed(struct text *text, int64_t number);
void text_append_unsigned(struct text *text, uint64_t number);

/* A JSON number; NaN and infinity, which JSON does not have, become 0. */
void text_append_double(struct text *text, double number);

/* A JSON string with its quotes, all ASCII. @string is UTF-8; what is not is replaced by U+FFFD, byte by byte. */
void text_append_json(struct text *text, const char *string);
/* The same for @length bytes, zero bytes among them perhaps; one more stands behind them. */
void text_append_json_bytes(struct text *text, const char *string, size_t length);

#endif
