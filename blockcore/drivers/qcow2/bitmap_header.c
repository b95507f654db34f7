/* The header extension that leads to the bitmap directory.
 *
 * A write of one sector happens as a whole or not at all; so what must change together lies in one sector, and the rest
 * is stable before:
 *
 *     a new extension   its data and a new end of the list are written behind the old end, which is then overwritten
 *                       with the extension's type and length, eight bytes of one sector
 *     a new directory   the data of the extension, 24 bytes; where they lie in two sectors the feature bit is taken
 *                       away meanwhile, so that a crash between loses bitmaps, none of which was of any worth then
 *     none              the feature bit goes first
 *
 * The feature bit is the last thing to be set. Without it the extension means nothing. */
#include "blockcore/drivers/qcow2/bitmaps.h"

#include "blockcore/base/endian.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>
#include <string.h>

#define EXTENSION_END 0
#define EXTENSION_BITMAPS 0x23852875u
#define EXTENSION_HEADER_BYTES 8
#define DATA_BYTES 24
#define FIELD_BACKING_OFFSET 8
#define FIELD_BACKING_BYTES 16

/* The header's cluster as it is in the file. */
struct header_cluster {
    uint8_t *bytes;
    size_t length;
    size_t bitmaps; /* where the extension begins; 0: there is none */
    size_t end;     /* where the end of the list begins; 0: there is no room for one */
    size_t name;    /* of the backing file; 0: none */
    size_t name_bytes;
};

static void find_places(const struct qcow2 *q, struct header_cluster *cluster)
{
    cluster->name = (size_t)load_be64(cluster->bytes + FIELD_BACKING_OFFSET);
    cluster->name_bytes = load_be32(cluster->bytes + FIELD_BACKING_BYTES);
    size_t limit = cluster->name ? (size_t)min_u64(cluster->name, cluster->length) : cluster->length;
    size_t at = q->header.header_bytes;
    while (at + EXTENSION_HEADER_BYTES <= limit) {
        uint32_t type = load_be32(cluster->bytes + at);
        uint64_t length = align_up(load_be32(cluster->bytes + at + 4), 8);
        if (type == EXTENSION_END) {
            cluster->end = at;
            return;
        }
        if (type == EXTENSION_BITMAPS && length >= DATA_BYTES)
            cluster->bitmaps = at;
        at += EXTENSION_HEADER_BYTES + (size_t)min_u64(length, cluster->length);
    }
}

static int write_header(struct qcow2 *q, size_t at, const void *data, size_t bytes) CO_FN;

static int write_header(struct qcow2 *q, size_t at, const void *data, size_t bytes)
{
    int ret = child_pwrite(q->file, at, data, bytes, 0);
    return ret < 0 ? ret : child_flush(q->file);
}

static int set_feature(struct qcow2 *q, bool on) CO_FN;

static int set_feature(struct qcow2 *q, bool on)
{
    uint64_t wanted = on ? q->header.autoclear | QCOW2_BITMAPS : q->header.autoclear & ~(uint64_t)QCOW2_BITMAPS;
    uint8_t field[8];
    if (wanted == q->header.autoclear)
        return 0;
    store_be64(field, wanted);
    int ret = write_header(q, QCOW2_FIELD_AUTOCLEAR, field, sizeof(field));
    if (ret == 0)
        q->header.autoclear = wanted;
    return ret;
}

/* Adding the extension ------------------------------------------------------------------------------------------ */

/* The name of the backing file makes room, by way of a copy behind its old place. */
static int move_name(struct qcow2 *q, const struct header_cluster *cluster, size_t needed_end) CO_FN;

static int move_name(struct qcow2 *q, const struct header_cluster *cluster, size_t needed_end)
{
    size_t to = (size_t)max_u64(needed_end, cluster->name + cluster->name_bytes);
    if (to + cluster->name_bytes > cluster->length)
        return -ENOSPC;
    int ret = write_header(q, to, cluster->bytes + cluster->name, cluster->name_bytes);
    uint8_t field[8];
    store_be64(field, to);
    return ret < 0 ? ret : write_header(q, FIELD_BACKING_OFFSET, field, sizeof(field));
}

static int add_extension(struct qcow2 *q, const struct header_cluster *cluster, const uint8_t *data) CO_FN;

static int add_extension(struct qcow2 *q, const struct header_cluster *cluster, const uint8_t *data)
{
    size_t needed_end = cluster->end + EXTENSION_HEADER_BYTES + DATA_BYTES + EXTENSION_HEADER_BYTES;
    if (cluster->end == 0 || needed_end > cluster->length)
        return -ENOSPC;
    int ret = cluster->name && cluster->name < needed_end ? move_name(q, cluster, needed_end) : 0;
    uint8_t rest[DATA_BYTES + EXTENSION_HEADER_BYTES] = { 0 };
    memcpy(rest, data, DATA_BYTES);
    if (ret == 0)
        ret = write_header(q, cluster->end + EXTENSION_HEADER_BYTES, rest, sizeof(rest));
    uint8_t head[EXTENSION_HEADER_BYTES];
    store_be32(head, EXTENSION_BITMAPS);
    store_be32(head + 4, DATA_BYTES);
    return ret < 0 ? ret : write_header(q, cluster->end, head, sizeof(head));
}

/* Changing it --------------------------------------------------------------------------------------------------- */

static bool lies_in_one_sector(size_t at, size_t bytes)
{
    return at / QCOW2_SECTOR_BYTES == (at + bytes - 1) / QCOW2_SECTOR_BYTES;
}

static int write_data(struct qcow2 *q, const struct header_cluster *cluster, const uint8_t *data) CO_FN;

static int write_data(struct qcow2 *q, const struct header_cluster *cluster, const uint8_t *data)
{
    size_t at = cluster->bitmaps + EXTENSION_HEADER_BYTES;
    int ret = lies_in_one_sector(at, DATA_BYTES) ? 0 : set_feature(q, false);
    return ret < 0 ? ret : write_header(q, at, data, DATA_BYTES);
}

/* When the header may lead to either directory, only with the old one can this go on. */
static int switch_directory(struct qcow2 *q, const struct header_cluster *cluster, const uint8_t *data) CO_FN;

static int switch_directory(struct qcow2 *q, const struct header_cluster *cluster, const uint8_t *data)
{
    bool had_feature = q->header.autoclear & QCOW2_BITMAPS;
    int ret = cluster->bitmaps ? write_data(q, cluster, data) : add_extension(q, cluster, data);
    if (ret == 0)
        ret = set_feature(q, true);
    if (ret == 0 || ret == -ENOSPC)
        return ret;
    int undone = set_feature(q, false);
    const uint8_t *old = cluster->bytes + cluster->bitmaps + EXTENSION_HEADER_BYTES;
    if (undone == 0 && had_feature)
        undone = write_header(q, cluster->bitmaps + EXTENSION_HEADER_BYTES, old, DATA_BYTES);
    if (undone == 0 && had_feature)
        undone = set_feature(q, true);
    if (undone < 0)
        q->corrupt = true;
    return ret;
}

static int read_cluster(struct qcow2 *q, struct header_cluster *cluster) CO_FN;

static int read_cluster(struct qcow2 *q, struct header_cluster *cluster)
{
    *cluster = (struct header_cluster){ .length = (size_t)cluster_bytes(&q->geometry) };
    cluster->bytes = buffer_get(cluster->length);
    if (!cluster->bytes)
        return -ENOMEM;
    int ret = child_pread(q->file, 0, cluster->bytes, cluster->length);
    if (ret < 0)
        buffer_put(cluster->bytes, cluster->length);
    else
        find_places(q, cluster);
    return ret;
}

static void remember_directory(struct qcow2 *q, struct range directory)
{
    spinlock_lock(&q->l2.lock);
    q->header.has_bitmaps = directory.bytes > 0;
    q->header.bitmap_directory_offset = directory.offset;
    q->header.bitmap_directory_bytes = directory.bytes;
    q->bitmap_directory = directory;
    spinlock_unlock(&q->l2.lock);
}

int qcow2_header_set_bitmaps(struct qcow2 *q, struct range directory, uint32_t count)
{
    CLEANUP(co_mutex_release) struct co_mutex *metadata = co_mutex_hold(&q->metadata);
    CLEANUP(co_mutex_release) struct co_mutex *header = co_mutex_hold(&q->header_mutex);
    struct header_cluster cluster;
    int ret = read_cluster(q, &cluster);
    if (ret < 0)
        return ret;
    uint8_t data[DATA_BYTES] = { 0 };
    store_be32(data, count);
    store_be64(data + 8, directory.bytes);
    store_be64(data + 16, directory.offset);
    ret = switch_directory(q, &cluster, data);
    if (ret == 0)
        remember_directory(q, directory);
    buffer_put(cluster.bytes, cluster.length);
    return ret;
}

/* The extension itself goes only from the end of the list; elsewhere it stays, and means nothing. */
static int remove_extension(struct qcow2 *q) CO_FN;

static int remove_extension(struct qcow2 *q)
{
    static const uint8_t end[EXTENSION_HEADER_BYTES];
    struct header_cluster cluster;
    int ret = read_cluster(q, &cluster);
    if (ret < 0)
        return ret;
    size_t length = (size_t)align_up(load_be32(cluster.bytes + cluster.bitmaps + 4), 8);
    if (cluster.bitmaps && cluster.bitmaps + EXTENSION_HEADER_BYTES + length == cluster.end)
        ret = write_header(q, cluster.bitmaps, end, sizeof(end));
    buffer_put(cluster.bytes, cluster.length);
    return ret;
}

int qcow2_header_drop_bitmaps(struct qcow2 *q)
{
    CLEANUP(co_mutex_release) struct co_mutex *metadata = co_mutex_hold(&q->metadata);
    CLEANUP(co_mutex_release) struct co_mutex *header = co_mutex_hold(&q->header_mutex);
    int ret = set_feature(q, false);
    if (ret < 0 && set_feature(q, true) < 0)
        q->corrupt = true;
    if (ret < 0)
        return ret;
    remember_directory(q, range_make(0, 0));
    (void)remove_extension(q); /* without the feature bit it does no harm */
    return 0;
}
