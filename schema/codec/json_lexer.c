#include "schema/codec/json_lexer.h"

#include "blockcore/base/annotations.h"
#include "blockcore/base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A token's buffer above this size is given back when the message is over. */
#define TEXT_KEEP_BYTES 4096

void json_lexer_init(struct json_lexer *lexer)
{
    *lexer = (struct json_lexer){ .keep = true, .after_newline = true };
}

void json_lexer_fini(struct json_lexer *lexer)
{
    json_lexer_wipe(lexer);
    free(lexer->text);
    lexer->text = NULL;
    lexer->capacity = 0;
}

void json_lexer_wipe(struct json_lexer *lexer)
{
    if (lexer->text)
        explicit_bzero(lexer->text, lexer->capacity);
}

void json_lexer_reset(struct json_lexer *lexer)
{
    if (lexer->capacity > TEXT_KEEP_BYTES)
        json_lexer_fini(lexer);
    lexer->state = LEX_BETWEEN;
    lexer->keep = true;
    lexer->length = 0;
}

void json_lexer_skip(struct json_lexer *lexer)
{
    lexer->keep = false;
    if (lexer->capacity > TEXT_KEEP_BYTES)
        json_lexer_fini(lexer);
}

/* Nothing of the text stays where it was: it may be a secret. */
static void grow(struct json_lexer *lexer, size_t capacity)
{
    char *text = xmalloc(capacity);
    if (lexer->length)
        memcpy(text, lexer->text, lexer->length);
    json_lexer_fini(lexer);
    lexer->text = text;
    lexer->capacity = capacity;
}

static void append(struct json_lexer *lexer, const char *bytes, size_t count)
{
    if (!lexer->keep)
        return;
    if (count >= lexer->capacity - lexer->length) {
        size_t capacity = lexer->capacity ? lexer->capacity : 64;
        while (count >= capacity - lexer->length)
            capacity *= 2;
        grow(lexer, capacity);
    }
    memcpy(lexer->text + lexer->length, bytes, count);
    lexer->length += count;
}

/* The text is always followed by a zero byte, for strtod() and friends; append() keeps room for it. */
static void terminate(struct json_lexer *lexer)
{
    append(lexer, "", 0);
    if (lexer->keep)
        lexer->text[lexer->length] = '\0';
}

static void append_character(struct json_lexer *lexer, uint32_t c)
{
    char utf8[4];
    size_t count = 0;
    if (c < 0x80) {
        utf8[count++] = (char)c;
    } else {
        if (c < 0x800) {
            utf8[count++] = (char)(0xc0 | c >> 6);
        } else {
            if (c < 0x10000) {
                utf8[count++] = (char)(0xe0 | c >> 12);
            } else {
                utf8[count++] = (char)(0xf0 | c >> 18);
                utf8[count++] = (char)(0x80 | (c >> 12 & 0x3f));
            }
            utf8[count++] = (char)(0x80 | (c >> 6 & 0x3f));
        }
        utf8[count++] = (char)(0x80 | (c & 0x3f));
    }
    append(lexer, utf8, count);
}

/* Only the first thing that is wrong with a token is told. */
static void PRINTF_LIKE(2, 3) mark_bad(struct json_lexer *lexer, const char *format, ...)
{
    if (lexer->bad)
        return;
    lexer->bad = true;
    va_list args;
    va_start(args, format);
    vsnprintf(lexer->message, sizeof(lexer->message), format, args);
    va_end(args);
}

static enum json_token stray(struct json_lexer *lexer, unsigned char byte)
{
    if (byte > ' ' && byte < 0x7f)
        snprintf(lexer->message, sizeof(lexer->message), "stray '%c'", byte);
    else
        snprintf(lexer->message, sizeof(lexer->message), "stray byte 0x%02x%s", byte,
                 lexer->state == LEX_BETWEEN ? "" : " in a string");
    lexer->state = LEX_BETWEEN;
    return TOKEN_STRAY;
}

static void begin_token(struct json_lexer *lexer, enum json_lexer_state state)
{
    lexer->state = state;
    lexer->length = 0;
    lexer->bad = false;
    lexer->high = 0;
    lexer->continuations = 0;
}

/* A string that consists of half a surrogate pair, or an unfinished UTF-8 character, before something else. */
static void end_character(struct json_lexer *lexer)
{
    if (lexer->continuations)
        mark_bad(lexer, "invalid UTF-8 sequence in string");
    if (lexer->high)
        mark_bad(lexer, "\\u%04x is not a valid Unicode character", lexer->high);
    lexer->continuations = 0;
    lexer->high = 0;
}

static void begin_utf8(struct json_lexer *lexer, unsigned char byte)
{
    end_character(lexer);
    if (byte >= 0xc2 && byte <= 0xdf) {
        lexer->continuations = 1;
        lexer->character = byte & 0x1f;
        lexer->smallest = 0x80;
    } else if (byte >= 0xe0 && byte <= 0xef) {
        lexer->continuations = 2;
        lexer->character = byte & 0x0f;
        lexer->smallest = 0x800;
    } else if (byte >= 0xf0 && byte <= 0xf4) {
        lexer->continuations = 3;
        lexer->character = byte & 0x07;
        lexer->smallest = 0x10000;
    } else {
        mark_bad(lexer, "invalid UTF-8 sequence in string");
    }
}

static void utf8_byte(struct json_lexer *lexer, unsigned char byte)
{
    if ((byte & 0xc0) != 0x80 || !lexer->continuations) {
        begin_utf8(lexer, byte);
        return;
    }
    lexer->character = lexer->character << 6 | (byte & 0x3f);
    if (--lexer->continuations)
        return;
    uint32_t c = lexer->character;
    if (c < lexer->smallest || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        mark_bad(lexer, "invalid UTF-8 sequence in string");
    append_character(lexer, c);
}

static bool is_plain(const struct json_lexer *lexer, unsigned char byte)
{
    return byte >= ' ' && byte < 0x80 && byte != '\\' && byte != (unsigned char)lexer->quote;
}

static enum json_token in_string(struct json_lexer *lexer, const char **at, const char *end)
{
    while (*at < end) {
        const char *run = *at;
        while (*at < end && is_plain(lexer, (unsigned char)**at))
            (*at)++;
        if (*at > run) {
            end_character(lexer);
            append(lexer, run, (size_t)(*at - run));
            continue;
        }
        unsigned char byte = (unsigned char)*(*at)++;
        if (byte < ' ' || byte >= 0xfe)
            return stray(lexer, byte);
        if (byte >= 0x80) {
            utf8_byte(lexer, byte);
        } else if (byte == '\\') {
            lexer->state = LEX_ESCAPE;
            return TOKEN_MORE;
        } else {
            end_character(lexer);
            terminate(lexer);
            lexer->state = LEX_BETWEEN;
            return lexer->bad ? TOKEN_BAD : TOKEN_STRING;
        }
    }
    return TOKEN_MORE;
}

static enum json_token in_escape(struct json_lexer *lexer, const char **at)
{
    static const char meanings[256] = { ['"'] = '"',  ['\''] = '\'', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b',
                                        ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r',  ['t'] = '\t' };
    unsigned char byte = (unsigned char)*(*at)++;
    lexer->state = LEX_STRING;
    if (byte < ' ' || byte >= 0xfe)
        return stray(lexer, byte);
    if (byte == 'u') {
        lexer->state = LEX_UNICODE;
        lexer->digits = 0;
        lexer->unit = 0;
        return TOKEN_MORE;
    }
    end_character(lexer);
    if (meanings[byte])
        append(lexer, &meanings[byte], 1);
    else
        mark_bad(lexer, "invalid escape sequence in string");
    return TOKEN_MORE;
}

static void end_unicode(struct json_lexer *lexer)
{
    uint32_t unit = lexer->unit;
    bool is_high = unit >= 0xd800 && unit <= 0xdbff;
    bool is_low = unit >= 0xdc00 && unit <= 0xdfff;

    if (is_low && lexer->high) {
        append_character(lexer, 0x10000 + ((lexer->high - 0xd800) << 10) + (unit - 0xdc00));
        lexer->high = 0;
        return;
    }
    end_character(lexer);
    if (is_high)
        lexer->high = unit;
    else if (is_low)
        mark_bad(lexer, "\\u%04x is not a valid Unicode character", unit);
    else if (unit == 0)
        mark_bad(lexer, "\\u0000 is not allowed in a string");
    else
        append_character(lexer, unit);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void in_unicode(struct json_lexer *lexer, const char **at)
{
    int digit = hex_digit(**at);
    if (digit < 0) { /* the byte is looked at again, as part of the string */
        mark_bad(lexer, "invalid escape sequence in string");
        lexer->state = LEX_STRING;
        return;
    }
    (*at)++;
    lexer->unit = lexer->unit << 4 | (uint32_t)digit;
    if (++lexer->digits == 4) {
        lexer->state = LEX_STRING;
        end_unicode(lexer);
    }
}

static bool is_word_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '+' ||
           c == '.' || c == '_';
}

static const char *skip_digits(const char *s)
{
    while (*s >= '0' && *s <= '9')
        s++;
    return s;
}

/* RFC 8259, section 6. */
static bool is_number(const char *s)
{
    if (*s == '-')
        s++;
    const char *integer = s;
    s = skip_digits(s);
    if (s == integer || (*integer == '0' && s > integer + 1))
        return false;
    if (*s == '.') {
        const char *fraction = ++s;
        s = skip_digits(s);
        if (s == fraction)
            return false;
    }
    if (*s == 'e' || *s == 'E') {
        s++;
        if (*s == '+' || *s == '-')
            s++;
        const char *exponent = s;
        s = skip_digits(s);
        if (s == exponent)
            return false;
    }
    return *s == '\0';
}

static enum json_token end_word(struct json_lexer *lexer)
{
    lexer->state = LEX_BETWEEN;
    if (!lexer->keep)
        return TOKEN_NULL; /* skipped input: any value will do */
    terminate(lexer);
    if (lexer->bad)
        return TOKEN_BAD;
    if (strcmp(lexer->text, "true") == 0)
        return TOKEN_TRUE;
    if (strcmp(lexer->text, "false") == 0)
        return TOKEN_FALSE;
    if (strcmp(lexer->text, "null") == 0)
        return TOKEN_NULL;
    if (is_number(lexer->text))
        return TOKEN_NUMBER;
    bool numeric = hex_digit(lexer->text[0]) >= 0 && lexer->text[0] <= '9';
    mark_bad(lexer, "invalid %s '%.40s'", numeric || lexer->text[0] == '-' ? "number" : "keyword", lexer->text);
    return TOKEN_BAD;
}

static enum json_token in_word(struct json_lexer *lexer, const char **at, const char *end)
{
    const char *run = *at;
    while (*at < end && is_word_byte(**at))
        (*at)++;
    size_t count = (size_t)(*at - run);
    if (lexer->length + count > JSON_WORD_MAX)
        mark_bad(lexer, "a number or keyword is longer than %d characters", JSON_WORD_MAX);
    else
        append(lexer, run, count);
    return *at < end ? end_word(lexer) : TOKEN_MORE;
}

static enum json_token punctuation(unsigned char byte)
{
    switch (byte) {
    case '{':
        return TOKEN_LBRACE;
    case '}':
        return TOKEN_RBRACE;
    case '[':
        return TOKEN_LBRACKET;
    case ']':
        return TOKEN_RBRACKET;
    case ':':
        return TOKEN_COLON;
    case ',':
        return TOKEN_COMMA;
    default:
        return TOKEN_MORE;
    }
}

static enum json_token between(struct json_lexer *lexer, const char **at)
{
    unsigned char byte = (unsigned char)*(*at)++;
    if (byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n') {
        lexer->after_newline = byte == '\n';
        return TOKEN_MORE;
    }
    lexer->line_begin = lexer->after_newline;
    lexer->after_newline = false;
    enum json_token token = punctuation(byte);
    if (token != TOKEN_MORE)
        return token;
    if (byte == '"' || byte == '\'') {
        begin_token(lexer, LEX_STRING);
        lexer->quote = (char)byte;
        return TOKEN_MORE;
    }
    if (!is_word_byte((char)byte))
        return stray(lexer, byte);
    begin_token(lexer, LEX_WORD);
    append(lexer, (const char *)&byte, 1);
    return TOKEN_MORE;
}

enum json_token json_lexer_next(struct json_lexer *lexer, const char **at, const char *end)
{
    enum json_token token = TOKEN_MORE;
    while (token == TOKEN_MORE && *at < end) {
        switch (lexer->state) {
        case LEX_BETWEEN:
            token = between(lexer, at);
            break;
        case LEX_STRING:
            token = in_string(lexer, at, end);
            break;
        case LEX_ESCAPE:
            token = in_escape(lexer, at);
            break;
        case LEX_UNICODE:
            in_unicode(lexer, at);
            break;
        case LEX_WORD:
            token = in_word(lexer, at, end);
            break;
        }
    }
    return token;
}
