#include "clients/cli/cli.h"

#include "blockcore/base/memory.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define INDENT_MAX 1024

/* What the daemon knows. Node names are unique, so they serve as keys. */
struct graph {
    json_t *nodes;   /* array of BlockDeviceInfo, in the order of their opening */
    json_t *exports; /* array of BlockExportInfo */
    json_t *by_name; /* object: node-name -> BlockDeviceInfo */
    json_t *parents; /* object: node-name -> number of edges that lead to it */
    json_t *shown;   /* object: node-name -> true */
};

static const char *get_text(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text ? text : "";
}

static void graph_index(struct graph *graph)
{
    size_t i, j;
    json_t *node;
    const json_t *child;

    json_array_foreach(graph->nodes, i, node)
    {
        json_object_set(graph->by_name, get_text(node, "node-name"), node);
        json_array_foreach(json_object_get(node, "children"), j, child)
        {
            const char *name = get_text(child, "node-name");
            json_int_t parents = json_integer_value(json_object_get(graph->parents, name));
            json_object_set_new(graph->parents, name, json_integer(parents + 1));
        }
    }
}

static struct error *graph_load(struct client *client, struct graph *graph)
{
    *graph = (struct graph){ .by_name = json_object(), .parents = json_object(), .shown = json_object() };
    struct error *err = client_call(client, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), &graph->nodes);
    if (!err)
        err = client_call(client, "query-block-exports", NULL, &graph->exports);
    if (!err)
        graph_index(graph);
    return err;
}

static void graph_free(struct graph *graph)
{
    json_decref(graph->nodes);
    json_decref(graph->exports);
    json_decref(graph->by_name);
    json_decref(graph->parents);
    json_decref(graph->shown);
}

static bool is_root(const struct graph *graph, const json_t *node)
{
    return !json_object_get(graph->parents, get_text(node, "node-name"));
}

/* Text ------------------------------------------------------------------------------------------------------------ */

static void print_node_line(const json_t *node)
{
    const json_t *image = json_object_get(node, "image");
    const char *file = get_text(node, "file");

    printf("%s (%s, %s, %" JSON_INTEGER_FORMAT " bytes)", get_text(node, "node-name"), get_text(node, "drv"),
           json_is_true(json_object_get(node, "ro")) ? "read-only" : "writable",
           json_integer_value(json_object_get(image, "virtual-size")));
    if (json_array_size(json_object_get(node, "children")) == 0)
        printf(" %s", file);
    putchar('\n');
}

/* @indent is what stands before the edges of this node; it grows in place and is cut again on return. */
static void print_subtree(struct graph *graph, const char *name, char *indent)
{
    const json_t *node = json_object_get(graph->by_name, name);
    const json_t *children = json_object_get(node, "children");
    size_t length = strlen(indent), i;
    const json_t *child;

    if (!node || json_object_get(graph->shown, name)) {
        printf("%s (see above)\n", name);
        return;
    }
    json_object_set_new(graph->shown, name, json_true());
    print_node_line(node);
    json_array_foreach(children, i, child)
    {
        bool last = i + 1 == json_array_size(children);
        printf("%s%s %s: ", indent, last ? "└─" : "├─", get_text(child, "child"));
        if (length + sizeof("│  ") <= INDENT_MAX)
            strcpy(indent + length, last ? "   " : "│  ");
        print_subtree(graph, get_text(child, "node-name"), indent);
        indent[length] = '\0';
    }
}

static void print_tree(struct graph *graph)
{
    char indent[INDENT_MAX] = "";
    size_t i;
    const json_t *node, *export;

    json_array_foreach(graph->nodes, i, node) if (is_root(graph, node))
        print_subtree(graph, get_text(node, "node-name"), indent);
    json_array_foreach(graph->exports, i, export) printf("export %s (%s) -> %s\n", get_text(export, "id"),
                                                         get_text(export, "type"), get_text(export, "node-name"));
}

/* Graphviz -------------------------------------------------------------------------------------------------------- */

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

static void print_dot(const struct graph *graph)
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

static int graph_run(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = { { "dot", no_argument, NULL, 'd' }, { 0 } };
    bool dot = false;

    for (int option; (option = getopt_long(argc, argv, "d", options, NULL)) != -1;) {
        if (option != 'd')
            return EXIT_USAGE;
        dot = true;
    }
    if (optind != argc)
        return cli_usage("graph: '%s' is too much", argv[optind]);

    struct graph graph;
    struct error *err = graph_load(cli->client, &graph);
    if (!err && dot)
        print_dot(&graph);
    else if (!err)
        print_tree(&graph);
    graph_free(&graph);
    return err ? cli_fail(cli, err) : EXIT_OK;
}

const struct subcommand graph_subcommand = {
    .name = "graph",
    .arguments = "[--dot]",
    .summary = "show all nodes with what they stand on, and the exports",
    .help = "  -d, --dot   for Graphviz: cairnctl graph --dot | dot -Tsvg > graph.svg\n"
            "\n"
            "A node that several others use is drawn in full once, and then referred to.\n",
    .run = graph_run,
};
