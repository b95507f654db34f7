/* offload - a copy that storage does itself, without the bytes passing through here
 *
 *     source --> filter --> raw (window) --> file --.   clone: both files share the blocks, nothing is moved
 *     target --> raw ------------------------> file --'   the file system copies: in the kernel, or on a server
 *
 * It is a shortcut and nothing more. Whatever stands in its way (a driver that looks at data or changes them, two file
 * systems, an error) is -ENOTSUP, and an ordinary copy does the same and says what is wrong. The target counts,
 * tracks and notes what it gets like any write. */
#ifndef CAIRN_IO_OFFLOAD_H
#define CAIRN_IO_OFFLOAD_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/range.h"
#include "blockcore/graph/driver.h"

enum copy_offload {
    OFFLOAD_NONE,
    /* Where that is better than an ordinary copy: blocks are shared, or a server copies. */
    OFFLOAD_SHARE,
    OFFLOAD_ALWAYS, /* wherever the kernel can copy: zeroes are not looked for then */
};

/* What a driver's copy_in takes bytes from: a node on storage that is read at @offset as it is. */
struct copy_source {
    struct node *node;
    uint64_t offset;
    enum copy_offload offload;
};

/* @range of @from, which lies inside of both, is written to @to at the same place. 0; -ENOTSUP: it is to be copied
 * another way, whatever has become of the target; -EOPNOTSUPP: as would all others between these two. Any thread. */
int child_offload(struct child *from, struct child *to, struct range range, enum copy_offload offload) CO_FN;

/* For drivers that have copy_in, towards their children. */
int child_copy_in(struct child *child, struct range range, const struct copy_source *source) CO_FN;

#endif
