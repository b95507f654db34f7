#include "schema/codec/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIRST_CAPACITY = 256,
};

void text_fini(struct text *text)
{
    free(text->data);
    *text = (struct text){ 0 };
}

static bool grow(struct text *text, size_t bytes)
{
    size_t capacity = text->capacity ? text->capacity : FIRST_CAPACITY;
    while (capacity - text->length < bytes && capacity <= SIZE_MAX / 2)
        capacity *= 2;
    char *data = capacity - text->length < bytes ? NULL : realloc(text->data, capacity);
    if (data) {
        text->data = data;
        text->capacity = capacity;
        return true;
    }
    if (!text->may_fail) {
        fprintf(stderr, "cairn: out of memory (a text of %zu bytes)\n", text->length);
        abort();
    }
    text->failed = true;
    return false;
}

void text_append(struct text *text, const char *bytes, size_t length)
{
    if (text->failed || (length > text->capacity - text->length && !grow(text, length)) || !length)
        return;
    memcpy(text->data + text->length, bytes, length);
    text->length += length;
}

void text_append_string(struct text *text, const char *string)
{
    text_append(text, string, strlen(string));
}

void text_append_unsigned(struct text *text, uint64_t number)
{
    char digits[20];
    size_t first = sizeof(digits);
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    text_append(text, digits + first, sizeof(digits) - first);
}

void text_append_signed(struct text *text, int64_t number)
{
    if (number < 0)
        text_append(text, "-", 1);
    text_append_unsigned(text, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
}

void text_append_double(struct text *text, double number)
{
    char digits[32];
    int length = isfinite(number) ? snprintf(digits, sizeof(digits), "%.17g", number) : 0;
    if (length > 0)
        text_append(text, digits, (size_t)length);
    else
        text_append(text, "0", 1);
}

/* The bytes of the UTF-8 sequence at @bytes and its code point; 1 and U+FFFD if it is none. The zero byte at the end of
 * the string is no continuation, so nothing behind it is read. */
static size_t decode_utf8(const unsigned char *bytes, uint32_t *code)
{
    static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t length = bytes[0] >= 0xf0 ? 4 : bytes[0] >= 0xe0 ? 3 : 2;
    *code = 0xfffd;
    if (bytes[0] < 0xc2 || bytes[0] > 0xf4)
        return 1;
    uint32_t value = bytes[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 1;
        value = value << 6 | (bytes[i] & 0x3f);
    }
    if (value < smallest[length] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
        return 1;
    *code = value;
    return length;
}

static void append_escaped(struct text *text, uint32_t code)
{
    char escape[16];
    int length;
    if (code < 0x10000)
        length = snprintf(escape, sizeof(escape), "\\u%04X", code);
    else
        length = snprintf(escape, sizeof(escape), "\\u%04X\\u%04X", 0xd800 + ((code - 0x10000) >> 10),
                          0xdc00 + ((code - 0x10000) & 0x3ff));
    text_append(text, escape, (size_t)length);
}

static void append_special(struct text *text, unsigned char c)
{
    static const char letters[] = "\"\\\b\f\n\r\t";
    static const char escapes[] = "\"\\bfnrt";
    const char *found = c ? strchr(letters, c) : NULL;
    if (!found) {
        append_escaped(text, c);
        return;
    }
    char pair[] = { '\\', escapes[found - letters] };
    text_append(text, pair, sizeof(pair));
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void text_append_json(struct text *text, const char *string)
{
    text_append_json_bytes(text, string, strlen(string));
}

void text_append_json_bytes(struct text *text, const char *string, size_t length)
{
    const unsigned char *p = (const unsigned char *)string, *string_end = p + length;
    text_append(text, "\"", 1);
    while (p < string_end) {
        const unsigned char *run = p;
        while (is_plain(*p))
            p++;
        text_append(text, (const char *)run, (size_t)(p - run));
        if (*p >= 0x80) {
            uint32_t code;
            p += decode_utf8(p, &code);
            append_escaped(text, code);
        } else if (p < string_end) {
            append_special(text, *p++);
        }
    }
    text_append(text, "\"", 1);
}
