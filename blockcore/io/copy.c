#include "blockcore/io/copy.h"

#include "blockcore/base/iov.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>

/* The begin of @range that is all zero, or is not, in units. */
static struct range first_alike(const struct copy_ends *ends, struct range range, const char *data, bool *zero)
{
    uint64_t end = range_end(range);
    uint64_t at = range.offset;
    *zero = false;
    if (!ends->zero_unit)
        return range;
    while (at < end) {
        uint64_t next = min_u64(align_down(at, ends->zero_unit) + ends->zero_unit, end);
        bool is_zero = memory_is_zero(data + (at - range.offset), next - at);
        if (at > range.offset && is_zero != *zero)
            break;
        *zero = is_zero;
        at = next;
    }
    return range_between(range.offset, at);
}

int child_copy_zeroes(const struct copy_ends *ends, struct range range)
{
    return child_pwrite_zeroes(ends->to, range, ends->flags & REQ_MAY_UNMAP);
}

static int write_data(const struct copy_ends *ends, struct range range, char *data) CO_FN;

static int write_data(const struct copy_ends *ends, struct range range, char *data)
{
    int ret = 0;
    for (uint64_t done = 0; done < range.bytes && ret == 0;) {
        bool zero;
        struct range run = first_alike(ends, range_make(range.offset + done, range.bytes - done), data + done, &zero);
        ret = zero ? child_copy_zeroes(ends, run)
                   : child_pwrite(ends->to, run.offset, data + done, run.bytes, ends->flags & REQ_COMPRESSED);
        done += run.bytes;
    }
    return ret;
}

/* What has to be read and written here. */
static struct range offload(struct copy_ends *ends, struct range range) CO_FN;

static struct range offload(struct copy_ends *ends, struct range range)
{
    enum copy_offload before = atomic_load_explicit(&ends->offload, memory_order_relaxed);
    enum copy_offload after = before;
    uint64_t done = 0;
    if (before == OFFLOAD_NONE)
        return range;
    (void)child_offload(ends->from, ends->to, range, ends->zero_unit, &after, &done);
    if (after != before)
        atomic_store_explicit(&ends->offload, after, memory_order_relaxed);
    return range_between(range.offset + done, range_end(range));
}

int child_copy(struct copy_ends *ends, struct range range, bool *write_failed)
{
    *write_failed = false;
    range = offload(ends, range);
    if (range.bytes == 0)
        return 0;
    size_t bytes = (size_t)min_u64(range.bytes, 512u * 1024);
    char *data = buffer_get(bytes);
    int ret = data ? 0 : -ENOMEM;
    while (range.bytes > 0 && ret == 0) {
        struct range part = range_make(range.offset, min_u64(range.bytes, bytes));
        ret = child_pread(ends->from, part.offset, data, part.bytes);
        if (ret == 0) {
            ret = write_data(ends, part, data);
            *write_failed = ret < 0;
        }
        range = range_between(range_end(part), range_end(range));
    }
    buffer_put(data, bytes);
    return ret;
}

bool child_is_zero(struct child *child, struct range range)
{
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, 1);
    range = range_intersect(range, range_make(0, child_length(child)));
    return range.bytes > 0 && child_block_status(child, range, ASK_ZERO, &extents) == 0 &&
           (extents.items[0].flags & EXTENT_ZERO) && extents.items[0].bytes >= range.bytes;
}
