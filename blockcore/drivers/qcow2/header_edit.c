/* Another backing file in the header of an image that is in use. What the header says besides, known or not, stays. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>
#include <string.h>

#define EXTENSION_END 0
#define EXTENSION_BACKING_FORMAT 0xe2792acau
#define EXTENSION_HEADER_BYTES 8
#define FIELD_BACKING_OFFSET 8
#define FIELD_BACKING_BYTES 16

/* Appending to a cluster; what does not fit is noticed at the end. */
struct writer {
    uint8_t *data;
    size_t bytes;
    size_t position;
};

static void append(struct writer *writer, const void *data, size_t bytes)
{
    if (bytes > 0 && bytes <= writer->bytes - min_u64(writer->position, writer->bytes))
        memcpy(writer->data + writer->position, data, bytes);
    writer->position += bytes;
}

static void append_extension(struct writer *writer, uint32_t type, const void *data, size_t bytes)
{
    static const uint8_t padding[8];
    uint8_t head[EXTENSION_HEADER_BYTES];
    store_be32(head, type);
    store_be32(head + 4, (uint32_t)bytes);
    append(writer, head, sizeof(head));
    append(writer, data, bytes);
    append(writer, padding, align_up(bytes, 8) - bytes);
}

/* Where extensions may reach to: the old name, if there is one. */
static size_t extensions_limit(const uint8_t *old, size_t bytes)
{
    uint64_t name = load_be64(old + FIELD_BACKING_OFFSET);
    return name ? (size_t)min_u64(name, bytes) : bytes;
}

static void copy_extensions(struct writer *writer, const uint8_t *old, size_t bytes, size_t position)
{
    size_t limit = extensions_limit(old, bytes);
    while (position + EXTENSION_HEADER_BYTES <= limit) {
        uint32_t type = load_be32(old + position);
        uint64_t length = load_be32(old + position + 4);
        position += EXTENSION_HEADER_BYTES;
        if (type == EXTENSION_END || length > limit - position)
            return;
        if (type != EXTENSION_BACKING_FORMAT)
            append_extension(writer, type, old + position, (size_t)length);
        position += (size_t)min_u64(align_up(length, 8), limit - position);
    }
}

struct error *qcow2_header_set_backing(const void *old, size_t bytes, size_t header_bytes, const char *file,
                                       const char *format, void *cluster)
{
    struct writer writer = { .data = cluster, .bytes = bytes };
    memset(cluster, 0, bytes);
    append(&writer, old, header_bytes);
    if (file && format)
        append_extension(&writer, EXTENSION_BACKING_FORMAT, format, strlen(format));
    copy_extensions(&writer, old, bytes, header_bytes);
    append_extension(&writer, EXTENSION_END, NULL, 0);
    size_t name = writer.position;
    if (file)
        append(&writer, file, strlen(file));
    if (writer.position > bytes || (file && strlen(file) > QCOW2_BACKING_NAME_MAX))
        return error_new("the name of the backing file does not fit into the header");
    store_be64((uint8_t *)cluster + FIELD_BACKING_OFFSET, file ? name : 0);
    store_be32((uint8_t *)cluster + FIELD_BACKING_BYTES, file ? (uint32_t)strlen(file) : 0);
    return NULL;
}

/* Reads, edits and writes the first cluster. Nobody else writes to the header meanwhile. */
static struct error *rewrite(struct qcow2 *q, const char *file, const char *format, uint8_t *old, uint8_t *new) CO_FN;

static struct error *rewrite(struct qcow2 *q, const char *file, const char *format, uint8_t *old, uint8_t *new)
{
    size_t bytes = (size_t)cluster_bytes(&q->geometry);
    int ret = child_pread(q->file, 0, old, bytes);
    if (ret < 0)
        return error_errno(-ret, "cannot read the header");
    struct error *err = qcow2_header_set_backing(old, bytes, q->header.header_bytes, file, format, new);
    if (err)
        return err;
    ret = child_pwrite(q->file, 0, new, bytes, 0);
    if (ret == 0)
        ret = child_flush(q->file);
    if (ret < 0)
        return error_errno(-ret, "cannot write the header");
    free(q->header.backing_file);
    free(q->header.backing_format);
    q->header.backing_file = xstrdup_or_null(file);
    q->header.backing_format = xstrdup_or_null(file ? format : NULL);
    return NULL;
}

struct error *qcow2_change_backing_file(struct node *node, const char *file, const char *format)
{
    struct qcow2 *q = node_state(node);
    size_t bytes = (size_t)cluster_bytes(&q->geometry);
    int ret = qcow2_may_write(q);
    if (ret < 0)
        return error_errno(-ret, "the header cannot be written");
    uint8_t *old = buffer_get(bytes);
    uint8_t *new = buffer_get(bytes);
    struct error *err = NULL;
    if (old && new) {
        CLEANUP(co_mutex_release) struct co_mutex *metadata = co_mutex_hold(&q->metadata);
        CLEANUP(co_mutex_release) struct co_mutex *features = co_mutex_hold(&q->features);
        err = rewrite(q, file, format, old, new);
    } else {
        err = error_errno(ENOMEM, "cannot change the header");
    }
    if (old)
        buffer_put(old, bytes);
    if (new)
        buffer_put(new, bytes);
    return err;
}
