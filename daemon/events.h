/* events - what happens in blockcore, told to the clients */
#ifndef CAIRN_DAEMON_EVENTS_H
#define CAIRN_DAEMON_EVENTS_H

#include "blockcore/base/annotations.h"

#include <stdbool.h>

struct event_sink;

/* From now on all events go to @sink; NULL: nobody listens. */
void events_send_to(struct event_sink *sink) CONTROL_FN;

/* Was a node closed whose last flush failed? Then the process must not end as if all were well. */
bool events_data_lost(void) CONTROL_FN;

#endif
