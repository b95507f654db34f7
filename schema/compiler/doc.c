#include "schema/compiler/doc.h"

#include <ctype.h>
#include <string.h>

struct doc_parser {
    struct compilation *compilation;
    struct lexer *lexer;
    struct doc *doc;
    bool at_end;         /* the closing "##" was read */
    const char *line;    /* the current one, without "# " and trailing blanks */
    size_t length;       /* of it */
    VECTOR(char) text;   /* of the entry that is being read */
    size_t blank_lines;  /* that came since, and count only if more text follows */
    bool sections_begun; /* members may no longer be described */
};

const struct doc_entry *doc_find(const struct doc_entry *entries, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(entries[i].name, name) == 0)
            return &entries[i];
    return NULL;
}

static struct location line_at(const struct doc_parser *parser)
{
    return parser->lexer->token.at;
}

static bool starts_with(const struct doc_parser *parser, const char *text)
{
    return parser->length >= strlen(text) && memcmp(parser->line, text, strlen(text)) == 0;
}

static size_t indentation(const struct doc_parser *parser)
{
    size_t width = 0;
    while (width < parser->length && isspace((unsigned char)parser->line[width]))
        width++;
    return width;
}

/* Looks at the current token: a line of the comment, or its end. */
static bool take_line(struct doc_parser *parser)
{
    const struct token *token = &parser->lexer->token;
    if (token->kind != TOKEN_COMMENT) {
        compilation_error(parser->compilation, token->at, "documentation comment must end with '##'");
        compilation_note(parser->compilation, parser->doc->at, "it begins here");
        return false;
    }
    if (token->length >= 2 && token->text[1] == '#') {
        parser->at_end = true;
        return token->length == 2 ||
               compilation_error(parser->compilation, token->at, "junk after '##' at end of documentation comment");
    }
    if (memchr(token->text, '\0', token->length))
        return compilation_error(parser->compilation, token->at, "zero byte in documentation comment");
    if (token->length > 1 && token->text[1] != ' ')
        return compilation_error(parser->compilation, token->at, "missing space after #");
    parser->line = token->text + (token->length > 1 ? 2 : 1);
    parser->length = token->length > 1 ? token->length - 2 : 0;
    while (parser->length && isspace((unsigned char)parser->line[parser->length - 1]))
        parser->length--;
    return true;
}

static bool next_line(struct doc_parser *parser)
{
    return lexer_next_comment(parser->lexer) && take_line(parser);
}

static bool skip_blank_lines(struct doc_parser *parser)
{
    while (!parser->at_end && parser->length == 0)
        if (!next_line(parser))
            return false;
    return true;
}

/* Room for @length more bytes. */
static char *extend(struct doc_parser *parser, size_t length)
{
    size_t used = parser->text.count;
    if (parser->text.capacity - used < length) {
        size_t larger = (used + length) * 2;
        char *moved = arena_array(parser->compilation->arena, 1, larger);
        if (used)
            memcpy(moved, parser->text.items, used);
        parser->text.items = moved;
        parser->text.capacity = larger;
    }
    parser->text.count += length;
    return parser->text.items + used;
}

static void append(struct doc_parser *parser, const char *text, size_t length)
{
    if (parser->text.count)
        memset(extend(parser, parser->blank_lines + 1), '\n', parser->blank_lines + 1);
    parser->blank_lines = 0;
    memcpy(extend(parser, length), text, length);
}

/* Adds the current line, without @indent columns, or a blank one. */
static void append_line(struct doc_parser *parser, size_t indent)
{
    if (parser->length == 0)
        parser->blank_lines++;
    else
        append(parser, parser->line + indent, parser->length - indent);
}

static const char *finish_text(struct doc_parser *parser)
{
    const char *text =
        arena_strndup(parser->compilation->arena, parser->text.count ? parser->text.items : "", parser->text.count);
    parser->text.count = 0;
    parser->blank_lines = 0;
    return text;
}

/* The length of NAME in "@NAME:", which may be 0; false if the line does not begin so. */
static bool match_name(const struct doc_parser *parser, size_t *length)
{
    const char *colon = parser->length ? memchr(parser->line, ':', parser->length) : NULL;
    if (!colon || parser->line[0] != '@')
        return false;
    *length = (size_t)(colon - parser->line) - 1;
    return true;
}

/* The heading that begins the line, or NULL. Two colons are markup, not a heading. */
static const char *match_section(const struct doc_parser *parser)
{
    static const char *const names[] = { "Returns", "Errors", "Since", "Note", "Notes", "Example", "Examples", "TODO" };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        size_t length = strlen(names[i]);
        if (starts_with(parser, names[i]) && parser->length > length && parser->line[length] == ':' &&
            !(parser->length > length + 1 && parser->line[length + 1] == ':'))
            return names[i];
    }
    return NULL;
}

/* What follows the tag on its line, then the lines that are indented at least as much as the first of them. */
static bool read_indented(struct doc_parser *parser, size_t skip)
{
    size_t name_length;
    while (skip < parser->length && parser->line[skip] == ' ')
        skip++;
    if (skip < parser->length)
        append(parser, parser->line + skip, parser->length - skip);
    if (!next_line(parser))
        return false;
    for (; !parser->at_end && parser->length == 0; parser->blank_lines++)
        if (!next_line(parser))
            return false;
    size_t indent = parser->at_end ? 0 : indentation(parser);
    if (indent == 0)
        return true;

    append_line(parser, indent);
    for (bool first = true;; first = false) {
        if (!next_line(parser))
            return false;
        if (parser->at_end || match_name(parser, &name_length))
            return true;
        if (parser->length && indentation(parser) < indent)
            return !first || compilation_error(parser->compilation, line_at(parser),
                                               "unexpected de-indent (expected at least %zu spaces)", indent);
        append_line(parser, indent);
    }
}

static struct doc_entry *push_entry(struct doc_parser *parser, struct doc_entries *list, const char *name)
{
    VECTOR_PUSH(parser->compilation->arena, list, ((struct doc_entry){ .name = name, .at = line_at(parser) }));
    return &list->items[list->count - 1];
}

/* "@NAME: text" lines, one after the other. */
static bool read_descriptions(struct doc_parser *parser, struct doc_entries *list)
{
    size_t length;
    while (!parser->at_end && match_name(parser, &length)) {
        const char *name = arena_strndup(parser->compilation->arena, parser->line + 1, length);
        const struct doc_entry *known = doc_find(list->items, list->count, name);
        if (length == 0)
            return compilation_error(parser->compilation, line_at(parser), "a name is missing between '@' and ':'");
        if (known) {
            compilation_error(parser->compilation, line_at(parser), "'%s' is documented twice", name);
            compilation_note(parser->compilation, known->at, "first here");
            return false;
        }
        struct doc_entry *entry = push_entry(parser, list, name);
        if (!read_indented(parser, length + 2))
            return false;
        entry->text = finish_text(parser);
    }
    return true;
}

static bool read_features(struct doc_parser *parser)
{
    size_t length;
    if (parser->doc->features.count)
        return compilation_error(parser->compilation, line_at(parser), "second 'Features:' line");
    if (!next_line(parser) || !skip_blank_lines(parser))
        return false;
    if (parser->at_end || !match_name(parser, &length))
        return compilation_error(parser->compilation, line_at(parser), "descriptions of features expected");
    parser->sections_begun = true;
    return read_descriptions(parser, &parser->doc->features);
}

static bool read_members(struct doc_parser *parser, size_t name_length)
{
    if (parser->sections_begun)
        return compilation_error(parser->compilation, line_at(parser), "description of '@%.*s:' follows a section",
                                 (int)name_length, parser->line + 1);
    parser->sections_begun = true;
    return read_descriptions(parser, &parser->doc->members);
}

static bool refuse_section(struct doc_parser *parser, const char *name)
{
    compilation_error(parser->compilation, line_at(parser), "there are no '%s' sections", name);
    compilation_note(parser->compilation, line_at(parser), "write '.. %s::' and indent what follows",
                     name[0] == 'N' ? "note" : "qmp-example");
    return false;
}

static bool read_section(struct doc_parser *parser, const char *name)
{
    struct doc_entries *sections = &parser->doc->sections;
    if (name[0] == 'N' || strncmp(name, "Ex", 2) == 0)
        return refuse_section(parser, name);
    const struct doc_entry *known = doc_find(sections->items, sections->count, name);
    if (known && strcmp(name, "TODO") != 0) {
        compilation_error(parser->compilation, line_at(parser), "second '%s' section", name);
        compilation_note(parser->compilation, known->at, "the first is here");
        return false;
    }
    parser->sections_begun = true;
    struct doc_entry *entry = push_entry(parser, sections, name);
    if (!read_indented(parser, strlen(name) + 1))
        return false;
    entry->text = finish_text(parser);
    return true;
}

/* Paragraphs up to the next line that begins something else. */
static bool read_plain(struct doc_parser *parser)
{
    struct doc *doc = parser->doc;
    size_t length;
    bool overview = !doc->members.count && !doc->features.count && !doc->sections.count;
    struct doc_entry *entry = overview ? NULL : push_entry(parser, &doc->sections, "");
    for (;;) {
        for (; !parser->at_end && parser->length;) {
            append_line(parser, 0);
            if (!next_line(parser))
                return false;
        }
        for (; !parser->at_end && parser->length == 0; parser->blank_lines++)
            if (!next_line(parser))
                return false;
        if (parser->at_end || match_name(parser, &length) || match_section(parser) || starts_with(parser, "=") ||
            (parser->length == strlen("Features:") && starts_with(parser, "Features:")))
            break;
    }
    *(entry ? &entry->text : &doc->text) = finish_text(parser);
    return true;
}

/* The current line is the first of something, after a blank one. */
static bool read_part(struct doc_parser *parser)
{
    size_t length;
    const char *section;
    if (parser->length == strlen("Features:") && starts_with(parser, "Features:"))
        return read_features(parser);
    if (match_name(parser, &length))
        return read_members(parser, length);
    if ((section = match_section(parser)))
        return read_section(parser, section);
    if (starts_with(parser, "="))
        return compilation_error(parser->compilation, line_at(parser),
                                 "unexpected '=' markup in definition documentation");
    return read_plain(parser);
}

static const struct doc_entry *earlier_empty(const struct doc_entries *list, const struct doc_entry *known)
{
    for (size_t i = 0; i < list->count; i++)
        if (!*list->items[i].text && (!known || list->items[i].at.line < known->at.line))
            return &list->items[i];
    return known;
}

/* Whatever has a heading has a text. */
static bool check_texts(struct doc_parser *parser)
{
    const struct doc *doc = parser->doc;
    const struct doc_entry *sections = earlier_empty(&doc->sections, NULL);
    const struct doc_entry *empty = earlier_empty(&doc->members, earlier_empty(&doc->features, sections));
    if (!empty)
        return true;
    return compilation_error(parser->compilation, empty->at, "text required after '%s%s:'",
                             empty == sections ? "" : "@", empty->name);
}

static bool read_definition(struct doc_parser *parser)
{
    if (parser->line[parser->length - 1] != ':')
        return compilation_error(parser->compilation, line_at(parser), "line should end with ':'");
    if (parser->length == 2)
        return compilation_error(parser->compilation, line_at(parser), "name required after '@'");
    parser->doc->symbol = arena_strndup(parser->compilation->arena, parser->line + 1, parser->length - 2);
    if (!next_line(parser))
        return false;
    for (;;) {
        if (!skip_blank_lines(parser))
            return false;
        if (parser->at_end)
            break;
        if (!read_part(parser))
            return false;
    }
    return check_texts(parser);
}

static bool read_free_form(struct doc_parser *parser)
{
    size_t length;
    for (bool first = true; !parser->at_end; first = false) {
        if (match_name(parser, &length))
            return compilation_error(parser->compilation, line_at(parser),
                                     "'@%.*s:' not allowed in free-form documentation", (int)length, parser->line + 1);
        if (starts_with(parser, "=") && !first)
            return compilation_error(parser->compilation, line_at(parser),
                                     "'=' heading must come first in a comment block");
        append_line(parser, 0);
        if (!next_line(parser))
            return false;
    }
    parser->doc->text = finish_text(parser);
    return true;
}

struct doc *doc_parse(struct compilation *compilation, struct lexer *lexer)
{
    struct doc *doc = arena_alloc(compilation->arena, sizeof(*doc));
    doc->at = lexer->token.at;
    doc->text = "";
    doc->raw = lexer->token.text;
    struct doc_parser parser = { .compilation = compilation, .lexer = lexer, .doc = doc };
    if (lexer->token.length != 2) {
        compilation_error(compilation, doc->at, "junk after '##' at start of documentation comment");
        return NULL;
    }
    if (!next_line(&parser))
        return NULL;
    bool definition = !parser.at_end && starts_with(&parser, "@");
    if (!(definition ? read_definition(&parser) : read_free_form(&parser)))
        return NULL;
    doc->raw_length = (size_t)(lexer->token.text + lexer->token.length - doc->raw);
    return lexer_next(lexer) ? doc : NULL;
}
