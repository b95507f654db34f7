#include "clients/cli/layers.h"

#include "blockcore/base/memory.h"

#include <stdbool.h>
#include <stdlib.h>

#define SWEEPS 8
#define BEND_WIDTH 16.0

void layers_init(struct layers *layers, double gap)
{
    *layers = (struct layers){ .gap = gap };
}

void layers_fini(struct layers *layers)
{
    free(layers->points);
    free(layers->lines);
    free(layers->links);
    free(layers->order);
    free(layers->layer_begin);
}

/* Grows in powers of two, so adding costs the same however many there are. */
static void *make_room(void *items, size_t count, size_t size)
{
    if (count & (count - 1))
        return items;
    return xrealloc_array(items, count ? 2 * count : 1, size);
}

size_t layers_add_point(struct layers *layers, double width)
{
    layers->points = make_room(layers->points, layers->points_count, sizeof(*layers->points));
    layers->points[layers->points_count] = (struct layer_point){ .width = width };
    return layers->points_count++;
}

size_t layers_add_line(struct layers *layers, size_t from, size_t to)
{
    layers->lines = make_room(layers->lines, layers->lines_count, sizeof(*layers->lines));
    layers->lines[layers->lines_count] = (struct layer_line){ .from = from, .to = to };
    return layers->lines_count++;
}

static void add_link(struct layers *layers, size_t above, size_t below)
{
    layers->links = make_room(layers->links, layers->links_count, sizeof(*layers->links));
    layers->links[layers->links_count++] = (struct layer_link){ above, below };
}

/* Layers ---------------------------------------------------------------------------------------------------------- */

/* Lines by the points that they come from: those of point i are lines[begin[i]] to lines[begin[i + 1] - 1]. */
struct outgoing {
    size_t *begin;
    size_t *lines;
};

static struct outgoing outgoing_lines(const struct layers *layers)
{
    struct outgoing outgoing = { .begin = xcalloc(layers->points_count + 2, sizeof(size_t)),
                                 .lines = xcalloc(layers->lines_count + 1, sizeof(size_t)) };
    for (size_t i = 0; i < layers->lines_count; i++)
        outgoing.begin[layers->lines[i].from + 2]++;
    for (size_t i = 0; i < layers->points_count; i++)
        outgoing.begin[i + 2] += outgoing.begin[i + 1];
    /* One ahead while filling: begin[i + 1] becomes where those of point i + 1 begin. */
    for (size_t i = 0; i < layers->lines_count; i++)
        outgoing.lines[outgoing.begin[layers->lines[i].from + 1]++] = i;
    return outgoing;
}

/* A point has its layer when all that lead to it have theirs. Those of a loop never do, and stay in the first one. */
static void choose_layers(struct layers *layers)
{
    struct outgoing outgoing = outgoing_lines(layers);
    size_t *missing = xcalloc(layers->points_count + 1, sizeof(*missing));
    size_t *ready = xcalloc(layers->points_count + 1, sizeof(*ready));
    size_t count = 0;
    for (size_t i = 0; i < layers->lines_count; i++)
        missing[layers->lines[i].to]++;
    for (size_t i = 0; i < layers->points_count; i++) {
        if (missing[i] == 0)
            ready[count++] = i;
    }
    for (size_t done = 0; done < count; done++) {
        size_t from = ready[done];
        for (size_t i = outgoing.begin[from]; i < outgoing.begin[from + 1]; i++) {
            size_t to = layers->lines[outgoing.lines[i]].to;
            if (layers->points[to].layer <= layers->points[from].layer)
                layers->points[to].layer = layers->points[from].layer + 1;
            if (--missing[to] == 0)
                ready[count++] = to;
        }
    }
    free(outgoing.begin);
    free(outgoing.lines);
    free(missing);
    free(ready);
}

/* Lines that do not lead down, as in a loop, stay without bends. */
static void add_bends(struct layers *layers)
{
    for (size_t i = 0; i < layers->lines_count; i++) {
        struct layer_line *line = &layers->lines[i];
        unsigned above = layers->points[line->from].layer;
        unsigned below = layers->points[line->to].layer;
        size_t last = line->from;
        if (below <= above)
            continue;
        line->bend = layers->points_count;
        line->bends = below - above - 1;
        for (unsigned layer = above + 1; layer < below; layer++) {
            size_t bend = layers_add_point(layers, BEND_WIDTH);
            layers->points[bend].layer = layer;
            add_link(layers, last, bend);
            last = bend;
        }
        add_link(layers, last, line->to);
    }
}

/* Order ----------------------------------------------------------------------------------------------------------- */

static void fill_order(struct layers *layers)
{
    layers->layers_count = 0;
    for (size_t i = 0; i < layers->points_count; i++) {
        if (layers->points[i].layer >= layers->layers_count)
            layers->layers_count = layers->points[i].layer + 1;
    }
    layers->order = xcalloc(layers->points_count + 1, sizeof(*layers->order));
    layers->layer_begin = xcalloc(layers->layers_count + 2, sizeof(*layers->layer_begin));
    for (size_t i = 0; i < layers->points_count; i++)
        layers->layer_begin[layers->points[i].layer + 2]++;
    for (unsigned layer = 0; layer < layers->layers_count; layer++)
        layers->layer_begin[layer + 2] += layers->layer_begin[layer + 1];
    /* One ahead while filling: begin[layer + 1] becomes where layer + 1 begins. */
    for (size_t i = 0; i < layers->points_count; i++)
        layers->order[layers->layer_begin[layers->points[i].layer + 1]++] = i;
}

/* Who wants to go where: the mean of x of the neighbours above or below, or where it is. */
static void want_mean(struct layers *layers, bool of_above)
{
    double *sums = xcalloc(layers->points_count + 1, sizeof(*sums));
    size_t *counts = xcalloc(layers->points_count + 1, sizeof(*counts));
    for (size_t i = 0; i < layers->links_count; i++) {
        const struct layer_link *link = &layers->links[i];
        size_t who = of_above ? link->below : link->above;
        size_t whose = of_above ? link->above : link->below;
        sums[who] += layers->points[whose].x;
        counts[who]++;
    }
    for (size_t i = 0; i < layers->points_count; i++)
        layers->points[i].wanted = counts[i] ? sums[i] / (double)counts[i] : layers->points[i].x;
    free(sums);
    free(counts);
}

static int compare_wanted(const void *a, const void *b, void *arg)
{
    const struct layer_point *points = arg;
    size_t left = *(const size_t *)a, right = *(const size_t *)b;
    double difference = points[left].wanted - points[right].wanted;
    if (difference != 0)
        return difference < 0 ? -1 : 1;
    return (left > right) - (left < right);
}

/* Places ---------------------------------------------------------------------------------------------------------- */

static double distance(const struct layers *layers, size_t left, size_t right)
{
    return (layers->points[left].width + layers->points[right].width) / 2 + layers->gap;
}

/* As near to where they want to be as their neighbours allow: the mean of two ways to push, from the left and from the
 * right, each of which keeps distances, so the mean does. */
static void push_apart(struct layers *layers, unsigned layer)
{
    size_t begin = layers->layer_begin[layer], end = layers->layer_begin[layer + 1];
    double last = 0;
    for (size_t i = begin; i < end; i++) {
        struct layer_point *point = &layers->points[layers->order[i]];
        double least = i > begin ? last + distance(layers, layers->order[i - 1], layers->order[i]) : point->wanted;
        last = point->wanted > least ? point->wanted : least;
        point->x = last;
    }
    for (size_t i = end; i-- > begin;) {
        struct layer_point *point = &layers->points[layers->order[i]];
        double most = i + 1 < end ? last - distance(layers, layers->order[i], layers->order[i + 1]) : point->wanted;
        last = point->wanted < most ? point->wanted : most;
        point->x = (point->x + last) / 2;
    }
}

static void sweep(struct layers *layers, bool of_above, bool reorder)
{
    want_mean(layers, of_above);
    for (unsigned layer = 0; layer < layers->layers_count; layer++) {
        size_t begin = layers->layer_begin[layer];
        size_t count = layers->layer_begin[layer + 1] - begin;
        if (reorder)
            qsort_r(layers->order + begin, count, sizeof(*layers->order), compare_wanted, layers->points);
        push_apart(layers, layer);
    }
}

static void move_to_origin(struct layers *layers)
{
    double least = 0, most = 0;
    for (size_t i = 0; i < layers->points_count; i++) {
        const struct layer_point *point = &layers->points[i];
        double left = point->x - point->width / 2, right = point->x + point->width / 2;
        least = i == 0 || left < least ? left : least;
        most = i == 0 || right > most ? right : most;
    }
    for (size_t i = 0; i < layers->points_count; i++)
        layers->points[i].x -= least;
    layers->total_width = most - least;
}

void layers_arrange(struct layers *layers)
{
    choose_layers(layers);
    add_bends(layers);
    fill_order(layers);
    for (unsigned layer = 0; layer < layers->layers_count; layer++)
        push_apart(layers, layer);
    for (unsigned i = 0; i < SWEEPS; i++)
        sweep(layers, i % 2 == 0, i < SWEEPS - 2);
    move_to_origin(layers);
}
