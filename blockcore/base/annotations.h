/* annotations - what a declaration promises about threads and coroutines
 *
 * The marks stand on declarations in headers, where callers read them. A function without a mark may be
 * called on any thread and never awaits.
 *
 *     CO_FN          may await: only inside a coroutine. State read before the call may be stale after it.
 *     CONTROL_FN     only on the control thread; never awaits unless CO_FN stands beside it.
 *     LOOP_FN        only on the thread of the loop that owns the object.
 *     GUARDED_BY(l)  the field is read and written only while l is held. */
#ifndef CAIRN_BASE_ANNOTATIONS_H
#define CAIRN_BASE_ANNOTATIONS_H

#include <stddef.h>
#include <stdint.h>

#define CO_FN
#define CONTROL_FN
#define LOOP_FN
#define GUARDED_BY(lock)

#define PRINTF_LIKE(format_index, first_argument) __attribute__((format(printf, format_index, first_argument)))
#define MUST_CHECK __attribute__((warn_unused_result))
#define NORETURN __attribute__((noreturn))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)((uintptr_t)(ptr)-offsetof(type, member)))

#endif
