/* base64 - bytes out of text (RFC 4648, section 4) */
#ifndef CAIRN_CRYPTO_BASE64_H
#define CAIRN_CRYPTO_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most bytes that @text_bytes characters can give. */
static inline size_t base64_bytes_max(size_t text_bytes)
{
    return text_bytes / 4 * 3 + 3;
}

/* Ends of lines and spaces between characters are skipped. @out has base64_bytes_max() and may be @text. False when a
 * character does not belong there, or the text is cut off. */
bool base64_decode(const uint8_t *text, size_t text_bytes, uint8_t *out, size_t *out_bytes);

#endif
