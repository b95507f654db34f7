/* output - text that grows, and files that are written only when they change
 *
 * A file that stays as it is keeps its time stamp, so nothing that depends on it is built again. */
#ifndef SCHEMAC_OUTPUT_H
#define SCHEMAC_OUTPUT_H

#include "schema/compiler/model.h"

struct output {
    struct arena *arena;
    VECTOR(char) text;
};

void output_text(struct output *output, const char *text);
void output_printf(struct output *output, const char *format, ...) PRINTF_LIKE(2, 3);

/* The text as a string. */
const char *output_string(const struct output *output);

/* "#if ..." and "#endif" lines, for conditions other than NULL. */
void output_if(struct output *output, const struct condition *condition);
void output_endif(struct output *output, const struct condition *condition);

/* The condition as an expression of the preprocessor; "1" for NULL. */
const char *condition_expression(struct arena *arena, const struct condition *condition);

/* Begins and ends a header: comment, include guard, C++ linkage. @name is that of the file. */
void output_header_begin(struct output *output, const char *name, const char *schema);
void output_header_end(struct output *output);

/* Writes @directory/@name unless it has this content already. False after an error, which was reported. */
bool output_write(struct output *output, struct compilation *compilation, const char *directory, const char *name);

#endif
