/* quorum_private - what the parts of a quorum share */
#ifndef CAIRN_DRIVERS_QUORUM_PRIVATE_H
#define CAIRN_DRIVERS_QUORUM_PRIVATE_H

#include "blockcore/graph/driver.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/notice.h"
#include "blockcore/runtime/tracking.h"

struct quorum_rules {
    unsigned threshold;
    bool blkverify;
    bool rewrite;
    bool fifo;
};

struct quorum {
    struct child **children; /* all but the tracker changes while the node is drained */
    unsigned children_count;
    unsigned next_index; /* of the name of the next one */
    struct quorum_rules rules;
    struct tracker tracker;
};

/* Entries of the driver: request.c */
int quorum_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags) CO_FN;
int quorum_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags) CO_FN;
int quorum_pwrite_zeroes(struct node *node, struct range range, unsigned flags) CO_FN;
int quorum_flush(struct node *node) CO_FN;
int quorum_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode) CO_FN;

/* status.c */
int quorum_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents) CO_FN;

/* Tells that @child of the quorum @node has failed (@ret < 0), or was outvoted (0). request.c */
void quorum_report_bad(const struct node *node, const struct child *child, enum notice_request request,
                       struct range range, int ret);

#endif
