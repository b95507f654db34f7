#include "schema/compiler/doc.h"

#include <ctype.h>
#include <string.h>

struct line {
    const char *text; /* without "# " */
    size_t length;
    struct location at;
};

struct doc_parser {
    struct compilation *compilation;
    struct doc *doc;
    bool in_features;
    VECTOR(char) text; /* of the entry that is being read */
};

const struct doc_entry *doc_find(const struct doc_entry *entries, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(entries[i].name, name) == 0)
            return &entries[i];
    return NULL;
}

static bool is_name_character(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.';
}

/* The length of NAME in "@NAME:", or 0. */
static size_t tag_name_length(const struct line *line)
{
    if (line->length < 3 || line->text[0] != '@')
        return 0;
    size_t length = 0;
    while (1 + length < line->length && is_name_character(line->text[1 + length]))
        length++;
    return length && 1 + length < line->length && line->text[1 + length] == ':' ? length : 0;
}

static const char *section_name(const struct line *line)
{
    static const char *const names[] = { "Returns", "Errors",   "Since", "Note",    "Notes",
                                         "Example", "Examples", "TODO",  "Features" };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        size_t length = strlen(names[i]);
        if (line->length > length && memcmp(line->text, names[i], length) == 0 && line->text[length] == ':')
            return names[i];
    }
    return NULL;
}

static void append(struct doc_parser *parser, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        VECTOR_PUSH(parser->compilation->arena, &parser->text, text[i]);
}

/* Gives the text that was read so far to the newest entry, or to the definition itself. */
static void finish_text(struct doc_parser *parser, const char **place)
{
    while (parser->text.count && isspace((unsigned char)parser->text.items[parser->text.count - 1]))
        parser->text.count--;
    *place =
        arena_strndup(parser->compilation->arena, parser->text.count ? parser->text.items : "", parser->text.count);
    parser->text.count = 0;
}

static void append_line(struct doc_parser *parser, const char *text, size_t length)
{
    size_t indentation = 0;
    while (indentation < 4 && indentation < length && text[indentation] == ' ')
        indentation++;
    if (parser->text.count)
        append(parser, "\n", 1);
    append(parser, text + indentation, length - indentation);
}

static bool next_line(struct doc_parser *parser, const char **rest, const char *end, struct line *line)
{
    const char *newline = memchr(*rest, '\n', (size_t)(end - *rest));
    const char *stop = newline ? newline : end;
    line->text = *rest + 1;
    line->length = (size_t)(stop - line->text);
    line->at.line++;
    line->at.column = 1;
    *rest = newline ? newline + 1 : end;
    while (line->length && isspace((unsigned char)line->text[line->length - 1]))
        line->length--;
    if (line->length == 0)
        return true;
    if (line->text[0] != ' ')
        return compilation_error(parser->compilation, line->at, "missing space after #");
    line->text++;
    line->length--;
    return true;
}

/* "@SYMBOL:" as the first line. */
static bool parse_symbol(struct doc_parser *parser, const struct line *line)
{
    size_t length = tag_name_length(line);
    if (line->length && line->text[0] == '@' && (length == 0 || length + 2 != line->length))
        return compilation_error(parser->compilation, line->at, "expected '@NAME:' alone on the line");
    if (length)
        parser->doc->symbol = arena_strndup(parser->compilation->arena, line->text + 1, length);
    else
        append_line(parser, line->text, line->length);
    return true;
}

/* Begins "@NAME: text" or "Section: text"; *place is where the text goes in the end. */
static bool begin_entry(struct doc_parser *parser, const struct line *line, const char **name_out)
{
    size_t length = tag_name_length(line);
    const char *name = length ? arena_strndup(parser->compilation->arena, line->text + 1, length) : section_name(line);
    if (!name)
        return false;
    *name_out = name;
    return true;
}

struct entry_list {
    struct doc_entry **items;
    size_t *count;
};

static bool add_entry(struct doc_parser *parser, const struct line *line, const char *name, const char ***place)
{
    struct doc *doc = parser->doc;
    struct doc_entry entry = { .name = name, .at = line->at, .text = "" };
    bool tag = line->text[0] == '@';
    const struct doc_entry *known;

    if (!tag) {
        known = NULL;
        VECTOR_PUSH(parser->compilation->arena, &doc->sections, entry);
        *place = &doc->sections.items[doc->sections.count - 1].text;
    } else if (parser->in_features) {
        known = doc_find(doc->features.items, doc->features.count, name);
        VECTOR_PUSH(parser->compilation->arena, &doc->features, entry);
        *place = &doc->features.items[doc->features.count - 1].text;
    } else {
        known = doc_find(doc->members.items, doc->members.count, name);
        VECTOR_PUSH(parser->compilation->arena, &doc->members, entry);
        *place = &doc->members.items[doc->members.count - 1].text;
    }
    if (known)
        return compilation_error(parser->compilation, line->at, "'%s' is documented twice", name);
    size_t skip = strlen(name) + (tag ? 2 : 1);
    while (skip < line->length && line->text[skip] == ' ')
        skip++;
    append(parser, line->text + skip, line->length - skip);
    return true;
}

static bool parse_line(struct doc_parser *parser, const struct line *line, const char ***place)
{
    const char *name;
    if (!parser->doc->symbol || !begin_entry(parser, line, &name)) {
        append_line(parser, line->text, line->length);
        return true;
    }
    finish_text(parser, *place);
    if (strcmp(name, "Features") == 0) {
        parser->in_features = true;
        static const char *nowhere;
        *place = &nowhere;
        return true;
    }
    if (line->text[0] != '@')
        parser->in_features = false;
    return add_entry(parser, line, name, place);
}

struct doc *doc_parse(struct compilation *compilation, struct location at, const char *text, size_t length)
{
    struct doc *doc = arena_alloc(compilation->arena, sizeof(*doc));
    doc->at = at;
    doc->text = "";
    struct doc_parser parser = { .compilation = compilation, .doc = doc };
    struct line line = { .at = at };
    const char *rest = text;
    const char **place = &doc->text;

    for (bool first = true; rest < text + length; first = false) {
        if (!next_line(&parser, &rest, text + length, &line))
            return NULL;
        if (first ? !parse_symbol(&parser, &line) : !parse_line(&parser, &line, &place))
            return NULL;
    }
    finish_text(&parser, place);
    return doc;
}
