/* offload - a copy that storage does itself, without the bytes passing through here
 *
 *     source --> filter --> raw (window) --> file --.   clone: both files share the blocks, nothing is moved
 *     target --> raw ------------------------> file --'   the file system copies: in the kernel, or on a server
 *                                                         a thread copies what the page cache has
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
    /* What is in memory already is read and written by one thread. */
    OFFLOAD_CARRY,
    /* Where that is better than an ordinary copy: blocks are shared, or a server copies; else OFFLOAD_CARRY. */
    OFFLOAD_SHARE,
    OFFLOAD_ALWAYS, /* wherever the kernel can copy: zeroes are not looked for then */
};

/* What a driver's copy_in takes bytes from: a node on storage that is read at @offset as it is. */
struct copy_source {
    struct node *node;
    uint64_t offset;
    uint64_t zero_unit;         /* a power of two; 0: zeroes are copied as data */
    enum copy_offload *offload; /* becomes less where it turns out that there is no more between these two */
    uint64_t *done;             /* for the driver to say: how many bytes from the begin on were copied */
};

/* @range of @from, which lies inside of both, is written to @to at the same place. 0; -ENOTSUP: what is behind the
 * first *@done bytes is to be copied another way, whatever has become of the target. @zero_unit, *@offload as in struct
 * copy_source. Any thread. */
int child_offload(struct child *from, struct child *to, struct range range, uint64_t zero_unit,
                  enum copy_offload *offload, uint64_t *done) CO_FN;

/* For drivers that have copy_in, towards their children. */
int child_copy_in(struct child *child, struct range range, const struct copy_source *source) CO_FN;

#endif
