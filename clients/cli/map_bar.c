#include "clients/cli/map_bar.h"

#include "blockcore/base/memory.h"
#include "clients/cli/size.h"
#include "clients/cli/terminal.h"

#include <stdlib.h>

#define CELLS_MIN 10
#define CELLS_MAX 1000
#define DEPTHS 10 /* that are told apart; deeper ones are the last */

/* Bytes of a cell, or of the whole image. */
struct sum {
    uint64_t absent;
    uint64_t zero;
    uint64_t data[DEPTHS];
};

void map_bar_add(struct map_bar *bar, const struct map_piece *piece)
{
    if ((bar->count & (bar->count - 1)) == 0)
        bar->pieces = xrealloc_array(bar->pieces, bar->count ? 2 * bar->count : 1, sizeof(*bar->pieces));
    bar->pieces[bar->count++] = *piece;
}

void map_bar_fini(struct map_bar *bar)
{
    free(bar->pieces);
}

const char *map_color(enum map_kind kind, unsigned depth)
{
    static const char *const colors[] = { COLOR_GREEN, COLOR_CYAN, COLOR_BLUE, COLOR_MAGENTA, COLOR_YELLOW };
    return kind == MAP_DATA ? colors[depth % ARRAY_SIZE(colors)] : COLOR_FAINT;
}

static void sum_add(struct sum *sum, const struct map_piece *piece, uint64_t bytes)
{
    if (piece->kind == MAP_ABSENT)
        sum->absent += bytes;
    else if (piece->kind == MAP_ZERO)
        sum->zero += bytes;
    else
        sum->data[piece->depth < DEPTHS ? piece->depth : DEPTHS - 1] += bytes;
}

/* Where cell @i of @cells begins: cells differ by a byte at most. */
static uint64_t cell_begin(const struct map_bar *bar, uint64_t length, unsigned i, unsigned cells)
{
    __extension__ unsigned __int128 product = (unsigned __int128)length * i;
    return bar->pieces[0].start + (uint64_t)(product / cells);
}

static uint64_t bar_length(const struct map_bar *bar)
{
    const struct map_piece *last = &bar->pieces[bar->count - 1];
    return last->start + last->length - bar->pieces[0].start;
}

static void fill_cells(const struct map_bar *bar, struct sum *cells, unsigned count)
{
    uint64_t length = bar_length(bar);
    unsigned cell = 0;
    for (size_t i = 0; i < bar->count; i++) {
        const struct map_piece *piece = &bar->pieces[i];
        uint64_t at = piece->start, end = piece->start + piece->length;
        while (at < end) {
            uint64_t cell_end = cell_begin(bar, length, cell + 1, count);
            uint64_t stop = end < cell_end ? end : cell_end;
            sum_add(&cells[cell], piece, stop - at);
            at = stop;
            if (at == cell_end && cell + 1 < count)
                cell++;
        }
    }
}

/* The depth of which there is most; DEPTHS: there are no data. */
static unsigned main_depth(const struct sum *sum, uint64_t *data)
{
    unsigned most = DEPTHS;
    *data = 0;
    for (unsigned depth = 0; depth < DEPTHS; depth++) {
        *data += sum->data[depth];
        if (sum->data[depth] > 0 && (most == DEPTHS || sum->data[depth] > sum->data[most]))
            most = depth;
    }
    return most;
}

static void put_data_cell(FILE *out, unsigned depth, bool mostly)
{
    if (depth > 0)
        fputc(depth < DEPTHS - 1 ? (int)('0' + depth) : '+', out);
    else
        fputs(mostly ? "█" : "▄", out);
}

/* *@last: the colour of the cell before. */
static void put_cell(FILE *out, const struct sum *sum, const char **last)
{
    uint64_t data;
    unsigned depth = main_depth(sum, &data);
    const char *const color = depth < DEPTHS ? map_color(MAP_DATA, depth) : map_color(MAP_ZERO, 0);
    if (color != *last)
        terminal_color(out, color);
    *last = color;
    if (depth < DEPTHS)
        put_data_cell(out, depth, data >= sum->zero + sum->absent);
    else
        fputs(sum->zero > 0 ? "░" : "·", out);
}

static void put_share(FILE *out, const char *cell, const char *what, uint64_t bytes, uint64_t length)
{
    char size[SIZE_TEXT_MAX];
    if (bytes > 0)
        fprintf(out, "  %s %-16s %10s  %5.1f%%\n", cell, what, size_format(bytes, size),
                100.0 * (double)bytes / (double)length);
}

static void print_legend(FILE *out, const struct sum *all, uint64_t length)
{
    put_share(out, "█", "data", all->data[0], length);
    for (unsigned depth = 1; depth < DEPTHS; depth++) {
        char cell[2] = { depth < DEPTHS - 1 ? (char)('0' + depth) : '+', '\0' };
        char what[32];
        snprintf(what, sizeof(what), "data, depth %u%s", depth, depth < DEPTHS - 1 ? "" : "+");
        put_share(out, cell, what, all->data[depth], length);
    }
    put_share(out, "░", "zero", all->zero, length);
    put_share(out, "·", "absent", all->absent, length);
}

void map_bar_print(const struct map_bar *bar, unsigned columns, FILE *out)
{
    if (bar->count == 0 || bar_length(bar) == 0)
        return;
    unsigned count = columns < CELLS_MIN + 2 ? CELLS_MIN : columns - 2;
    if (count > CELLS_MAX)
        count = CELLS_MAX;
    if (count > bar_length(bar))
        count = (unsigned)bar_length(bar);
    struct sum *cells = xcalloc(count, sizeof(*cells));
    struct sum all = { 0 };
    fill_cells(bar, cells, count);
    const char *color = NULL;
    fputc('[', out);
    for (unsigned i = 0; i < count; i++)
        put_cell(out, &cells[i], &color);
    terminal_color(out, COLOR_NONE);
    fputs("]\n", out);
    for (size_t i = 0; i < bar->count; i++)
        sum_add(&all, &bar->pieces[i], bar->pieces[i].length);
    print_legend(out, &all, bar_length(bar));
    free(cells);
}
