/* The external data file: what the options say, or else what the header says.
 *
 * The image then holds tables only. Each guest cluster has one place in the data file, the same offset, so nothing
 * there is allocated, counted or shared; entries say which bytes of it count.
 *
 * A *raw* data file is the disk by itself, for readers that know nothing of the image. So nothing may be true in the
 * tables alone: what is zeroed is zeroed there, and the tables say "data" wherever it matters.
 *
 * The name in a header is subject to the operator's policy, like that of a backing file (image_name.h). It is opened as
 * what it is, a file or a device, never as an image. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/graph/image_name.h"
#include "schema/cairn_types.h"

static struct error *open_named(struct qcow2 *q, const struct open_context *context, struct child **out)
{
    if (!q->header.data_file)
        return error_new("data-file: is missing; the image does not name its external data file");
    return child_open_image_name(q->node, "data-file", CHILD_DATA, q->header.data_file, NULL, q->file, context, out);
}

static struct error *check(const struct qcow2 *q)
{
    if (q->header.snapshot_count > 0)
        return error_new("the image has an external data file and internal snapshots, which exclude each other");
    return NULL;
}

struct error *qcow2_open_data_file(struct qcow2 *q, const struct blockdev_options *options,
                                   const struct open_context *context)
{
    const struct blockdev_ref *given = options->u.qcow2.data_file;
    if (!q->geometry.data_file)
        return NULL;
    struct error *err = check(q);
    struct child *data;
    if (!err && given)
        err = child_open(q->node, "data-file", CHILD_DATA, given, context, &data);
    else if (!err)
        err = open_named(q, context, &data);
    if (err)
        return err;
    child_set_role(q->file, CHILD_METADATA);
    q->data = data;
    /* A backing file would show through in the image, but not in the data file: then it is not raw, whatever the header
     * says. */
    q->raw_data = (q->header.autoclear & QCOW2_DATA_FILE_RAW) && !q->header.backing_file;
    return NULL;
}

struct error *qcow2_check_backing_option(const struct qcow2 *q, const struct blockdev_ref_or_null *backing)
{
    bool none = !backing || backing->kind == BLOCKDEV_REF_OR_NULL_KIND_NULL ||
                (backing->kind == BLOCKDEV_REF_OR_NULL_KIND_REFERENCE && backing->u.reference[0] == '\0');
    if (none || !q->raw_data)
        return NULL;
    return error_new("backing: the raw data file of the image would not show what is below");
}

/* The data file is written when the disk is, which may make it longer, and when its length changes, since what is added
 * must read as zeroes. Nobody else may write it. */
void qcow2_child_permissions(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                             unsigned *child_perm, unsigned *child_shared)
{
    permissions_of_role(node, child, perm, shared, child_perm, child_shared);
    if (child_role(child) != CHILD_DATA)
        return;
    if (*child_perm & (PERM_WRITE | PERM_RESIZE))
        *child_perm |= PERM_WRITE | PERM_RESIZE;
    *child_shared &= ~(unsigned)(PERM_WRITE | PERM_RESIZE);
}
