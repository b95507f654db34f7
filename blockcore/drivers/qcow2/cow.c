/* Writing to units that are not data yet: the guest's bytes, and around them what the guest had there before.
 *
 *     units     |        head        |   guest's bytes   |   tail   |
 *                read, or zeroes,                          the same
 *                or nothing where the new
 *                cluster reads as zeroes anyway
 *
 * All of it goes out in one write where that is possible. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/io/block_status.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>
#include <string.h>

/* Longer runs of zeroes are left to the file below instead of being written with the data. */
#define ZEROES_IN_WRITE_MAX (64 * 1024)

static uint8_t zeroes[ZEROES_IN_WRITE_MAX] __attribute__((aligned(4096)));

/* What surrounds the guest's bytes on one side. */
struct margin {
    struct range guest;
    bool zero;
    uint8_t *data; /* read, unless zero */
};

static bool backing_is_zero(struct qcow2 *q, struct range range)
{
    struct child *backing = node_backing(q->node);
    uint64_t length = backing ? child_length(backing) : 0;
    if (range.offset >= length)
        return true;
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, 1);
    struct range inside = range_between(range.offset, min_u64(range_end(range), length));
    if (child_block_status(backing, inside, ASK_ZERO, &extents) < 0)
        return false;
    return (extents.items[0].flags & EXTENT_ZERO) && extents.items[0].bytes >= inside.bytes;
}

static bool run_is_zero(struct qcow2 *q, struct range range, const struct mapping *mapping)
{
    switch (mapping->kind) {
    case CLUSTER_ZERO:
    case CLUSTER_ZERO_RESERVED:
        return true;
    case CLUSTER_ABSENT:
    case CLUSTER_ABSENT_RESERVED:
        return backing_is_zero(q, range);
    default:
        return false;
    }
}

/* The entries of clusters in flight do not change, so what the map says stays true until they are linked. */
static int is_zero(struct qcow2 *q, struct range range, bool *zero)
{
    *zero = true;
    while (range.bytes > 0 && *zero) {
        struct mapping mapping;
        int ret = map_lookup(q, range, FOR_READING, &mapping);
        if (ret < 0)
            return ret;
        *zero = run_is_zero(q, range_make(range.offset, mapping.bytes), &mapping);
        range = range_make(range.offset + mapping.bytes, range.bytes - mapping.bytes);
    }
    return 0;
}

static int read_old(struct qcow2 *q, struct range range, uint8_t *data)
{
    while (range.bytes > 0) {
        struct mapping mapping;
        int ret = map_lookup(q, range, FOR_READING, &mapping);
        if (ret < 0)
            return ret;
        struct iovec piece;
        struct iov iov = iov_of(&piece, data, (size_t)mapping.bytes);
        child_debug_event(q->file, "cow_read");
        ret = qcow2_read_mapped(q, range_make(range.offset, mapping.bytes), &mapping, &iov);
        if (ret < 0)
            return ret;
        data += mapping.bytes;
        range = range_make(range.offset + mapping.bytes, range.bytes - mapping.bytes);
    }
    return 0;
}

/* Past the end of the disk nothing was, whatever the backing file has there. */
static int margin_prepare(struct qcow2 *q, struct range guest, struct margin *margin)
{
    *margin = (struct margin){ .guest = guest, .zero = true };
    uint64_t inside = range_between(guest.offset, min_u64(range_end(guest), node_length(q->node))).bytes;
    int ret = is_zero(q, range_make(guest.offset, inside), &margin->zero);
    if (ret < 0 || (margin->zero && !q->crypt) || guest.bytes == 0)
        return ret;
    margin->data = buffer_get((size_t)guest.bytes);
    if (!margin->data)
        return -ENOMEM;
    if (margin->zero) {
        /* Zeroes are encrypted like everything else. */
        memset(margin->data, 0, (size_t)guest.bytes);
        margin->zero = false;
        return 0;
    }
    memset(margin->data + inside, 0, (size_t)(guest.bytes - inside));
    return read_old(q, range_make(guest.offset, inside), margin->data);
}

static void margin_fini(struct margin *margin)
{
    buffer_put(margin->data, (size_t)margin->guest.bytes);
}

/* Can it be left out of the write, or does it go by itself? */
static bool is_separate(const struct allocation *allocation, const struct margin *margin)
{
    return margin->zero && (allocation->fresh || margin->guest.bytes > ZEROES_IN_WRITE_MAX);
}

static int write_separate(struct qcow2 *q, const struct allocation *allocation, const struct margin *margin)
{
    if (allocation->fresh || margin->guest.bytes == 0 || !is_separate(allocation, margin))
        return 0;
    child_debug_event(q->file, "cluster_alloc_space");
    return child_pwrite_zeroes(q->data,
                               range_make(allocation_host(allocation, margin->guest.offset), margin->guest.bytes), 0);
}

static size_t add_margin(struct iovec *vec, size_t count, const struct margin *margin)
{
    vec[count] = (struct iovec){ margin->zero ? zeroes : margin->data, (size_t)margin->guest.bytes };
    return count + (margin->guest.bytes > 0);
}

/* The guest's bytes between those margins that are not separate. */
static int write_together(struct qcow2 *q, const struct allocation *allocation, const struct margin *head,
                          const struct margin *tail, struct range range, const struct iov *iov)
{
    bool with_head = !is_separate(allocation, head);
    bool with_tail = !is_separate(allocation, tail);
    if (!(with_head && head->guest.bytes) && !(with_tail && tail->guest.bytes)) {
        child_debug_event(q->data, "write_aio");
        return qcow2_write_data(q, range.offset, allocation_host(allocation, range.offset), iov);
    }
    size_t pieces = iov_pieces(iov);
    CLEANUP(free) struct iovec *vec = try_calloc(pieces + 2, sizeof(*vec));
    if (!vec)
        return -ENOMEM;
    size_t count = with_head ? add_margin(vec, 0, head) : 0;
    size_t bytes;
    count += (size_t)iov_export(iov, vec + count, pieces, &bytes);
    count = with_tail ? add_margin(vec, count, tail) : count;
    struct iov all = iov_of_vec(vec, count);
    uint64_t guest = with_head ? head->guest.offset : range.offset;
    child_debug_event(q->data, "cow_write");
    return qcow2_write_data(q, guest, allocation_host(allocation, guest), &all);
}

int cow_write(struct qcow2 *q, const struct allocation *allocation, struct range range, const struct iov *iov)
{
    struct margin head;
    struct margin tail = { .zero = true };
    int ret = margin_prepare(q, range_between(allocation->written.offset, range.offset), &head);
    if (ret == 0)
        ret = margin_prepare(q, range_between(range_end(range), range_end(allocation->written)), &tail);
    if (ret == 0)
        ret = write_separate(q, allocation, &head);
    if (ret == 0)
        ret = write_separate(q, allocation, &tail);
    if (ret == 0)
        ret = write_together(q, allocation, &head, &tail, range, iov);
    margin_fini(&head);
    margin_fini(&tail);
    return ret;
}
