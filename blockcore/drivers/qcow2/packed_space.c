/* Places for packed clusters: they lie one behind the other, at any byte.
 *
 *     host clusters |  A  | B |   C   : C  |     free     |        C lies in both: it counts as a reference to each
 *                                           ^ packed_next
 *
 * A host cluster has as many references as packed clusters touch it. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/drivers/qcow2/refcount_field.h"

static uint64_t cluster_of(const struct qcow2 *q, uint64_t offset)
{
    return offset >> q->geometry.cluster_bits;
}

/* Bytes that may still be used behind packed_next. */
static int room_left(struct qcow2 *q, uint64_t *room)
{
    *room = 0;
    if (q->packed_next == 0)
        return 0;
    uint64_t references;
    int ret = refcount_read(q, cluster_of(q, q->packed_next), &references);
    if (ret == 0 && references < refcount_max(q->geometry.refcount_order))
        *room = cluster_bytes(&q->geometry) - in_cluster(&q->geometry, q->packed_next);
    return ret;
}

/* Where the file takes whole units only, packed bytes at its end would leave it inside of a unit, and each of the next
 * writes would have to go around the direct way. So a cluster behind the end is made part of the file as a whole. */
static int extend_file(struct qcow2 *q, uint64_t cluster_offset)
{
    uint64_t unit = node_limits(child_node(q->file))->request_alignment;
    uint64_t end = cluster_offset + cluster_bytes(&q->geometry);
    if (unit == 1 || unit > cluster_bytes(&q->geometry) || end <= child_length(q->file))
        return 0;
    return child_pwrite_zeroes(q->file, range_make(end - unit, unit), 0);
}

/* One more host cluster. *@host is where the packed bytes begin: before it, if it follows what is left. */
static int take_cluster(struct qcow2 *q, uint64_t room, uint64_t *host)
{
    uint64_t count;
    bool fresh;
    int ret = refcount_alloc(q, 1, host, &count, &fresh);
    if (ret < 0)
        return ret;
    uint64_t added = *host;
    bool continues = room > 0 && q->packed_next + room == added;
    ret = extend_file(q, added);
    if (ret == 0 && continues)
        ret = refcount_retain(q, range_make(q->packed_next, 1));
    if (ret < 0)
        (void)refcount_release(q, range_make(added, cluster_bytes(&q->geometry)));
    else if (continues)
        *host = q->packed_next;
    return ret;
}

int packed_space_take(struct qcow2 *q, uint64_t bytes, uint64_t *host)
{
    uint64_t room;
    child_debug_event(q->file, "cluster_alloc_bytes");
    int ret = room_left(q, &room);
    if (ret < 0)
        return ret;
    if (room >= bytes) {
        *host = q->packed_next;
        ret = refcount_retain(q, range_make(*host, 1));
    } else {
        ret = take_cluster(q, room, host);
    }
    if (ret < 0)
        return ret;
    uint64_t end = *host + bytes;
    q->packed_next = in_cluster(&q->geometry, end) ? end : 0;
    return 0;
}

void packed_space_leave(struct qcow2 *q, uint64_t cluster)
{
    if (q->packed_next && cluster_of(q, q->packed_next) == cluster)
        q->packed_next = 0;
}
