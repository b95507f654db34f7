/* stack - memory for coroutines to run on
 *
 * Mapped, not allocated: pages that were never touched cost nothing, and a guard page below turns an overflow into
 * a fault at the place where it happens. Private to this folder. */
#ifndef CAIRN_RUNTIME_STACK_H
#define CAIRN_RUNTIME_STACK_H

#include <stddef.h>

struct stack {
    void *base; /* lowest usable byte; the guard page lies below */
    size_t bytes;
    unsigned valgrind_id;
};

/* At least COROUTINE_STACK_BYTES; ends the process with a message when there is no memory. */
struct stack stack_create(void);
void stack_destroy(struct stack stack);

#endif
