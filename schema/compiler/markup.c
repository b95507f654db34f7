#include "schema/compiler/markup.h"

#include "schema/compiler/output.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

static const char example_mark[] = ".. qmp-example::";

struct line_reader {
    const char *rest;
    const char *text; /* of the current line */
    size_t length;
    size_t indentation;
};

static bool next_line(struct line_reader *reader)
{
    if (!reader->rest || !*reader->rest)
        return false;
    const char *newline = strchr(reader->rest, '\n');
    reader->text = reader->rest;
    reader->length = newline ? (size_t)(newline - reader->rest) : strlen(reader->rest);
    reader->rest = newline ? newline + 1 : NULL;
    reader->indentation = 0;
    while (reader->indentation < reader->length && reader->text[reader->indentation] == ' ')
        reader->indentation++;
    return true;
}

static bool is_blank(const struct line_reader *reader)
{
    return reader->indentation == reader->length;
}

static bool begins_with(const struct line_reader *reader, const char *start)
{
    size_t length = strlen(start);
    return reader->length - reader->indentation >= length &&
           memcmp(reader->text + reader->indentation, start, length) == 0;
}

static bool begins_item(const struct line_reader *reader)
{
    return begins_with(reader, "- ") || begins_with(reader, "* ");
}

/* Whether a line is still part of an example whose mark stands at @margin. */
static bool continues_example(const struct line_reader *reader, size_t margin)
{
    if (is_blank(reader) || begins_with(reader, "->") || begins_with(reader, "<-"))
        return true;
    if (begins_with(reader, ".. "))
        return false;
    return reader->indentation > margin || strchr(":{}[]\"", reader->text[reader->indentation]);
}

static const char *without_indentation(struct arena *arena, const char *text)
{
    size_t margin = SIZE_MAX;
    struct line_reader reader = { .rest = text };
    while (next_line(&reader))
        if (!is_blank(&reader) && reader.indentation < margin)
            margin = reader.indentation;
    struct output result = { .arena = arena };
    for (reader.rest = text; next_line(&reader);)
        output_printf(&result, "%.*s\n", is_blank(&reader) ? 0 : (int)(reader.length - margin),
                      is_blank(&reader) ? "" : reader.text + margin);
    while (result.text.count && isspace((unsigned char)result.text.items[result.text.count - 1]))
        result.text.count--;
    return output_string(&result);
}

/* The reader stands at the mark; afterwards at the first line behind the example. False at the end of the text. */
static bool read_example(struct arena *arena, struct line_reader *reader, struct blocks *blocks)
{
    struct block block = { .kind = BLOCK_EXAMPLE, .title = "" };
    size_t margin = reader->indentation;
    struct output text = { .arena = arena };
    bool more;
    while ((more = next_line(reader)) && continues_example(reader, margin)) {
        if (!text.text.count && is_blank(reader))
            continue;
        if (!text.text.count && begins_with(reader, ":title: "))
            block.title =
                arena_strndup(arena, reader->text + reader->indentation + 8, reader->length - reader->indentation - 8);
        else
            output_printf(&text, "%.*s\n", (int)reader->length, reader->text);
    }
    block.text = without_indentation(arena, output_string(&text));
    VECTOR_PUSH(arena, &blocks->list, block);
    return more;
}

/* Adds the lines that go on with the last block; the reader stands at the first of them. False at the end of the text.
 */
static bool read_more_lines(struct arena *arena, struct line_reader *reader, struct block *block)
{
    struct output text = { .arena = arena };
    bool more = true;
    output_text(&text, block->text);
    for (; more && !is_blank(reader) && !begins_item(reader) && !begins_with(reader, example_mark);
         more = next_line(reader))
        output_printf(&text, " %.*s", (int)(reader->length - reader->indentation), reader->text + reader->indentation);
    block->text = output_string(&text);
    return more;
}

/* ".. note:: text" becomes a paragraph "Note: text". NULL if the line is no such directive. */
static const char *admonition(struct arena *arena, const struct line_reader *reader)
{
    static const char *const names[] = { "note", "warning", "attention", "important", "caution", "hint", "tip" };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const char *mark = arena_printf(arena, ".. %s::", names[i]);
        if (!begins_with(reader, mark))
            continue;
        size_t skip = reader->indentation + strlen(mark);
        return arena_printf(arena, "%c%s:%.*s", toupper((unsigned char)names[i][0]), names[i] + 1,
                            (int)(reader->length - skip), reader->text + skip);
    }
    return NULL;
}

static void add_block(struct arena *arena, struct blocks *blocks, const struct line_reader *reader)
{
    bool item = begins_item(reader);
    size_t skip = reader->indentation + (item ? 2 : 0);
    const char *note = admonition(arena, reader);
    struct block block = {
        .kind = item ? BLOCK_ITEM : BLOCK_PARAGRAPH,
        .title = "",
        .text = note ? note : arena_strndup(arena, reader->text + skip, reader->length - skip),
    };
    VECTOR_PUSH(arena, &blocks->list, block);
}

void markup_blocks(struct arena *arena, const char *text, struct blocks *blocks)
{
    struct line_reader reader = { .rest = text };
    bool fresh = true;
    bool more = next_line(&reader);
    while (more) {
        if (begins_with(&reader, example_mark)) {
            more = read_example(arena, &reader, blocks);
            fresh = true;
            continue;
        }
        if (is_blank(&reader)) {
            fresh = true;
        } else if (fresh || begins_item(&reader)) {
            add_block(arena, blocks, &reader);
            fresh = false;
        } else {
            more = read_more_lines(arena, &reader, &blocks->list.items[blocks->list.count - 1]);
            continue;
        }
        more = next_line(&reader);
    }
}

static bool is_name_character(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-';
}

static size_t name_length(const char *text)
{
    size_t length = 0;
    while (is_name_character(text[length]))
        length++;
    while (length && text[length - 1] == '-')
        length--;
    return length;
}

static bool take(struct arena *arena, const char **rest, struct piece *piece, enum piece_kind kind, size_t skip,
                 size_t length)
{
    *piece = (struct piece){ .kind = kind, .text = arena_strndup(arena, *rest + skip, length) };
    *rest += skip + length;
    return true;
}

bool markup_piece(struct arena *arena, const char **rest, struct piece *piece)
{
    const char *text = *rest;
    if (!*text)
        return false;
    if (text[0] == '@' && name_length(text + 1))
        return take(arena, rest, piece, PIECE_CODE, 1, name_length(text + 1));
    if (text[0] == '`' && text[1] == '`' && strstr(text + 2, "``")) {
        take(arena, rest, piece, PIECE_CODE, 2, (size_t)(strstr(text + 2, "``") - text - 2));
        *rest += 2;
        return true;
    }
    if (name_length(text))
        return take(arena, rest, piece, PIECE_NAME, 0, name_length(text));
    size_t length = 1;
    while (text[length] && !name_length(text + length) && text[length] != '@' && text[length] != '`')
        length++;
    return take(arena, rest, piece, PIECE_PLAIN, 0, length);
}

static void keep_examples(struct arena *arena, const char *text, struct blocks *examples)
{
    struct blocks all = { 0 };
    markup_blocks(arena, text, &all);
    for (size_t i = 0; i < all.list.count; i++)
        if (all.list.items[i].kind == BLOCK_EXAMPLE)
            VECTOR_PUSH(arena, &examples->list, all.list.items[i]);
}

void markup_examples(struct arena *arena, const struct doc *doc, struct blocks *examples)
{
    if (!doc)
        return;
    keep_examples(arena, doc->text, examples);
    for (size_t i = 0; i < doc->members.count; i++)
        keep_examples(arena, doc->members.items[i].text, examples);
    for (size_t i = 0; i < doc->features.count; i++)
        keep_examples(arena, doc->features.items[i].text, examples);
    for (size_t i = 0; i < doc->sections.count; i++)
        keep_examples(arena, doc->sections.items[i].text, examples);
}
