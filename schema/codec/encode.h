/* encode - values as JSON text, without a tree in between
 *
 * One walk over the value and its table, appending as it goes; the cost is linear and the only memory is that of the
 * text. Members come in the order of the schema; absent ones are left out. */
#ifndef CAIRN_SCHEMA_ENCODE_H
#define CAIRN_SCHEMA_ENCODE_H

#include "blockcore/base/error.h"
#include "schema/codec/descriptor.h"
#include "schema/codec/event.h"
#include "schema/codec/text.h"

enum encode_flags {
    ENCODE_PRETTY = 1 << 0, /* one member a line, indented by four spaces a level, as QEMU does */
    ENCODE_REDACT = 1 << 1, /* for logs: each secret member that is there becomes "(secret)" */
};

/* Appends @value, which lies by value as @type says; @type NULL stands for {}. @depth: levels to indent by.
 *
 * An error says that the value is not one of its type (a pointer that must not be NULL is, an enum is out of range): a
 * mistake of whoever built it, to be reported instead of crashing. What was appended until then stays: the caller cuts
 * it off. If @text may fail, so may this, for want of memory. Any thread. */
struct error *encode_value(struct text *text, const struct type_descriptor *type, const void *value, unsigned flags,
                           unsigned depth) MUST_CHECK;

/* Appends an event as a QMP message, without a line's end:
 * {"timestamp": {"seconds": S, "microseconds": U}, "event": "NAME", "data": {...}} */
struct error *encode_event(struct text *text, const struct event_descriptor *event, const void *data, int64_t seconds,
                           int64_t microseconds, unsigned flags) MUST_CHECK;

#endif
