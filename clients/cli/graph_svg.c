/* The graph as a picture: layers.h finds the places, and what is drawn there is told here. */
#include "clients/cli/graph_data.h"
#include "clients/cli/json_get.h"
#include "clients/cli/layers.h"
#include "clients/cli/size.h"
#include "clients/cli/terminal.h"

#include "blockcore/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHARACTER_WIDTH 7.3 /* of the monospaced font below, at its size */
#define TITLE_CHARACTERS_MAX 40
#define BOX_PADDING 14
#define BOX_HEIGHT 44
#define LAYER_HEIGHT 104
#define MARGIN 16
#define GAP 28

static const char style[] =
    "text { font: 12px ui-monospace, 'DejaVu Sans Mono', monospace; text-anchor: middle; fill: #24292f; }\n"
    ".small { font-size: 10px; fill: #57606a; }\n"
    "rect { fill: #f6f8fa; stroke: #57606a; stroke-width: 1.2; }\n"
    ".export rect { fill: #ddf4ff; stroke: #0969da; }\n"
    ".protocol rect { fill: #fff8c5; stroke: #9a6700; }\n"
    ".read-only rect { stroke-dasharray: 5 3; }\n"
    ".edge path { fill: none; stroke: #57606a; stroke-width: 1.2; marker-end: url(#tip); }\n"
    ".backing path { stroke-dasharray: 5 3; }\n"
    ".edge text { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; }\n";

struct box {
    const char *name;
    char *detail; /* the second line */
    const char *class;
    bool read_only;
};

struct edge {
    const char *name;
};

struct picture {
    struct layers layers;
    struct box *boxes; /* one for each point that is no bend */
    struct edge *edges;
    json_t *numbers; /* object: node-name -> number of its box */
    size_t nodes_begin;
};

/* Text ------------------------------------------------------------------------------------------------------------ */

/* Bytes of the character at @text, which is valid UTF-8; 0 when XML cannot have it (XML 1.0, "Characters"). */
static size_t allowed_character(const char *text)
{
    unsigned char first = (unsigned char)*text;
    size_t bytes = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (first < 0x20)
        return first == '\t' || first == '\n' || first == '\r' ? 1 : 0;
    return strncmp(text, "\xef\xbf\xbe", 3) == 0 || strncmp(text, "\xef\xbf\xbf", 3) == 0 ? 0 : bytes;
}

static size_t put_character(const char *text)
{
    static const struct {
        char character;
        const char *entity;
    } entities[] = { { '&', "&amp;" },   { '<', "&lt;" },  { '>', "&gt;" },   { '"', "&quot;" },
                     { '\'', "&apos;" }, { '\t', "&#9;" }, { '\n', "&#10;" }, { '\r', "&#13;" } };
    size_t bytes = allowed_character(text);

    if (bytes == 0) {
        fputs("\xef\xbf\xbd", stdout); /* the replacement character */
        return (unsigned char)*text < 0x80 ? 1 : 3;
    }
    for (size_t i = 0; i < ARRAY_SIZE(entities); i++) {
        if (entities[i].character == *text) {
            fputs(entities[i].entity, stdout);
            return bytes;
        }
    }
    return fwrite(text, 1, bytes, stdout), bytes;
}

static void put_escaped(const char *text, unsigned characters_max)
{
    unsigned count = 0;
    while (*text && count++ < characters_max)
        text += put_character(text);
    if (*text)
        fputs("\xe2\x80\xa6", stdout); /* an ellipsis */
}

static void put_attribute(const char *name, const char *value)
{
    printf(" %s=\"", name);
    put_escaped(value, UINT32_MAX);
    putchar('"');
}

/* Building -------------------------------------------------------------------------------------------------------- */

static size_t add_box(struct picture *picture, struct box box)
{
    unsigned title = terminal_width(box.name), detail = terminal_width(box.detail);
    unsigned longest = title > detail ? title : detail;
    if (longest > TITLE_CHARACTERS_MAX)
        longest = TITLE_CHARACTERS_MAX + 1;
    size_t number = layers_add_point(&picture->layers, longest * CHARACTER_WIDTH + 2 * BOX_PADDING);
    picture->boxes[number] = box;
    return number;
}

static void add_edge(struct picture *picture, size_t from, const char *to, const char *name)
{
    const json_t *number = json_object_get(picture->numbers, to);
    if (!number)
        return;
    size_t edge = layers_add_line(&picture->layers, from, (size_t)json_integer_value(number));
    picture->edges[edge] = (struct edge){ .name = name };
}

static void add_exports(struct picture *picture, const struct graph *graph)
{
    size_t i;
    const json_t *export;

    json_array_foreach(graph->exports, i, export)
    {
        CLEANUP(free) char *detail = xasprintf("export, %s", get_text(export, "type"));
        add_box(picture, (struct box){ .name = get_text(export, "id"), .detail = steal(&detail), .class = "export" });
    }
}

static void add_nodes(struct picture *picture, const struct graph *graph)
{
    size_t i;
    const json_t *node;

    picture->nodes_begin = picture->layers.points_count;
    json_array_foreach(graph->nodes, i, node)
    {
        char size[SIZE_TEXT_MAX];
        uint64_t bytes = get_number(json_object_get(node, "image"), "virtual-size");
        CLEANUP(free) char *detail = xasprintf("%s, %s", get_text(node, "drv"), size_format(bytes, size));
        bool is_last = json_array_size(json_object_get(node, "children")) == 0;
        size_t number = add_box(picture, (struct box){
                                             .name = get_text(node, "node-name"),
                                             .detail = steal(&detail),
                                             .class = is_last ? "protocol" : "format",
                                             .read_only = get_flag(node, "ro"),
                                         });
        json_object_set_new(picture->numbers, get_text(node, "node-name"), json_integer((json_int_t)number));
    }
}

static void add_edges(struct picture *picture, const struct graph *graph)
{
    size_t i, j;
    const json_t *export, *node, *child;

    json_array_foreach(graph->exports, i, export) add_edge(picture, i, get_text(export, "node-name"), "");
    json_array_foreach(graph->nodes, i, node)
    {
        json_array_foreach(json_object_get(node, "children"), j, child)
            add_edge(picture, picture->nodes_begin + i, get_text(child, "node-name"), get_text(child, "child"));
    }
}

static size_t count_edges(const struct graph *graph)
{
    size_t i, count = json_array_size(graph->exports);
    const json_t *node;

    json_array_foreach(graph->nodes, i, node) count += json_array_size(json_object_get(node, "children"));
    return count;
}

/* Drawing --------------------------------------------------------------------------------------------------------- */

static double y_of(const struct picture *picture, size_t point)
{
    return MARGIN + (double)picture->layers.points[point].layer * LAYER_HEIGHT;
}

static double x_of(const struct picture *picture, size_t point)
{
    return MARGIN + picture->layers.points[point].x;
}

static void draw_box(const struct picture *picture, size_t number)
{
    const struct box *box = &picture->boxes[number];
    double x = x_of(picture, number), y = y_of(picture, number), width = picture->layers.points[number].width;
    bool is_export = number < picture->nodes_begin;

    printf("<g class=\"%s%s\"", box->class, box->read_only ? " read-only" : "");
    put_attribute(is_export ? "data-export" : "data-node", box->name);
    printf("><title>");
    put_escaped(box->name, UINT32_MAX);
    printf("</title><rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"%d\"/>", x - width / 2, y, width,
           BOX_HEIGHT, is_export ? BOX_HEIGHT / 2 : 4);
    printf("<text x=\"%.1f\" y=\"%.1f\">", x, y + 18);
    put_escaped(box->name, TITLE_CHARACTERS_MAX);
    printf("</text><text class=\"small\" x=\"%.1f\" y=\"%.1f\">", x, y + 34);
    put_escaped(box->detail, TITLE_CHARACTERS_MAX);
    printf("</text></g>\n");
}

/* From the lower edge of the upper box, down through its bends. */
static void draw_path(const struct picture *picture, const struct layer_line *line)
{
    double x = x_of(picture, line->from), y = y_of(picture, line->from) + BOX_HEIGHT;
    printf("<path d=\"M%.1f %.1f", x, y);
    for (size_t i = 0; i <= line->bends; i++) {
        size_t next = i < line->bends ? line->bend + i : line->to;
        double to_x = x_of(picture, next), to_y = y_of(picture, next), middle = (y + to_y) / 2;
        printf(" C%.1f %.1f %.1f %.1f %.1f %.1f", x, middle, to_x, middle, to_x, to_y);
        if (i < line->bends)
            printf(" V%.1f", to_y + BOX_HEIGHT);
        x = to_x;
        y = to_y + BOX_HEIGHT;
    }
    printf("\"/>");
}

static void draw_edge(const struct picture *picture, size_t number)
{
    const struct layer_line *line = &picture->layers.lines[number];
    const char *name = picture->edges[number].name;
    size_t next = line->bends > 0 ? line->bend : line->to;
    double x = (x_of(picture, line->from) + x_of(picture, next)) / 2;
    double y = (y_of(picture, line->from) + BOX_HEIGHT + y_of(picture, next)) / 2 + 3;

    printf("<g class=\"edge%s\"", strcmp(name, "backing") == 0 ? " backing" : "");
    put_attribute("data-from", picture->boxes[line->from].name);
    put_attribute("data-to", picture->boxes[line->to].name);
    put_attribute("data-child", name);
    putchar('>');
    draw_path(picture, line);
    if (*name) {
        printf("<text class=\"small\" x=\"%.1f\" y=\"%.1f\">", x, y);
        put_escaped(name, TITLE_CHARACTERS_MAX);
        printf("</text>");
    }
    printf("</g>\n");
}

static void draw(const struct picture *picture, size_t boxes)
{
    double width = picture->layers.total_width + 2 * MARGIN;
    unsigned layers = picture->layers.layers_count;
    double height = (layers > 0 ? (layers - 1) * LAYER_HEIGHT + BOX_HEIGHT : 0) + 2 * MARGIN;

    printf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
           "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.1f %.1f\">\n"
           "<title>storage graph</title>\n<style>\n%s</style>\n"
           "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" "
           "orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\" fill=\"#57606a\"/></marker></defs>\n"
           "<rect width=\"100%%\" height=\"100%%\" style=\"fill: #ffffff; stroke: none\"/>\n",
           width, height, width, height, style);
    for (size_t i = 0; i < picture->layers.lines_count; i++)
        draw_edge(picture, i);
    for (size_t i = 0; i < boxes; i++)
        draw_box(picture, i);
    printf("</svg>\n");
}

void graph_print_svg(const struct graph *graph)
{
    size_t boxes = json_array_size(graph->exports) + json_array_size(graph->nodes);
    struct picture picture = {
        .boxes = xcalloc(boxes + 1, sizeof(*picture.boxes)),
        .edges = xcalloc(count_edges(graph) + 1, sizeof(*picture.edges)),
        .numbers = json_object(),
    };
    layers_init(&picture.layers, GAP);
    add_exports(&picture, graph);
    add_nodes(&picture, graph);
    add_edges(&picture, graph);
    layers_arrange(&picture.layers);
    draw(&picture, boxes);
    for (size_t i = 0; i < boxes; i++)
        free(picture.boxes[i].detail);
    layers_fini(&picture.layers);
    json_decref(picture.numbers);
    free(picture.boxes);
    free(picture.edges);
}
