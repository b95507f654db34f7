/* layers - places for the points of a graph that flows downwards
 *
 * Every point gets a layer below all points that lead to it, and a place within its layer near its neighbours. A line
 * that spans several layers gets a bend in each of them, which keeps it clear of the boxes there.
 *
 *     layers_init; layers_add_point and layers_add_line for everything; layers_arrange; then look at the places
 *
 * The method is Sugiyama's: layers by the longest way from above, an order within them by means of neighbours, places
 * by pushing apart what overlaps. A loop, which storage does not have, is drawn somehow. */
#ifndef CAIRN_CLI_LAYERS_H
#define CAIRN_CLI_LAYERS_H

#include <stddef.h>

struct layer_point {
    double width;
    double x; /* of its middle; from layers_arrange() on */
    unsigned layer;
    double wanted; /* of its x, and before that of its place in the order */
};

struct layer_line {
    size_t from;
    size_t to;
    size_t bend;  /* the first of its bends, which follow each other downwards */
    size_t bends; /* how many; 0: the points are in neighbouring layers */
};

/* Two points in neighbouring layers that belong near each other: a line, or a piece of one. */
struct layer_link {
    size_t above;
    size_t below;
};

struct layers {
    struct layer_point *points; /* those that were added, then the bends */
    size_t points_count;
    struct layer_line *lines;
    size_t lines_count;
    struct layer_link *links;
    size_t links_count;
    size_t *order;       /* points by layer and place within it */
    size_t *layer_begin; /* in order; one more than there are layers */
    unsigned layers_count;
    double gap; /* between neighbours in a layer */
    double total_width;
};

void layers_init(struct layers *layers, double gap);
void layers_fini(struct layers *layers);

/* Returns the number of the point. */
size_t layers_add_point(struct layers *layers, double width);
/* Returns the number of the line. */
size_t layers_add_line(struct layers *layers, size_t from, size_t to);

void layers_arrange(struct layers *layers);

#endif
