/* map_bar - a whole image in one line of cells
 *
 * Each cell stands for the same part of the image. What is drawn:
 *
 *     █ data of the first layer   ▄ less than half of the cell is     1 to 9, + data of the layer at that depth
 *     ░ zero: some layer says so  · absent: no layer has anything there
 *
 * Data win over zeroes, and those over what is absent: what little there is shall be seen. Extents are kept until the
 * length of the image is known. */
#ifndef CAIRN_CLI_MAP_BAR_H
#define CAIRN_CLI_MAP_BAR_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum map_kind {
    MAP_ABSENT,
    MAP_ZERO,
    MAP_DATA,
};

struct map_piece {
    uint64_t start;
    uint64_t length;
    enum map_kind kind;
    unsigned depth;
};

/* Zeroed at first; map_bar_fini(). */
struct map_bar {
    struct map_piece *pieces; /* in order */
    size_t count;
};

void map_bar_add(struct map_bar *bar, const struct map_piece *piece);
void map_bar_fini(struct map_bar *bar);

/* The bar, in @columns columns with its brackets, and lines that say what its cells mean and how much there is. Nothing
 * for an image without bytes. */
void map_bar_print(const struct map_bar *bar, unsigned columns, FILE *out);

/* The colour of data of that depth. */
const char *map_color(enum map_kind kind, unsigned depth);

#endif
