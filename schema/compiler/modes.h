/* modes - what schemac can print
 *
 * Each mode is one option that takes no value ("--introspect") or one of a few ("--docs md"), and a function that
 * prints a model to standard output. */
#ifndef SCHEMAC_MODES_H
#define SCHEMAC_MODES_H

#include "schema/compiler/backend.h"

struct mode {
    const char *option;   /* without "--" */
    const char *argument; /* what usage calls the option's value; NULL: it has none; "[=...]": may be left out, then
                             NULL is passed */
    const char *help;     /* one line */
    /* False if @argument is none that it knows: wrong usage. */
    bool (*write)(struct output *output, const struct model *model, const struct backend_options *options,
                  const char *argument);
};

extern const struct mode modes[];
extern const size_t mode_count;

#endif
