/* metrics - where metrics are served (schema/metrics.json): nowhere, or at one address
 *
 *     control thread: acceptor --connection--> metrics_http's thread: request --metrics_scrape--> text
 *
 * A plain start knows nothing of it but two functions. */
#ifndef CAIRN_DAEMON_METRICS_H
#define CAIRN_DAEMON_METRICS_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

struct metrics_options;

/* The file that it will make: where its socket is; NULL: none. */
const char *metrics_path(const struct metrics_options *options);

/* Begins to serve. */
struct error *metrics_start(const struct metrics_options *options) CO_FN CONTROL_FN MUST_CHECK;

/* Harmless when nothing is served. */
void metrics_stop(void) CO_FN CONTROL_FN;

#endif
