/* bitmaps_ahead - bitmaps that are right in the image at every moment
 *
 * With the option write-ahead-bitmaps the directory does not say that bitmaps are in use, since what the image has of
 * them is always enough: all bits of a region are set, and flushed, before its first write (graph/write_ahead.h). So
 * each bitmap has all of its clusters, in one run, and bits are written where they are.
 *
 *     directory --> table --> [cluster][cluster]...   as item->bits has them, or with old bits where a write failed
 *
 * All of them say that they record, since they can be enabled without the image being told. So one that was disabled
 * records after a crash, and has what it had, or more. */
#ifndef CAIRN_QCOW2_BITMAPS_AHEAD_H
#define CAIRN_QCOW2_BITMAPS_AHEAD_H

#include "blockcore/drivers/qcow2/bitmaps.h"

struct co_mutex;

/* Whether the image is to have its bitmaps ahead; it may not have begun. */
bool qcow2_ahead_wanted(const struct qcow2 *q);

/* Requests go by the regions from now on; none is in flight. -ENOMEM, 0. */
int qcow2_ahead_begin(struct qcow2 *q) CONTROL_FN;
/* The image's bitmaps stay as they are. None is in flight. */
void qcow2_ahead_end(struct qcow2 *q) CONTROL_FN;
/* Around all that changes what is ahead; NULL: nothing is. */
struct co_mutex *qcow2_ahead_hold(struct qcow2 *q) CO_FN;

/* Bitmaps that are written anew, one after the other; held. */
struct ahead_items;
struct ahead_items *ahead_items_create(void);
void ahead_items_free(struct ahead_items *items);
/* Into clusters of its own, which *bitmap refers to afterwards, as qcow2_bitmap_write() does. */
int qcow2_ahead_write(struct qcow2 *q, struct dirty_bitmap *from, struct qcow2_bitmap *bitmap,
                      struct ahead_items *items) CO_FN;
/* The directory leads to these now. Takes them. */
void qcow2_ahead_exchange(struct qcow2 *q, struct ahead_items *items);
/* The directory does not lead to it any more. */
void qcow2_ahead_forget(struct qcow2 *q, const char *name);

#endif
