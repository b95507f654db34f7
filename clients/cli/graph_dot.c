#include "blockcore/base/memory.h"
#include "clients/cli/graph_data.h"
#include "clients/cli/json_get.h"

#include <stdio.h>
#include <string.h>

/* As a quoted string of DOT, in which only the quote itself and the backslash are special. */
static void print_quoted(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            putchar('\\');
        putchar(*text);
    }
    putchar('"');
}

static void print_edge(const char *from_prefix, const char *from, const char *to, const char *label, const char *style)
{
    CLEANUP(free) char *from_id = xasprintf("%s%s", from_prefix, from);
    CLEANUP(free) char *to_id = xasprintf("node:%s", to);

    printf("  ");
    print_quoted(from_id);
    printf(" -> ");
    print_quoted(to_id);
    printf(" [label=");
    print_quoted(label);
    printf("%s];\n", style);
}

static void print_dot_node(const json_t *node)
{
    const char *name = get_text(node, "node-name");
    CLEANUP(free) char *id = xasprintf("node:%s", name);
    bool read_only = json_is_true(json_object_get(node, "ro"));
    size_t i;
    const json_t *child;

    printf("  ");
    print_quoted(id);
    printf(" [label=");
    CLEANUP(free) char *label = xasprintf("%s (%s)", name, get_text(node, "drv"));
    print_quoted(label);
    printf("%s];\n", read_only ? ", style=dashed" : "");
    json_array_foreach(json_object_get(node, "children"), i, child)
    {
        const char *edge = get_text(child, "child");
        print_edge("node:", name, get_text(child, "node-name"), edge,
                   strcmp(edge, "backing") == 0 ? ", style=dashed" : "");
    }
}

void graph_print_dot(const struct graph *graph)
{
    size_t i;
    const json_t *node, *export;

    printf("digraph storage {\n"
           "  node [shape=box, fontname=\"sans-serif\"];\n"
           "  edge [fontname=\"sans-serif\", fontsize=10];\n");
    json_array_foreach(graph->nodes, i, node) print_dot_node(node);
    json_array_foreach(graph->exports, i, export)
    {
        const char *id = get_text(export, "id");
        CLEANUP(free) char *export_id = xasprintf("export:%s", id);
        CLEANUP(free) char *label = xasprintf("export %s", id);
        printf("  ");
        print_quoted(export_id);
        printf(" [shape=ellipse, label=");
        print_quoted(label);
        printf("];\n");
        print_edge("export:", id, get_text(export, "node-name"), get_text(export, "type"), "");
    }
    printf("}\n");
}
