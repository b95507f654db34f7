/* event - what the daemon tells its clients unasked
 *
 * For each event the compiler writes a typed function that hands the data to event_sink_emit(), which rpc/ defines. */
#ifndef CAIRN_SCHEMA_EVENT_H
#define CAIRN_SCHEMA_EVENT_H

#include "blockcore/base/annotations.h"
#include "schema/codec/descriptor.h"

/* All sessions that listen; defined by rpc/. */
struct event_sink;

struct event_descriptor {
    const char *name;
    const struct type_descriptor *data; /* an object, or NULL */
    uint32_t rate_limit_ms;             /* at most one in this time is of use to clients; 0: no limit */
    uint32_t rate_key_count;
    const uint16_t *rate_keys; /* indexes of members of the data: events that differ in them don't count together */
};

struct event_table {
    const struct event_descriptor *events; /* sorted by name, as strcmp() does */
    size_t count;
};

/* Sends an event to all sessions. @data is encoded before this returns; it stays the caller's. Defined by rpc/. */
void event_sink_emit(struct event_sink *sink, const struct event_descriptor *event, const void *data) CONTROL_FN;

#endif
