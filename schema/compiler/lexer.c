#include "schema/compiler/lexer.h"

#include <ctype.h>
#include <string.h>

void lexer_init(struct lexer *lexer, struct compilation *compilation, const struct source *source)
{
    *lexer = (struct lexer){
        .compilation = compilation,
        .source = source,
        .next = source->text,
        .line = 1,
        .counted = source->text,
        .column = 1,
    };
}

static const char *source_end(const struct lexer *lexer)
{
    return lexer->source->text + lexer->source->length;
}

/* The place of lexer->next. Counts on from the last place asked for, so that long lines cost no more than short ones.
 */
static struct location here(struct lexer *lexer)
{
    for (; lexer->counted < lexer->next; lexer->counted++) {
        bool continues = (*lexer->counted & 0xc0) == 0x80; /* a character of UTF-8 */
        lexer->column = *lexer->counted == '\t' ? (lexer->column + 7) / 8 * 8 + 1 : lexer->column + !continues;
    }
    return (struct location){ .source = lexer->source, .line = lexer->line, .column = lexer->column };
}

static void begin_line(struct lexer *lexer)
{
    lexer->line++;
    lexer->counted = lexer->next;
    lexer->column = 1;
}

static const char *line_end(const struct lexer *lexer)
{
    const char *end = source_end(lexer);
    const char *newline = memchr(lexer->next, '\n', (size_t)(end - lexer->next));
    return newline ? newline : end;
}

/* Bytes of the white space at @p; 0 if it is none. In comments any character may stand, between tokens these: those
 * that Python calls space, since QEMU's generator asks it. */
static size_t space_length(const char *p, size_t room)
{
    static const char *const wide[] = {
        "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\xa8",
        "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80",
    };
    unsigned char c = (unsigned char)*p;
    if (c < 0x80)
        return isspace(c) || (c >= 0x1c && c <= 0x1f);
    for (size_t i = 0; i < ARRAY_SIZE(wide); i++)
        if (room >= strlen(wide[i]) && memcmp(p, wide[i], strlen(wide[i])) == 0)
            return strlen(wide[i]);
    bool general =
        room >= 3 && memcmp(p, "\xe2\x80", 2) == 0 && (unsigned char)p[2] >= 0x80 && (unsigned char)p[2] <= 0x8a;
    return general ? 3 : 0;
}

/* Skips white space, and comments unless they are wanted; stops at a "##" line in any case. */
static void skip_blank(struct lexer *lexer, bool comments_wanted)
{
    const char *end = source_end(lexer);
    while (lexer->next < end) {
        char c = *lexer->next;
        size_t space = c == '\n' ? 0 : space_length(lexer->next, (size_t)(end - lexer->next));
        if (c == '\n') {
            lexer->next++;
            begin_line(lexer);
        } else if (space) {
            lexer->next += space;
        } else if (c == '#' && !comments_wanted && !(end - lexer->next > 1 && lexer->next[1] == '#')) {
            lexer->next = line_end(lexer);
        } else {
            return;
        }
    }
}

static bool lex_comment(struct lexer *lexer)
{
    const char *end = line_end(lexer);
    lexer->token.kind = TOKEN_COMMENT;
    lexer->token.text = lexer->next;
    lexer->token.length = (size_t)(end - lexer->next);
    lexer->next = end;
    return true;
}

/* Checks the string that begins at lexer->next; sets *close to the quote behind it. */
static bool scan_string(struct lexer *lexer, const char **close)
{
    const char *end = source_end(lexer);
    for (const char *p = lexer->next; p < end && *p != '\n'; p++) {
        if (*p == '\'') {
            *close = p;
            return true;
        }
        if (*p == '\\') {
            p++;
            if (p == end || *p != '\\')
                return compilation_error(lexer->compilation, lexer->token.at, "unknown escape \\%c",
                                         p == end || *p < 32 || *p > 126 ? '?' : *p);
        } else if (*p < 32 || *p > 126) {
            return compilation_error(lexer->compilation, lexer->token.at, "funny character in string");
        }
    }
    return compilation_error(lexer->compilation, lexer->token.at, "missing terminating \"'\"");
}

static bool lex_string(struct lexer *lexer)
{
    const char *close = NULL;
    if (!scan_string(lexer, &close))
        return false;
    char *text = arena_strndup(lexer->compilation->arena, lexer->next, (size_t)(close - lexer->next));
    size_t length = 0;
    for (const char *p = lexer->next; p < close; p++) {
        p += *p == '\\';
        text[length++] = *p;
    }
    text[length] = '\0';
    lexer->token.kind = TOKEN_STRING;
    lexer->token.text = text;
    lexer->token.length = length;
    lexer->next = close + 1;
    return true;
}

static bool lex_word(struct lexer *lexer, const char *word, enum token_kind kind)
{
    size_t length = strlen(word);
    if ((size_t)(source_end(lexer) - lexer->next) < length || memcmp(lexer->next, word, length) != 0)
        return false;
    lexer->next += length;
    lexer->token.kind = kind;
    return true;
}

static const char *skip_digits(const char *p)
{
    while (*p >= '0' && *p <= '9')
        p++;
    return p;
}

/* A number as JSON has it, without exponent. */
static bool lex_number(struct lexer *lexer)
{
    const char *digits = lexer->next + (*lexer->next == '-');
    const char *end = *digits == '0' ? digits + 1 : skip_digits(digits);
    if (!lexer->numbers || end == digits)
        return false;
    if (*end == '.' && skip_digits(end + 1) > end + 1)
        end = skip_digits(end + 1);
    if (isalnum((unsigned char)*end) || *end == '.' || *end == '_')
        return false;
    lexer->token.kind = TOKEN_NUMBER;
    lexer->token.text = lexer->next;
    lexer->token.length = (size_t)(end - lexer->next);
    lexer->next = end;
    return true;
}

static bool stray(struct lexer *lexer)
{
    const char *end = source_end(lexer);
    size_t length = 1;
    while (lexer->next + length < end && !strchr("[]{}:,'\"# \t\r\n", lexer->next[length]) &&
           (unsigned char)lexer->next[length] > 32 && (unsigned char)lexer->next[length] < 127 && length < 40)
        length++;
    unsigned char first = (unsigned char)*lexer->next;
    if (first < 32 || first > 126)
        return compilation_error(lexer->compilation, lexer->token.at, "stray byte 0x%02x", first);
    compilation_error(lexer->compilation, lexer->token.at, "stray '%.*s'", (int)length, lexer->next);
    if (first == '"')
        compilation_note(lexer->compilation, lexer->token.at, "strings stand in single quotes");
    if (!lexer->numbers && (isdigit(first) || first == '-'))
        compilation_note(lexer->compilation, lexer->token.at,
                         "numbers are there only after { 'pragma': { 'language': 1 } }");
    return false;
}

static bool lex_punctuation(struct lexer *lexer)
{
    static const char punctuation[] = "{}[]:,";
    static const enum token_kind kinds[] = { TOKEN_LEFT_BRACE,    TOKEN_RIGHT_BRACE, TOKEN_LEFT_BRACKET,
                                             TOKEN_RIGHT_BRACKET, TOKEN_COLON,       TOKEN_COMMA };
    const char *found = *lexer->next ? strchr(punctuation, *lexer->next) : NULL;
    if (!found)
        return false;
    lexer->token.kind = kinds[found - punctuation];
    lexer->next++;
    return true;
}

static bool lex(struct lexer *lexer, bool comments_wanted)
{
    skip_blank(lexer, comments_wanted);
    lexer->token = (struct token){ .kind = TOKEN_END, .at = here(lexer) };
    if (lexer->next == source_end(lexer) || lex_punctuation(lexer))
        return true;
    if (*lexer->next == '#')
        return lex_comment(lexer);
    if (*lexer->next == '\'') {
        lexer->next++;
        return lex_string(lexer);
    }
    return lex_word(lexer, "true", TOKEN_TRUE) || lex_word(lexer, "false", TOKEN_FALSE) || lex_number(lexer) ||
           stray(lexer);
}

bool lexer_next(struct lexer *lexer)
{
    return lex(lexer, false);
}

bool lexer_next_comment(struct lexer *lexer)
{
    return lex(lexer, true);
}
