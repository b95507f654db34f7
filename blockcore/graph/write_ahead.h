/* write_ahead - before a region of a node is written for the first time, its image says so
 *
 * Dirty bitmaps live in memory, and an image that is not closed properly has old ones. Here the image is told before:
 * the disk is cut into regions, and a region is "armed" when the image, on stable storage, has all of its bits set.
 *
 *     write --> armed? --no--> the image gets the bits of the region, flush --> armed --> the driver writes
 *                 '--yes----------------------------------------------------------------------^
 *
 * So after a crash the image's bits are those that memory had, and more: of all regions that were armed, every byte. A
 * region that nobody writes cools down: the image gets its bits as memory has them, and the next write arms it again.
 * Writes that wait share a flush. Cooling is what makes the bits fewer, and it is lazy: too many bits do no harm.
 *
 * Why the image never says too little, however many threads write:
 *
 *  1. A write counts itself in its regions before it asks whether they are armed, and counts itself out when its bits
 *     are set in memory.
 *  2. A region cools down only while nobody is counted, by one atomic step from "armed, nobody" to "not armed". What
 *     the bits in memory say after that step has all writes that were counted before it, and goes to the image. Who is
 *     counted in a region that is not armed has not written yet.
 *  3. A write that comes after the step finds the region not armed. Arming and cooling exclude each other by a mutex,
 *     so it waits until the image has the bits of memory, and then sets all.
 *  4. What a crash takes back must not be what somebody copied, and said so by taking bits away. So before the image
 *     gets fewer bits, everything that was written is made stable: later than the step, hence all that was written to
 *     the region.
 *  5. Bits are taken away in memory by their owner when they are not needed, on the control thread, which is where
 *     cooling reads them. Whoever takes them away only for a time makes the bitmap busy before (see ops->settle).
 *
 * The last region goes on for ever, so a node that grows needs no other table. */
#ifndef CAIRN_GRAPH_WRITE_AHEAD_H
#define CAIRN_GRAPH_WRITE_AHEAD_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/range.h"

struct co_mutex;
struct node;
struct write_ahead;

/* What the driver does; under the mutex. */
struct write_ahead_ops {
    /* The image says that all of @range is dirty in each of its bitmaps; the next flush makes that stable. Any loop. 0
     * or -errno. */
    int (*arm)(struct node *node, struct range range) CO_FN;
    int (*flush)(struct node *node) CO_FN;
    /* All that was written is stable. Control thread. 0 or -errno. */
    int (*stabilise)(struct node *node) CO_FN CONTROL_FN;
    /* The image may say of @range what the bitmaps do, and need not be flushed: nobody writes there. Bitmaps that are
     * busy are left as the image has them, unless their owner said otherwise (dirty_bitmap_set_followed()). Errors do
     * no harm, as long as each byte of the image has its old value or its new one. */
    void (*settle)(struct node *node, struct range range) CO_FN CONTROL_FN;
};

/* From now on requests of @node come here. While none is in flight. NULL: no memory. */
struct write_ahead *write_ahead_begin(struct node *node, const struct write_ahead_ops *ops) CONTROL_FN;
/* The same. */
void write_ahead_end(struct write_ahead *ahead) CONTROL_FN;

/* For the driver, which changes its bitmaps under it. */
struct co_mutex *write_ahead_mutex(struct write_ahead *ahead);
/* The first run of armed regions that ends behind @offset, in bytes; empty: there is none. Under the mutex. The last
 * region has no end. */
struct range write_ahead_next_armed(const struct write_ahead *ahead, uint64_t offset);

/* Regions that nobody writes cool down, and those that are not armed get the bits of memory. @patient: those that were
 * written since they were last asked stay armed. Inside of a handle on the node. Writes do it now and then; this is for
 * those who have made bits fewer. */
void node_cool_regions(struct node *node, bool patient) CO_FN CONTROL_FN;

/* For io/, on any loop: use node_enter_regions() and node_leave_regions() of layout.h. */
int write_ahead_enter(struct write_ahead *ahead, struct range range) CO_FN;
void write_ahead_leave(struct write_ahead *ahead, struct range range);

#endif
