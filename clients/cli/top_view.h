/* top_view - what `cairnctl top` shows, as text */
#ifndef CAIRN_CLI_TOP_VIEW_H
#define CAIRN_CLI_TOP_VIEW_H

#include "clients/cli/job_rate.h"
#include "clients/cli/top_sample.h"

#include <stdio.h>

struct top_view {
    enum top_order order;
    bool reverse;
    bool hide_idle;
    bool hide_nodes;
    bool show_clients;
    bool show_commands;
    unsigned columns;
};

/* Lines that end with "\n" and fit into view->columns, where names leave room for numbers. */
void top_view_print(const struct top_view *view, const struct top_samples *samples, const struct job_rates *rates,
                    FILE *out);

#endif
