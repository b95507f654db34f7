/* reconcile - what runs, and what configurations describe */
#ifndef CAIRN_DAEMON_RECONCILE_H
#define CAIRN_DAEMON_RECONCILE_H

#include "blockcore/base/annotations.h"
#include "schema/cairn_types.h"

struct options;

/* Of @options, which live as long as the process. */
void reconcile_begin(const struct options *options) CONTROL_FN;

/* What was said once at the start: the lists are empty. */
const struct cairn_config *reconcile_settings(void) CONTROL_FN;

#endif
