/* graph_data - nodes, edges and exports, as the daemon tells them */
#ifndef CAIRN_CLI_GRAPH_DATA_H
#define CAIRN_CLI_GRAPH_DATA_H

#include "clients/c/client.h"

/* Node names are unique, so they serve as keys. */
struct graph {
    json_t *nodes;   /* array of BlockDeviceInfo, in the order of their opening */
    json_t *exports; /* array of BlockExportInfo */
    json_t *by_name; /* object: node-name -> BlockDeviceInfo */
    json_t *parents; /* object: node-name -> number of edges that lead to it */
    json_t *shown;   /* object: node-name -> true, for who shows each node once */
};

/* graph_free() also after an error. */
struct error *graph_load(struct client *client, struct graph *graph) MUST_CHECK;
void graph_free(struct graph *graph);

/* On standard output. graph_dot.c: for Graphviz. graph_svg.c: a picture, laid out in layers. */
void graph_print_dot(const struct graph *graph);
void graph_print_svg(const struct graph *graph);

#endif
