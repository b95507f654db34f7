/* trace - what happened last, and what is happening
 *
 *     TRACE(drain_begin, node->name);
 *     TRACE(node_read, node->name, range.offset, range.bytes);
 *
 * A trace point has a name and a format in trace_points.h, one line each. While nobody wants it, it costs a load of a
 * byte and a branch. Otherwise a record of fixed size goes into the ring of the thread, without lock or memory taken:
 *
 *     thread 1  [.......r r r r r r r]<- newest      TRACE_ALWAYS: the black box, which a process that dies prints
 *     thread 2  [r r r r r r r r r r ]<- newest      shown: whoever reads the rings writes them to a log
 *
 * The rings lie in zeroed static memory, of which the kernel gives out pages when they are first written; threads that
 * trace nothing have none. Records of a thread that has ended stay until another thread takes its ring.
 *
 * Reading, formatting and the rings may be used in signal handlers. */
#ifndef CAIRN_BASE_TRACE_H
#define CAIRN_BASE_TRACE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/trace_points.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_RINGS_MAX 96   /* threads that trace at a time; what more of them say is counted and lost */
#define TRACE_RECORDS 2048   /* of a thread that are kept; a power of two */
#define TRACE_NUMBERS 3      /* of a record */
#define TRACE_TEXT_BYTES 24  /* of a record, with the 0 at its end; what is longer is cut off */
#define TRACE_LINE_BYTES 256 /* a formatted record has no more, with the 0 at its end */

#define TRACE_ON_DEMAND 0
#define TRACE_ALWAYS 1 /* in the black box */
#define TRACE_SHOWN 2  /* somebody has asked for it */

#define TRACE_DEFINE_ID(name, mode, format) TRACE_##name,
enum trace_point { TRACE_POINTS(TRACE_DEFINE_ID) TRACE_POINT_COUNT };

struct trace_record {
    uint64_t ticks; /* ticks.h */
    uint16_t point;
    uint16_t mode;   /* of the point when it was recorded: TRACE_SHOWN? */
    uint32_t thread; /* its number in the kernel */
    uint64_t numbers[TRACE_NUMBERS];
    char text[TRACE_TEXT_BYTES];
};

/* For TRACE() only: TRACE_ALWAYS | TRACE_SHOWN of each point. */
extern _Atomic unsigned char trace_modes[TRACE_POINT_COUNT];
void trace_write(enum trace_point point, unsigned mode, const char *text, uint64_t a, uint64_t b, uint64_t c);

/* TRACE(NAME, TEXT[, NUMBER[, NUMBER[, NUMBER]]]): TEXT is copied and may be NULL; arguments are evaluated only when
 * somebody wants them. Any thread; never waits. */
#define TRACE_3(name, text, a, b, c)                                                                                   \
    do {                                                                                                               \
        unsigned char trace_mode = atomic_load_explicit(&trace_modes[TRACE_##name], memory_order_relaxed);             \
        if (unlikely(trace_mode))                                                                                      \
            trace_write(TRACE_##name, trace_mode, (text), (uint64_t)(a), (uint64_t)(b), (uint64_t)(c));                \
    } while (0)
#define TRACE_2(name, text, a, b) TRACE_3(name, text, a, b, 0)
#define TRACE_1(name, text, a) TRACE_3(name, text, a, 0, 0)
#define TRACE_0(name, text) TRACE_3(name, text, 0, 0, 0)
#define TRACE_SELECT(text, a, b, c, macro, ...) macro
#define TRACE(name, ...) TRACE_SELECT(__VA_ARGS__, TRACE_3, TRACE_2, TRACE_1, TRACE_0, )(name, __VA_ARGS__)

/* A string that is never freed, as a number (%c). */
#define TRACE_CONSTANT(string) ((uintptr_t)(const char *)(string))

/* Which points --------------------------------------------------------------------------------------------------- */

const char *trace_point_name(enum trace_point point);

/* The point of that name, or -1. */
int trace_point_find(const char *name);

/* Does @name match @pattern, in which "*" stands for any text and "?" for any character? */
bool trace_matches(const char *pattern, const char *name);
bool trace_is_pattern(const char *text);

/* Shall it be shown from now on? Any thread. */
void trace_show(enum trace_point point, bool shown);
bool trace_is_shown(enum trace_point point);
bool trace_is_any_shown(void);

/* Reading -------------------------------------------------------------------------------------------------------- */

/* How far somebody has read each ring; zeroed: not at all. */
struct trace_cursor {
    uint64_t next[TRACE_RINGS_MAX];
};

/* Whoever starts to read now misses what was before. */
void trace_cursor_to_end(struct trace_cursor *cursor);

/* The oldest records that @cursor has not seen, in no order; fewer than @max: there are no others. *lost grows by
 * those that were overwritten before. Other threads go on writing. */
size_t trace_read(struct trace_cursor *cursor, struct trace_record *out, size_t max, uint64_t *lost);

/* The newest @max records of all threads, oldest first. */
size_t trace_last(struct trace_record *out, size_t max);

/* "drain_begin node disk0", without a line feed; returns the length. */
size_t trace_format(const struct trace_record *record, char out[TRACE_LINE_BYTES]);

/* Records for which there was no ring. */
uint64_t trace_lost(void);

/* From now on each thread that traces gets an alternate signal stack; one that does already, when this is its own call.
 */
void trace_give_signal_stacks(void);

#endif
