/* events - what happens in blockcore, told to the clients */
#ifndef CAIRN_DAEMON_EVENTS_H
#define CAIRN_DAEMON_EVENTS_H

#include "blockcore/base/annotations.h"

struct event_sink;

/* From now on all events go to @sink; NULL: nobody listens. */
void events_send_to(struct event_sink *sink) CONTROL_FN;

#endif
