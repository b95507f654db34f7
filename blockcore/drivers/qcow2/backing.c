/* The backing file: what the options say, or else what the header says. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/graph/image_name.h"
#include "schema/cairn_types.h"

static struct error *open_given(struct qcow2 *q, const struct blockdev_ref_or_null *given,
                                const struct open_context *context)
{
    struct blockdev_ref ref = { 0 };
    switch (given->kind) {
    case BLOCKDEV_REF_OR_NULL_KIND_DEFINITION:
        ref.kind = BLOCKDEV_REF_KIND_DEFINITION;
        ref.u.definition = given->u.definition;
        break;
    case BLOCKDEV_REF_OR_NULL_KIND_REFERENCE:
        if (given->u.reference[0] == '\0')
            return NULL;
        ref.kind = BLOCKDEV_REF_KIND_REFERENCE;
        ref.u.reference = given->u.reference;
        break;
    default:
        return NULL;
    }
    struct child *backing;
    return child_open(q->node, "backing", CHILD_BACKING, &ref, context, &backing);
}

static struct error *open_named(struct qcow2 *q, const struct open_context *context)
{
    const char *name = q->header.backing_file;
    if (!q->header.backing_format)
        return error_new("the image names '%s' as its backing file without saying its format, which is not guessed; "
                         "give 'backing' with a driver, or write the format into the image: "
                         "qemu-img rebase -u -b FILE -F FORMAT",
                         name);
    struct child *backing;
    return child_open_image_name(q->node, "backing", CHILD_BACKING, name, q->header.backing_format, q->file, context,
                                 &backing);
}

struct error *qcow2_open_backing(struct qcow2 *q, const struct blockdev_options *options,
                                 const struct open_context *context)
{
    const struct blockdev_ref_or_null *given = options->u.qcow2.backing;
    if (given)
        return open_given(q, given, context);
    return q->header.backing_file ? open_named(q, context) : NULL;
}
