/* Another backing file in the header of an image that is in use. What the header says besides, known or not, stays. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>

struct error *qcow2_header_set_backing(const void *old, size_t bytes, const char *file, const char *format,
                                       void *cluster)
{
    CLEANUP(qcow2_header_fini) struct qcow2_header header = { 0 };
    struct error *err = qcow2_header_parse(old, bytes, &header);
    if (err)
        return err;
    free(header.backing_file);
    free(header.backing_format);
    header.backing_file = xstrdup_or_null(file);
    header.backing_format = xstrdup_or_null(file ? format : NULL);
    return qcow2_header_format(&header, cluster);
}

/* Reads, edits and writes the first cluster. Nobody else writes to the header meanwhile. */
static struct error *rewrite(struct qcow2 *q, const char *file, const char *format, uint8_t *old, uint8_t *new) CO_FN;

static struct error *rewrite(struct qcow2 *q, const char *file, const char *format, uint8_t *old, uint8_t *new)
{
    size_t bytes = (size_t)cluster_bytes(&q->geometry);
    int ret = child_pread(q->file, 0, old, bytes);
    if (ret < 0)
        return error_errno(-ret, "cannot read the header");
    struct error *err = qcow2_header_set_backing(old, bytes, file, format, new);
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
    if (file && q->raw_data)
        return error_new("the raw data file of the image would not show what is below");
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
