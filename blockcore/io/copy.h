/* copy - from one child of a node to another, at the same place
 *
 * Runs of zeroes in the data become zeroes of the target, in units, so that the target does not fill up with them. */
#ifndef CAIRN_IO_COPY_H
#define CAIRN_IO_COPY_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/range.h"
#include "blockcore/graph/driver.h"
#include "blockcore/io/offload.h"

#include <stdatomic.h>
#include <stdint.h>

struct copy_ends {
    struct child *from; /* reads as zero past its end */
    struct child *to;
    unsigned flags; /* REQ_COMPRESSED, REQ_MAY_UNMAP for zeroes, as child_pwritev() and child_pwrite_zeroes() take */
    uint64_t zero_unit;                /* a power of two; 0: data are not looked at */
    _Atomic enum copy_offload offload; /* becomes less where it turns out that there is no more */
};

/* 0 or -errno; then *@write_failed says whose error that is. Any thread. */
int child_copy(struct copy_ends *ends, struct range range, bool *write_failed) CO_FN;
/* The range reads as zero in @ends->to afterwards. */
int child_copy_zeroes(const struct copy_ends *ends, struct range range) CO_FN;

/* Does the child certainly have zeroes there already, so that none need be written? What is past its end does not
 * count, unless all of it is. */
bool child_is_zero(struct child *child, struct range range) CO_FN;

#endif
