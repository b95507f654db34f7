/* grace - wait for something to be over, but not for ever
 *
 * Storage may hang, and a command that waits for it should not: it waits for a while, and goes on without. On the
 * control thread. */
#ifndef CAIRN_EXPORT_GRACE_H
#define CAIRN_EXPORT_GRACE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/list.h"

#include <stdint.h>

struct grace {
    struct list waiters;
};

void grace_init(struct grace *grace);

/* Returns when grace_over() is called, or after @ms. @grace may be gone by then. */
void grace_wait(struct grace *grace, uint64_t ms) CO_FN CONTROL_FN;

/* Lets all go on that wait. */
void grace_over(struct grace *grace) CONTROL_FN;

#endif
