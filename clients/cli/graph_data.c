#include "clients/cli/graph_data.h"

#include "clients/cli/json_get.h"

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

struct error *graph_load(struct client *client, struct graph *graph)
{
    *graph = (struct graph){ .by_name = json_object(), .parents = json_object(), .shown = json_object() };
    struct error *err = client_call(client, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), &graph->nodes);
    if (!err)
        err = client_call(client, "query-block-exports", NULL, &graph->exports);
    if (!err)
        graph_index(graph);
    return err;
}

void graph_free(struct graph *graph)
{
    json_decref(graph->nodes);
    json_decref(graph->exports);
    json_decref(graph->by_name);
    json_decref(graph->parents);
    json_decref(graph->shown);
}
