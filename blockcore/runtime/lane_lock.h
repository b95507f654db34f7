/* lane_lock - many loops may be inside at the same time, or somebody is alone
 *
 * For what requests on all loops look at and commands rarely change. To enter costs a write to memory that belongs to
 * the loop, so loops do not disturb each other; to be alone costs waiting until the others have left. Nobody waits for
 * anything else, and nobody enters twice, while inside or alone: a stay is a few instructions, or some microseconds.
 *
 * Only on threads with a loop. */
#ifndef CAIRN_RUNTIME_LANE_LOCK_H
#define CAIRN_RUNTIME_LANE_LOCK_H

#include "blockcore/base/annotations.h"

#include <stdatomic.h>
#include <stdbool.h>

struct lane_lock_lane;

struct lane_lock {
    _Atomic bool taken; /* somebody is alone, or about to be */
    unsigned lanes_count;
    struct lane_lock_lane *lanes;
};

/* False when there is no memory. */
bool lane_lock_init(struct lane_lock *lock) MUST_CHECK;
void lane_lock_fini(struct lane_lock *lock);

void lane_lock_enter(struct lane_lock *lock);
void lane_lock_leave(struct lane_lock *lock);

void lane_lock_alone(struct lane_lock *lock);
void lane_lock_open(struct lane_lock *lock);

#endif
