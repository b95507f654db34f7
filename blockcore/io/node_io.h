/* node_io - requests inside the graph: for io/ only, below handles and children
 *
 * The caller has checked bounds and permissions; everything else of request.h happens here. */
#ifndef CAIRN_IO_NODE_IO_H
#define CAIRN_IO_NODE_IO_H

#include "blockcore/base/iov.h"
#include "blockcore/base/range.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/flush.h"

int node_read(struct node *node, struct range range, const struct iov *iov, unsigned flags) CO_FN;
int node_write(struct node *node, struct range range, const struct iov *iov, unsigned flags) CO_FN;
int node_write_zeroes(struct node *node, struct range range, unsigned flags) CO_FN;
int node_discard(struct node *node, struct range range) CO_FN;
int node_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode) CO_FN;

#endif
