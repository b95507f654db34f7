/* The backing file: what the options say, or else what the header says.
 *
 * The name in a header was written by somebody else, perhaps long ago. It is taken as a plain path, relative to the
 * directory of the overlay; anything that reads like a protocol or like JSON is refused. The format is never guessed: a
 * guest that can write to a raw backing file could make it look like an image that names any file of the host. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/pool.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

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

/* "nbd://host", "json:{...}": a colon before any slash. */
static bool has_protocol(const char *name)
{
    return name[strcspn(name, ":/")] == ':';
}

/* The path of the file below the overlay, or NULL when it does not stand on a file. */
static const char *overlay_path(const struct qcow2 *q)
{
    const struct node *node = child_node(q->file);
    for (;;) {
        const char *driver = node_driver(node)->name;
        if (strcmp(driver, "file") == 0 || strcmp(driver, "host_device") == 0)
            return node_filename(node);
        const struct child *below = node_child_next(node, NULL);
        if (!below)
            return NULL;
        node = child_node(below);
    }
}

static struct error *path_of(const struct qcow2 *q, const char *name, char **out)
{
    if (strncmp(name, "file:", 5) == 0)
        name += 5;
    if (has_protocol(name))
        return error_new("the image names '%s' as its backing file, which is not a plain path; give 'backing'", name);
    if (name[0] == '/') {
        *out = xstrdup(name);
        return NULL;
    }
    const char *overlay = overlay_path(q);
    if (!overlay)
        return error_new("the image names '%s' as its backing file, relative to its own place, but it does not "
                         "stand on a file; give 'backing'",
                         name);
    const char *slash = strrchr(overlay, '/');
    *out = xasprintf("%.*s%s", slash ? (int)(slash - overlay + 1) : 0, overlay, name);
    return NULL;
}

static struct error *find_format(const char *name, enum blockdev_driver *out)
{
    for (int i = 0; blockdev_driver_names[i]; i++) {
        *out = (enum blockdev_driver)i;
        if (strcmp(blockdev_driver_names[i], name) == 0)
            return NULL;
    }
    return error_new("the image gives '%s' as the format of its backing file, which is not supported", name);
}

struct looked_up {
    const char *path;
    bool device;
};

static int look_up(void *arg)
{
    struct looked_up *found = arg;
    struct stat st;
    found->device = stat(found->path, &st) == 0 && (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode));
    return 0;
}

/* A path that cannot be looked at is taken for a file; opening it tells the user why. */
static enum blockdev_driver protocol_of(const char *path)
{
    struct looked_up found = { .path = path };
    struct pool_domain *domain = pool_domain_create(path, 1);
    co_blocking(domain, look_up, &found);
    pool_domain_unref(domain);
    return found.device ? BLOCKDEV_DRIVER_HOST_DEVICE : BLOCKDEV_DRIVER_FILE;
}

static struct error *open_path(struct qcow2 *q, const char *path, enum blockdev_driver format,
                               const struct open_context *context)
{
    struct blockdev_options file = { .driver = protocol_of(path) };
    file.u.file.filename = path; /* 'host_device' has the same options */
    struct blockdev_ref file_ref = { .kind = BLOCKDEV_REF_KIND_DEFINITION, .u.definition = &file };
    struct blockdev_options image = { .driver = format };
    switch (format) {
    case BLOCKDEV_DRIVER_QCOW2:
        image.u.qcow2.file = &file_ref;
        break;
    case BLOCKDEV_DRIVER_RAW:
        image.u.raw.file = &file_ref;
        break;
    case BLOCKDEV_DRIVER_FILE:
    case BLOCKDEV_DRIVER_HOST_DEVICE:
        image = file;
        image.driver = format;
        break;
    default:
        return error_new("the image gives '%s' as the format of its backing file, which is not the format of a file",
                         blockdev_driver_name(format));
    }
    struct child *backing;
    return child_open_options(q->node, "backing", CHILD_BACKING, &image, context, &backing);
}

static struct error *open_named(struct qcow2 *q, const struct open_context *context)
{
    const char *name = q->header.backing_file;
    if (!q->header.backing_format)
        return error_new("the image names '%s' as its backing file without saying its format, which is not guessed; "
                         "give 'backing' with a driver, or write the format into the image: "
                         "qemu-img rebase -u -b FILE -F FORMAT",
                         name);
    enum blockdev_driver format = BLOCKDEV_DRIVER_RAW;
    struct error *err = find_format(q->header.backing_format, &format);
    CLEANUP(free) char *path = NULL;
    if (!err)
        err = path_of(q, name, &path);
    return err ? err : open_path(q, path, format, context);
}

struct error *qcow2_open_backing(struct qcow2 *q, const struct blockdev_options *options,
                                 const struct open_context *context)
{
    const struct blockdev_ref_or_null *given = options->u.qcow2.backing;
    if (given)
        return open_given(q, given, context);
    return q->header.backing_file ? open_named(q, context) : NULL;
}
