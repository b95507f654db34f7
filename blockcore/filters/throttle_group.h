/* throttle_group - requests of several nodes that share limits, each waiting for its turn
 *
 *     node 'a' --member--> reads:  r1 r2         buckets: may a read pass? a write?
 *                          writes: w1     \
 *     node 'b' --member--> reads:  r3      }---> first the turn goes round among directions, then among the
 *                          writes: -      /      members that wait, then to the oldest request: r1 w1 r3 r2
 *
 * One of those that wait is the keeper: it sleeps until the next may pass, lets through what may, itself or others, and
 * hands its duty on when it goes. So the group needs no thread and no loop of its own, and its members' requests may be
 * on any loop. Without limits a request costs one load.
 *
 * All functions may be called on any thread, unless marked otherwise. */
#ifndef CAIRN_FILTERS_THROTTLE_GROUP_H
#define CAIRN_FILTERS_THROTTLE_GROUP_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/base/list.h"
#include "blockcore/filters/throttle_bucket.h"

#include <stdatomic.h>

struct object;
struct throttle_group;
struct throttle_member;

/* The requests of a member in one direction that wait. */
struct throttle_queue {
    struct list in_group; /* while any wait: in the ring of the direction */
    struct list waiters;  /* the oldest first */
};

struct throttle_member {
    struct throttle_group *group;
    struct throttle_queue queues[THROTTLE_DIRECTIONS];
    bool hasty; /* its requests do not wait */
};

struct throttle_group *throttle_group_create(const struct throttle_config *config);
/* It has no members. */
void throttle_group_destroy(struct throttle_group *group);

/* Limits for all members from now on; buckets begin empty. Requests that wait look again. */
void throttle_group_configure(struct throttle_group *group, const struct throttle_config *config);
void throttle_group_config(struct throttle_group *group, struct throttle_config *config);

/* For the end of the process: no limits any more, whatever is configured. */
void throttle_group_open(struct throttle_group *group);

/* The group of an object of type "throttle-group". */
struct throttle_group *throttle_group_of(const struct object *object);
/* throttle_group_open() for all such objects. */
void throttle_groups_open_all(void) CONTROL_FN;

void throttle_member_init(struct throttle_member *member, struct throttle_group *group);
/* None of its requests waits, and none comes. */
void throttle_member_move(struct throttle_member *member, struct throttle_group *group);
/* The member's requests wait no more, or again. */
void throttle_member_hasten(struct throttle_member *member, bool hasty);

/* Waits until a request of @bytes may pass. */
void throttle_pass(struct throttle_member *member, enum throttle_direction direction, uint64_t bytes) CO_FN;

/* For tests ------------------------------------------------------------------------------------------------- */

/* Time as *@now_ns says, for groups made from now on; NULL: real time. */
void throttle_use_clock(const _Atomic uint64_t *now_ns);
/* The clock was moved: lets through what may pass now. */
void throttle_group_clock_moved(struct throttle_group *group);
/* Requests that wait. */
unsigned throttle_group_waiting(struct throttle_group *group);

#endif
