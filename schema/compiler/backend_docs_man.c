/* The manual as a page for man(1), in the man macros that groff and mandoc both know. */
#include "schema/compiler/docs.h"
#include "schema/compiler/printers.h"

#include <ctype.h>
#include <string.h>

/* What roff would take as its own: backslashes, dots and quotes at the begin of a line, hyphens meant as minus. */
static void put_escaped(struct output *output, const char *text)
{
    if (*text == '.' || *text == '\'')
        output_text(output, "\\&");
    for (; *text; text++) {
        if (*text == '\\')
            output_text(output, "\\e");
        else if (*text == '-')
            output_text(output, "\\-");
        else if (*text == '\n' && (text[1] == '.' || text[1] == '\''))
            output_text(output, "\n\\&");
        else
            output_printf(output, "%c", *text);
    }
}

static const char *upper(struct arena *arena, const char *text)
{
    char *copy = arena_strdup(arena, text);
    for (char *p = copy; *p; p++)
        *p = (char)toupper((unsigned char)*p);
    return copy;
}

static void man_begin(struct docs *docs)
{
    const char *title = docs_title(docs);
    output_printf(docs->output,
                  ".TH \"%s-QMP\" 7 \"\" \"%s\" \"Reference of the interface\"\n.nh\n.SH NAME\n%s-qmp \\- ",
                  upper(docs->output->arena, title), title, title);
    output_printf(docs->output, "commands, events and types of the interface of %s\n", title);
}

static void man_end(struct docs *docs)
{
    (void)docs;
}

static void man_chapter(struct docs *docs, const char *title)
{
    output_printf(docs->output, ".SH %s\n", upper(docs->output->arena, title));
}

static void man_entity_begin(struct docs *docs, const struct entity *entity, const char *kind, const char *marks)
{
    output_text(docs->output, ".SS \"");
    put_escaped(docs->output, docs_name(entity));
    output_printf(docs->output, " (%s%s%s)\"\n", kind, *marks ? ", " : "", marks);
}

static void man_nothing(struct docs *docs)
{
    (void)docs;
}

static void man_heading(struct docs *docs, const char *title)
{
    output_text(docs->output, ".PP\n\\fB");
    put_escaped(docs->output, title);
    output_text(docs->output, "\\fR\n");
}

/* The first paragraph of a row is the text that .TP wants; further ones keep its indentation. */
static void man_paragraph_begin(struct docs *docs)
{
    if (!docs->in_row)
        output_text(docs->output, ".PP\n");
    else if (docs->row_has_text)
        output_text(docs->output, ".IP\n");
}

static void man_newline(struct docs *docs)
{
    output_text(docs->output, "\n");
}

static void man_item_begin(struct docs *docs)
{
    output_text(docs->output, ".IP \\(bu 2\n");
}

static void man_row_name(struct docs *docs, const char *name)
{
    output_text(docs->output, ".TP\n\\fB");
    put_escaped(docs->output, name);
    output_text(docs->output, "\\fR");
}

static void man_row_text(struct docs *docs)
{
    output_text(docs->output, "\n");
}

static void man_piece(struct docs *docs, enum docs_style style, const char *text, const char *anchor)
{
    (void)anchor;
    if (style == DOCS_NOTE)
        output_text(docs->output, " (");
    else if (style != DOCS_PLAIN)
        output_text(docs->output, style == DOCS_LINK ? "\\fB" : "\\fI");
    put_escaped(docs->output, text);
    if (style == DOCS_NOTE)
        output_text(docs->output, ")");
    else if (style != DOCS_PLAIN)
        output_text(docs->output, "\\fR");
}

static void man_example(struct docs *docs, const char *title, const char *text)
{
    if (*title) {
        output_text(docs->output, ".PP\n");
        put_escaped(docs->output, title);
        output_text(docs->output, ":\n");
    }
    output_text(docs->output, ".PP\n.RS 4\n.nf\n");
    put_escaped(docs->output, text);
    output_text(docs->output, "\n.fi\n.RE\n");
}

static const struct docs_format man = {
    .begin = man_begin,
    .end = man_end,
    .chapter = man_chapter,
    .entity_begin = man_entity_begin,
    .entity_end = man_nothing,
    .heading = man_heading,
    .paragraph_begin = man_paragraph_begin,
    .paragraph_end = man_newline,
    .item_begin = man_item_begin,
    .item_end = man_newline,
    .list_begin = man_nothing,
    .list_end = man_nothing,
    .table_begin = man_nothing,
    .table_end = man_nothing,
    .row_name = man_row_name,
    .row_text = man_row_text,
    .row_end = man_nothing,
    .piece = man_piece,
    .example = man_example,
};

void write_docs_man(struct output *output, const struct model *model, const struct backend_options *options)
{
    docs_write(output, model, options, &man);
}
