/* copy_before_write - what a disk held at one moment, kept while it goes on being written
 *
 *     export (guest) --> copy-before-write --file----> disk     the disk as it is now
 *                              |    '------target---> temp      old bytes of what was written since
 *     export (backup) --> snapshot-access                        the disk as it was when the filter came
 *
 * These are what the node above, snapshot-access, is made of: requests to the point in time. The filter keeps it as
 * long as it has users, or until an error breaks it. Called within a request that the graph counts. All return 0 or
 * -errno: -EACCES where the point in time is lost or was said not to be needed any more. */
#ifndef CAIRN_FILTERS_COPY_BEFORE_WRITE_H
#define CAIRN_FILTERS_COPY_BEFORE_WRITE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/iov.h"
#include "blockcore/base/range.h"

struct extents;
struct node;

/* The filter that @node is, or that is the first below it through other filters; NULL when there is none. */
struct node *cbw_find(struct node *node);

/* Bytes of the point in time. */
uint64_t cbw_snapshot_length(struct node *cbw);

int cbw_snapshot_preadv(struct node *node, struct range range, const struct iov *iov) CO_FN;

/* As driver->block_status: zero and data, no mapping, since what lies in the disk now may move to the target. */
int cbw_snapshot_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents) CO_FN;

/* The range is not needed any more: it is not copied when it is written, and space in the target is given back. Whole
 * clusters only; of others nothing happens. */
int cbw_snapshot_pdiscard(struct node *node, struct range range) CO_FN;

#endif
