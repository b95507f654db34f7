/* cleanup - release on every way out of a scope
 *
 *     CLEANUP(error_free) struct error *err = error_new("...");
 *     return steal(&err);                              hand-over: the variable is NULL afterwards
 *
 * DEFINE_CLEANUP(fn, type) stands once beside the declaration of fn(type). Values that compare equal to NULL (or
 * are negative, for descriptors) are not released. */
#ifndef CAIRN_BASE_CLEANUP_H
#define CAIRN_BASE_CLEANUP_H

#include <stddef.h>
#include <stdlib.h>

/* A variable may be there for its cleanup alone. */
#define CLEANUP(fn) __attribute__((cleanup(fn##_cleanup), unused))

#define DEFINE_CLEANUP(fn, type)                                                                                       \
    static inline void fn##_cleanup(type *p)                                                                           \
    {                                                                                                                  \
        if (*p)                                                                                                        \
            fn(*p);                                                                                                    \
    }

/* Takes the pointer out of *pp, which becomes NULL: marks the moment ownership moves on. */
#define steal(pp)                                                                                                      \
    ({                                                                                                                 \
        __typeof__(pp) steal_pp = (pp);                                                                                \
        __typeof__(*steal_pp) steal_value = *steal_pp;                                                                 \
        *steal_pp = NULL;                                                                                              \
        steal_value;                                                                                                   \
    })

static inline void free_cleanup(void *p)
{
    free(*(void **)p);
}

void close_fd(int fd);

static inline void close_fd_cleanup(const int *fd)
{
    if (*fd >= 0)
        close_fd(*fd);
}

/* Takes the descriptor out of *fd, which becomes -1. */
static inline int steal_fd(int *fd)
{
    int value = *fd;
    *fd = -1;
    return value;
}

#endif
