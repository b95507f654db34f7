/* print - trees on standard output, as JSON for people and for pipes
 *
 * jansson's own printer leaves out integers that it cannot hold (schema/codec/json_tree.h). */
#ifndef CAIRN_CLI_PRINT_H
#define CAIRN_CLI_PRINT_H

#include <jansson.h>

enum print_format {
    PRINT_INDENTED, /* a line for each member and item */
    PRINT_COMPACT,  /* one line, no blanks */
};

/* Without an end of line. */
void print_json(const json_t *json, enum print_format format);

#endif
