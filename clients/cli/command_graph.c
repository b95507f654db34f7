#include "clients/cli/cli.h"

#include "clients/cli/graph_data.h"
#include "clients/cli/json_get.h"
#include "clients/cli/terminal.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define INDENT_MAX 1024

static bool is_root(const struct graph *graph, const json_t *node)
{
    return !json_object_get(graph->parents, get_text(node, "node-name"));
}

/* Text ------------------------------------------------------------------------------------------------------------ */

static void print_node_line(const json_t *node)
{
    const json_t *image = json_object_get(node, "image");
    const char *file = get_text(node, "file");

    terminal_print(stdout, get_text(node, "node-name"));
    printf(" (%s, %s, %" JSON_INTEGER_FORMAT " bytes)", get_text(node, "drv"),
           json_is_true(json_object_get(node, "ro")) ? "read-only" : "writable",
           json_integer_value(json_object_get(image, "virtual-size")));
    if (json_array_size(json_object_get(node, "children")) == 0) {
        putchar(' ');
        terminal_print(stdout, file);
    }
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
        terminal_print(stdout, name);
        printf(" (see above)\n");
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

/* The command ----------------------------------------------------------------------------------------------------- */

static void print_graph(struct graph *graph, int form)
{
    if (form == 'd')
        graph_print_dot(graph);
    else if (form == 's')
        graph_print_svg(graph);
    else
        print_tree(graph);
}

static int graph_run(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        { "dot", no_argument, NULL, 'd' },
        { "svg", no_argument, NULL, 's' },
        { 0 },
    };
    int form = 't';

    for (int option; (option = getopt_long(argc, argv, "d", options, NULL)) != -1;) {
        if (option == '?')
            return EXIT_USAGE;
        form = option;
    }
    if (optind != argc)
        return cli_usage("graph: '%s' is too much", argv[optind]);

    struct graph graph;
    struct error *err = graph_load(cli->client, &graph);
    if (!err)
        print_graph(&graph, form);
    graph_free(&graph);
    return err ? cli_fail(cli, err) : EXIT_OK;
}

const struct subcommand graph_subcommand = {
    .name = "graph",
    .arguments = "[--dot | --svg]",
    .summary = "show all nodes with what they stand on, and the exports",
    .help =
        "  -d, --dot   for Graphviz: cairnctl graph --dot | dot -Tpdf > graph.pdf\n"
        "      --svg   a picture for browsers: cairnctl graph --svg > graph.svg\n"
        "\n"
        "A node that several others use is drawn in full once, and then referred to. In pictures, exports have round\n"
        "corners, what is read-only has a dashed border, and so have edges to backing files.\n",
    .run = graph_run,
};
