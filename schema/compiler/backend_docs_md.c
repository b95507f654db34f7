/* The manual in Markdown, as most viewers understand it: tables would break over long texts, so members are lists. */
#include "schema/compiler/docs.h"
#include "schema/compiler/printers.h"

#include <string.h>

static void put_escaped(struct output *output, const char *text)
{
    for (; *text; text++)
        output_printf(output, strchr("\\`*_<>[]|#", *text) ? "\\%c" : "%c", *text);
}

static void put_contents(struct docs *docs, enum docs_kind kind, const char *title)
{
    size_t count;
    const struct entity **list = docs_sorted(docs, kind, &count);
    if (!count)
        return;
    output_printf(docs->output, "\n**%s**\n\n", title);
    for (size_t i = 0; i < count; i++) {
        const char *summary = docs_summary(docs->output->arena, list[i]);
        output_printf(docs->output, "- [`%s`](#%s)%s", docs_name(list[i]), docs_anchor(docs->output->arena, list[i]),
                      *summary ? ": " : "");
        put_escaped(docs->output, summary);
        output_text(docs->output, "\n");
    }
}

static void md_begin(struct docs *docs)
{
    output_printf(docs->output, "# %s: reference of the interface\n", docs_title(docs));
    put_contents(docs, DOCS_COMMAND, "Commands");
    put_contents(docs, DOCS_EVENT, "Events");
    put_contents(docs, DOCS_TYPE, "Types");
}

static void md_end(struct docs *docs)
{
    (void)docs;
}

static void md_chapter(struct docs *docs, const char *title)
{
    output_printf(docs->output, "\n## %s\n", title);
}

static void md_entity_begin(struct docs *docs, const struct entity *entity, const char *kind, const char *marks)
{
    output_printf(docs->output, "\n<a id=\"%s\"></a>\n\n### `%s` (%s%s%s)\n", docs_anchor(docs->output->arena, entity),
                  docs_name(entity), kind, *marks ? ", " : "", marks);
}

static void md_nothing(struct docs *docs)
{
    (void)docs;
}

static void md_newline(struct docs *docs)
{
    output_text(docs->output, "\n");
}

static void md_heading(struct docs *docs, const char *title)
{
    output_printf(docs->output, "\n**%s**\n", title);
}

static void md_item_begin(struct docs *docs)
{
    output_text(docs->output, docs->in_row ? "  - " : "- ");
}

static void md_row_name(struct docs *docs, const char *name)
{
    output_printf(docs->output, "- `%s`", name);
}

static void md_row_end(struct docs *docs)
{
    if (!docs->row_has_text)
        output_text(docs->output, "\n");
}

/* The first paragraph of a row goes on in its line; further ones are indented to stay in it. */
static void md_paragraph_begin(struct docs *docs)
{
    output_text(docs->output, !docs->in_row ? "\n" : docs->row_has_text ? "\n  " : ": ");
}

static void md_piece(struct docs *docs, enum docs_style style, const char *text, const char *anchor)
{
    if (style == DOCS_LINK)
        output_printf(docs->output, "[`%s`](#%s)", text, anchor);
    else if (style == DOCS_CODE)
        output_printf(docs->output, "`%s`", text);
    else if (style == DOCS_NOTE)
        output_printf(docs->output, " (%s)", text);
    else
        put_escaped(docs->output, text);
}

static void md_example(struct docs *docs, const char *title, const char *text)
{
    if (*title) {
        output_text(docs->output, "\n");
        put_escaped(docs->output, title);
        output_text(docs->output, ":\n");
    }
    output_printf(docs->output, "\n```\n%s\n```\n", text);
}

static const struct docs_format markdown = {
    .begin = md_begin,
    .end = md_end,
    .chapter = md_chapter,
    .entity_begin = md_entity_begin,
    .entity_end = md_nothing,
    .heading = md_heading,
    .paragraph_begin = md_paragraph_begin,
    .paragraph_end = md_newline,
    .item_begin = md_item_begin,
    .item_end = md_newline,
    .list_begin = md_newline,
    .list_end = md_nothing,
    .table_begin = md_newline,
    .table_end = md_nothing,
    .row_name = md_row_name,
    .row_text = md_nothing,
    .row_end = md_row_end,
    .piece = md_piece,
    .example = md_example,
};

void write_docs_md(struct output *output, const struct model *model, const struct backend_options *options)
{
    docs_write(output, model, options, &markdown);
}
