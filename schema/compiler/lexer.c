#include "schema/compiler/lexer.h"

#include <ctype.h>
#include <string.h>

void lexer_init(struct lexer *lexer, struct compilation *compilation, const struct source *source)
{
    *lexer = (struct lexer){
        .compilation = compilation,
        .source = source,
        .next = source->text,
        .line_start = source->text,
        .line = 1,
    };
}

static const char *source_end(const struct lexer *lexer)
{
    return lexer->source->text + lexer->source->length;
}

static struct location location_of(const struct lexer *lexer, const char *place)
{
    unsigned column = 1;
    for (const char *p = lexer->line_start; p < place; p++)
        column = *p == '\t' ? (column + 7) / 8 * 8 + 1 : column + 1;
    return (struct location){ .source = lexer->source, .line = lexer->line, .column = column };
}

static void begin_line(struct lexer *lexer)
{
    lexer->line++;
    lexer->line_start = lexer->next;
}

/* Skips white space and plain comments; stops at a "##" line. */
static void skip_blank(struct lexer *lexer)
{
    const char *end = source_end(lexer);
    while (lexer->next < end) {
        char c = *lexer->next;
        if (c == '\n') {
            lexer->next++;
            begin_line(lexer);
        } else if (isspace((unsigned char)c)) {
            lexer->next++;
        } else if (c == '#' && !(end - lexer->next > 1 && lexer->next[1] == '#')) {
            const char *newline = memchr(lexer->next, '\n', (size_t)(end - lexer->next));
            lexer->next = newline ? newline : end;
        } else {
            return;
        }
    }
}

/* Takes the line at lexer->next; moves behind its newline. */
static void take_line(struct lexer *lexer, const char **line, size_t *length)
{
    const char *end = source_end(lexer);
    const char *newline = memchr(lexer->next, '\n', (size_t)(end - lexer->next));
    *line = lexer->next;
    *length = (size_t)((newline ? newline : end) - lexer->next);
    lexer->next = newline ? newline + 1 : end;
    if (newline)
        begin_line(lexer);
}

static bool lex_doc(struct lexer *lexer)
{
    const char *line;
    size_t length;
    take_line(lexer, &line, &length);
    if (length != 2)
        return compilation_error(lexer->compilation, lexer->token.at,
                                 "junk after '##' at start of documentation comment");

    lexer->token.kind = TOKEN_DOC;
    lexer->token.text = lexer->next;
    while (lexer->next < source_end(lexer)) {
        struct location at = location_of(lexer, lexer->next);
        take_line(lexer, &line, &length);
        if (length == 0 || *line != '#')
            break;
        if (length >= 2 && line[1] == '#') {
            if (length != 2)
                return compilation_error(lexer->compilation, at, "junk after '##' at end of documentation comment");
            lexer->token.length = (size_t)(line - lexer->token.text);
            return true;
        }
    }
    return compilation_error(lexer->compilation, lexer->token.at, "documentation comment must end with '##'");
}

static bool lex_string(struct lexer *lexer)
{
    const char *end = source_end(lexer);
    char *out =
        arena_array(lexer->compilation->arena, 1, (size_t)(end - lexer->next > 80 ? 81 : end - lexer->next + 1));
    size_t room = (size_t)(end - lexer->next > 80 ? 80 : end - lexer->next);
    size_t length = 0;

    lexer->token.kind = TOKEN_STRING;
    for (const char *p = lexer->next; p < end && *p != '\n'; p++) {
        char c = *p;
        if (c == '\'') {
            lexer->next = p + 1;
            out[length] = '\0';
            lexer->token.text = out;
            lexer->token.length = length;
            return true;
        }
        if (c == '\\') {
            p++;
            if (p == end || *p != '\\')
                return compilation_error(lexer->compilation, location_of(lexer, p - 1), "unknown escape \\%c",
                                         p == end || *p < 32 || *p > 126 ? '?' : *p);
        } else if (c < 32 || c > 126) {
            return compilation_error(lexer->compilation, location_of(lexer, p), "funny character in string");
        }
        if (length == room) {
            char *larger = arena_array(lexer->compilation->arena, 2, room + 1);
            memcpy(larger, out, length);
            out = larger;
            room = room * 2 + 1;
        }
        out[length++] = c;
    }
    return compilation_error(lexer->compilation, lexer->token.at, "missing terminating \"'\"");
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
    return compilation_error(lexer->compilation, lexer->token.at, "stray '%.*s'", (int)length, lexer->next);
}

bool lexer_next(struct lexer *lexer)
{
    static const char punctuation[] = "{}[]:,";
    static const enum token_kind kinds[] = { TOKEN_LEFT_BRACE,    TOKEN_RIGHT_BRACE, TOKEN_LEFT_BRACKET,
                                             TOKEN_RIGHT_BRACKET, TOKEN_COLON,       TOKEN_COMMA };

    skip_blank(lexer);
    lexer->token = (struct token){ .kind = TOKEN_END, .at = location_of(lexer, lexer->next) };
    if (lexer->next == source_end(lexer))
        return true;

    char c = *lexer->next;
    const char *found = c ? strchr(punctuation, c) : NULL;
    if (found) {
        lexer->token.kind = kinds[found - punctuation];
        lexer->next++;
        return true;
    }
    if (c == '#')
        return lex_doc(lexer);
    if (c == '\'') {
        lexer->next++;
        return lex_string(lexer);
    }
    return lex_word(lexer, "true", TOKEN_TRUE) || lex_word(lexer, "false", TOKEN_FALSE) || stray(lexer);
}
