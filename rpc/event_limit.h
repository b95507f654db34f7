/* event_limit - how often an event is sent
 *
 *     occurs:   1        2 3 4                 5
 *     sent:     1 . . . . . . . . 4 . . . . . . . . 5        one dot: rate_limit_ms / 9
 *
 * The first one goes at once and begins a time in which later ones are held; when it is over, the last of those is
 * sent, with the time of its own, and a new one begins (QEMU's monitor does the same). So what clients know last is
 * true. Events that differ in the members by which the schema says so don't count together.
 *
 * At most EVENT_LIMITS_MAX times run at once; an event beyond that is sent without limit. */
#ifndef CAIRN_RPC_EVENT_LIMIT_H
#define CAIRN_RPC_EVENT_LIMIT_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/hash.h"
#include "schema/codec/event.h"
#include "schema/codec/text.h"

#define EVENT_LIMITS_MAX 4096

/* An event as text, indented and not. */
struct event_text {
    struct text forms[2]; /* by "pretty" */
};

void event_text_fini(struct event_text *text);

struct event_limits {
    struct hash running; /* of struct event_limit, by event and members */
    void (*send)(void *arg, const struct event_text *text);
    void *arg;
};

/* @send gets what was held, when its time has come. */
void event_limits_init(struct event_limits *limits, void (*send)(void *arg, const struct event_text *text), void *arg);

/* What is held is sent now. */
void event_limits_fini(struct event_limits *limits) CONTROL_FN;

/* What becomes of an event that has just happened. */
enum event_limit_verdict {
    EVENT_GOES,
    EVENT_WAITS, /* hand it over with event_limit_hold() */
};

struct event_limit;

/* Begins a time where none runs for such an event; else *out is what holds it back. */
enum event_limit_verdict event_limits_judge(struct event_limits *limits, const struct event_descriptor *event,
                                            const void *data, struct event_limit **out) CONTROL_FN;

/* Takes over @text, in place of what was held before. */
void event_limit_hold(struct event_limit *limit, struct event_text *text);

#endif
