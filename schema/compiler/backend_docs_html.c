/* The manual as one page of HTML: contents beside the text, a filter over them, light and dark as the reader's system
 * is. It loads nothing from elsewhere, and without its few lines of script only the filter is missing. */
#include "schema/compiler/docs.h"
#include "schema/compiler/printers.h"

#include <ctype.h>
#include <string.h>

static const char style[] =
    ":root{color-scheme:light dark;--paper:#fff;--side:#f6f7f9;--ink:#1d2330;--soft:#5d6678;--line:#dfe3ea;"
    "--link:#0a58a8;--code:#f1f3f7;--mark:#8a4b00;--markbg:#fdf0dc;--send:#0a6b3d;--hit:#fff6d8}\n"
    "@media(prefers-color-scheme:dark){:root{--paper:#14171d;--side:#1a1e26;--ink:#dfe4ee;--soft:#98a2b5;"
    "--line:#2c323e;--link:#7db7f2;--code:#1f242e;--mark:#f0b56a;--markbg:#33270f;--send:#6fce9b;--hit:#2c2a18}}\n"
    "*{box-sizing:border-box}html{scroll-padding-top:1rem}\n"
    "body{margin:0;display:grid;grid-template-columns:19rem minmax(0,1fr);font:16px/1.55 system-ui,sans-serif;"
    "color:var(--ink);background:var(--paper)}\n"
    "nav{position:sticky;top:0;height:100vh;overflow-y:auto;padding:1.25rem 1rem;background:var(--side);"
    "border-right:1px solid var(--line);font-size:.875rem}\n"
    "nav .title{font-weight:700;font-size:1.05rem;color:var(--ink)}nav ul{list-style:none;margin:.2rem 0 1rem;"
    "padding:0}nav li a{display:block;padding:.1rem .4rem;border-radius:4px;overflow-wrap:anywhere}\n"
    "nav li a:hover{background:var(--code)}nav h2{font-size:.75rem;letter-spacing:.06em;text-transform:uppercase;"
    "color:var(--soft);margin:1rem 0 0}\n"
    "input{width:100%;margin:.75rem 0 0;padding:.4rem .6rem;font:inherit;color:inherit;background:var(--paper);"
    "border:1px solid var(--line);border-radius:6px}\n"
    "main{padding:2rem 3rem 40vh;max-width:66rem}h1{font-size:1.9rem;line-height:1.2;margin:0 0 .5rem}\n"
    "main>h2{font-size:1.5rem;margin:3rem 0 0;padding-bottom:.3rem;border-bottom:2px solid var(--line)}\n"
    "article{padding:1.4rem 0 1.2rem;border-bottom:1px solid var(--line)}"
    "article:target{background:var(--hit);box-shadow:0 0 0 .8rem var(--hit)}\n"
    "h3{font:600 1.15rem/1.3 ui-monospace,monospace;margin:0 0 .4rem;overflow-wrap:anywhere}"
    "h3 a.here{color:inherit}h3 a.here:hover:after{content:' #';color:var(--soft)}\n"
    "h4{font-size:.8rem;letter-spacing:.05em;text-transform:uppercase;color:var(--soft);margin:1.1rem 0 .3rem}\n"
    "p{margin:.4rem 0}a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}\n"
    "code,pre{font-family:ui-monospace,monospace;font-size:.9em}code{overflow-wrap:anywhere}"
    "pre{background:var(--code);padding:.8rem 1rem;border-radius:6px;overflow-x:auto;margin:.4rem "
    "0;font-size:.82rem;line-height:1.5}"
    "pre .send{color:var(--send)}\n"
    ".kind,.note,.mark{font:400 .75rem/1.4 system-ui,sans-serif;color:var(--soft);margin-left:.5rem;"
    "vertical-align:middle;white-space:nowrap}.note{margin-left:.4rem}"
    ".mark{color:var(--mark);background:var(--markbg);border-radius:4px;padding:.05rem .4rem}\n"
    "dl{margin:.2rem 0}dl>div{display:grid;grid-template-columns:minmax(9rem,16rem) minmax(0,1fr);gap:0 1.2rem;"
    "padding:.3rem 0;border-top:1px solid var(--line)}dl>div:first-child{border-top:0}"
    "dt code.name{font-weight:600}dt .type{display:block;font-size:.85rem}"
    "dt .type code{margin-right:.6rem}dt .note{margin:0 .6rem 0 0}dd{margin:0}dd p:first-child{margin-top:0}"
    "\n.index{margin:.8rem 0 0}.index>div{padding:.15rem 0}\n"
    "@media(max-width:52rem){body{display:block}nav{position:static;height:auto;max-height:45vh;border-right:0;"
    "border-bottom:1px solid var(--line)}main{padding:1.2rem 1rem}dl>div{display:block}dd{padding-left:1rem}}\n"
    "@media print{nav{display:none}body{display:block}article{break-inside:avoid}}\n";

static const char script[] = "const box=document.querySelector('input');box.hidden=false;\n"
                             "box.addEventListener('input',()=>{const wanted=box.value.toLowerCase();"
                             "document.querySelectorAll('nav li').forEach(item=>{"
                             "item.hidden=!item.textContent.toLowerCase().includes(wanted)})});\n"
                             "document.addEventListener('keydown',event=>{if(event.key==='/'&&event.target!==box){"
                             "event.preventDefault();box.focus()}});\n";

static void put_escaped(struct output *output, const char *text)
{
    for (; *text; text++) {
        const char *entity = *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '&' ? "&amp;" : NULL;
        if (*text == '"')
            entity = "&quot;";
        if (entity)
            output_text(output, entity);
        else
            output_printf(output, "%c", *text);
    }
}

static void put_contents(struct docs *docs, enum docs_kind kind, const char *title)
{
    size_t count;
    const struct entity **list = docs_sorted(docs, kind, &count);
    if (!count)
        return;
    output_printf(docs->output, "<h2><a href=\"#%s\">%s</a></h2>\n<ul>\n", title, title);
    for (size_t i = 0; i < count; i++) {
        output_printf(docs->output, "<li><a href=\"#%s\">%s</a></li>\n", docs_anchor(docs->output->arena, list[i]),
                      docs_name(list[i]));
    }
    output_text(docs->output, "</ul>\n");
}

/* Commands with one sentence each: what a reader who looks for something begins with. */
static void put_index(struct docs *docs)
{
    size_t count;
    const struct entity **list = docs_sorted(docs, DOCS_COMMAND, &count);
    if (!count)
        return;
    output_text(docs->output, "<dl class=\"index\">\n");
    for (size_t i = 0; i < count; i++) {
        output_printf(docs->output, "<div><dt><a href=\"#%s\"><code>%s</code></a></dt><dd>",
                      docs_anchor(docs->output->arena, list[i]), docs_name(list[i]));
        put_escaped(docs->output, docs_summary(docs->output->arena, list[i]));
        output_text(docs->output, "</dd></div>\n");
    }
    output_text(docs->output, "</dl>\n");
}

static void html_begin(struct docs *docs)
{
    const char *title = docs_title(docs);
    output_printf(docs->output,
                  "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                  "<title>%s: reference of the interface</title>\n<style>\n%s</style>\n</head>\n<body>\n",
                  title, style);
    output_printf(
        docs->output,
        "<nav>\n<a class=\"title\" href=\"#top\">%s</a>\n"
        "<input type=\"search\" placeholder=\"Filter (press /)\" aria-label=\"Filter the contents\" hidden>\n",
        title);
    put_contents(docs, DOCS_COMMAND, "Commands");
    put_contents(docs, DOCS_EVENT, "Events");
    put_contents(docs, DOCS_TYPE, "Types");
    output_printf(docs->output,
                  "</nav>\n<main id=\"top\">\n<h1>%s: reference of the interface</h1>\n"
                  "<p>What clients can send, and what they receive. In examples, lines that begin with "
                  "<code>-&gt;</code> are sent by the client, those with <code>&lt;-</code> come back.</p>\n",
                  title);
    put_index(docs);
}

static void html_end(struct docs *docs)
{
    output_printf(docs->output, "</main>\n<script>\n%s</script>\n</body>\n</html>\n", script);
}

static void html_chapter(struct docs *docs, const char *title)
{
    output_printf(docs->output, "<h2 id=\"%s\">%s</h2>\n", title, title);
}

static void html_entity_begin(struct docs *docs, const struct entity *entity, const char *kind, const char *marks)
{
    const char *anchor = docs_anchor(docs->output->arena, entity);
    output_printf(docs->output,
                  "<article id=\"%s\">\n<h3><a class=\"here\" href=\"#%s\">%s</a> <span class=\"kind\">%s</span>",
                  anchor, anchor, docs_name(entity), kind);
    if (*marks) {
        output_text(docs->output, " <span class=\"mark\">");
        put_escaped(docs->output, marks);
        output_text(docs->output, "</span>");
    }
    output_text(docs->output, "</h3>\n");
}

static void html_entity_end(struct docs *docs)
{
    output_text(docs->output, "</article>\n");
}

static void html_heading(struct docs *docs, const char *title)
{
    output_text(docs->output, "<h4>");
    put_escaped(docs->output, title);
    output_text(docs->output, "</h4>\n");
}

static void html_paragraph_begin(struct docs *docs)
{
    output_text(docs->output, "<p>");
}

static void html_paragraph_end(struct docs *docs)
{
    output_text(docs->output, "</p>\n");
}

static void html_list_begin(struct docs *docs)
{
    output_text(docs->output, "<ul>\n");
}

static void html_list_end(struct docs *docs)
{
    output_text(docs->output, "</ul>\n");
}

static void html_item_begin(struct docs *docs)
{
    output_text(docs->output, "<li>");
}

static void html_item_end(struct docs *docs)
{
    output_text(docs->output, "</li>\n");
}

static void html_table_begin(struct docs *docs)
{
    output_text(docs->output, "<dl>\n");
}

static void html_table_end(struct docs *docs)
{
    output_text(docs->output, "</dl>\n");
}

static void html_row_name(struct docs *docs, const char *name)
{
    output_printf(docs->output, "<div><dt><code class=\"name\">%s</code><span class=\"type\">", name);
}

static void html_row_text(struct docs *docs)
{
    output_text(docs->output, "</span></dt>\n<dd>");
}

static void html_row_end(struct docs *docs)
{
    output_text(docs->output, "</dd></div>\n");
}

static bool is_warning(const char *note)
{
    return strcmp(note, "unstable") == 0 || strcmp(note, "deprecated") == 0;
}

static void html_piece(struct docs *docs, enum docs_style style_of, const char *text, const char *anchor)
{
    switch (style_of) {
    case DOCS_PLAIN:
        put_escaped(docs->output, text);
        return;
    case DOCS_CODE:
        output_text(docs->output, "<code>");
        put_escaped(docs->output, text);
        output_text(docs->output, "</code>");
        return;
    case DOCS_LINK:
        output_printf(docs->output, "<a href=\"#%s\"><code>%s</code></a>", anchor, text);
        return;
    case DOCS_NOTE:
        output_printf(docs->output, " <span class=\"%s\">", is_warning(text) ? "mark" : "note");
        put_escaped(docs->output, text);
        output_text(docs->output, "</span>");
        return;
    }
}

/* What the client sends, up to the next reply, in a colour of its own. */
static void html_example(struct docs *docs, const char *title, const char *text)
{
    if (*title) {
        output_text(docs->output, "<p>");
        put_escaped(docs->output, title);
        output_text(docs->output, ":</p>\n");
    }
    output_text(docs->output, "<pre>");
    bool sending = false;
    while (*text) {
        const char *newline = strchr(text, '\n');
        size_t length = newline ? (size_t)(newline - text) : strlen(text);
        bool starts = strncmp(text, "->", 2) == 0;
        if (sending && strncmp(text, "<-", 2) == 0) {
            output_text(docs->output, "</span>");
            sending = false;
        } else if (!sending && starts) {
            output_text(docs->output, "<span class=\"send\">");
            sending = true;
        }
        put_escaped(docs->output, arena_strndup(docs->output->arena, text, length));
        output_text(docs->output, "\n");
        text += length + (newline ? 1 : 0);
    }
    output_text(docs->output, sending ? "</span></pre>\n" : "</pre>\n");
}

static const struct docs_format html = {
    .begin = html_begin,
    .end = html_end,
    .chapter = html_chapter,
    .entity_begin = html_entity_begin,
    .entity_end = html_entity_end,
    .heading = html_heading,
    .paragraph_begin = html_paragraph_begin,
    .paragraph_end = html_paragraph_end,
    .item_begin = html_item_begin,
    .item_end = html_item_end,
    .list_begin = html_list_begin,
    .list_end = html_list_end,
    .table_begin = html_table_begin,
    .table_end = html_table_end,
    .row_name = html_row_name,
    .row_text = html_row_text,
    .row_end = html_row_end,
    .piece = html_piece,
    .example = html_example,
};

void write_docs_html(struct output *output, const struct model *model, const struct backend_options *options)
{
    docs_write(output, model, options, &html);
}
