#include "blockcore/graph/image_name.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/url.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/open_private.h"
#include "blockcore/graph/options.h"
#include "blockcore/runtime/path_policy.h"
#include "blockcore/runtime/pool.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static const struct image_policy default_policy = { .any_directory = true };
static const struct image_policy *policy = &default_policy;

void image_policy_set(const struct image_policy *new_policy)
{
    policy = new_policy;
}

/* The policy -------------------------------------------------------------------------------------------------- */

static bool scheme_allowed(const char *scheme, size_t length)
{
    for (size_t i = 0; i < policy->schemes_count; i++) {
        if (strlen(policy->schemes[i]) == length && strncmp(policy->schemes[i], scheme, length) == 0)
            return true;
    }
    return false;
}

static struct error *check_scheme(const char *scheme)
{
    if (scheme_allowed(scheme, strlen(scheme)))
        return NULL;
    return error_new("an image names something that '%s' stands for, which the image policy does not allow (its "
                     "'schemes')",
                     scheme);
}

/* However it was written: "nbd:unix:/path" and a description lead to a socket of this host as "nbd+unix" does. */
static struct error *check_nbd(const struct socket_address *server)
{
    switch (server->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        return scheme_allowed("nbd+tcp", strlen("nbd+tcp")) ? NULL : check_scheme("nbd");
    case SOCKET_ADDRESS_TYPE_UNIX:
        return check_scheme("nbd+unix");
    case SOCKET_ADDRESS_TYPE_VSOCK:
        return check_scheme("nbd+vsock");
    default:
        return error_new("an image names a descriptor of the daemon, which an image cannot do");
    }
}

/* A look at a path, which is left behind when it hangs and nobody wants to know any more. */
struct look {
    char *path;
    bool allowed;
    bool device;
    int errnum;
};

static void look_free(void *arg)
{
    struct look *look = arg;
    free(look->path);
    free(look);
}

/* NULL: it was left. The caller frees it. */
static struct look *look_at(const char *path, int (*fn)(void *look)) CO_FN;

static struct look *look_at(const char *path, int (*fn)(void *look))
{
    struct look *look = xcalloc(1, sizeof(*look));
    struct pool_domain *domain = pool_domain_create(path, 1);
    int ignored;
    look->path = xstrdup(path);
    bool ended = co_blocking_or_leave(domain, fn, look_free, look, &ignored);
    pool_domain_unref(domain);
    return ended ? look : NULL;
}

static struct error *look_was_left(const char *path)
{
    return error_errno(ECANCELED, "looking up '%s', which an image names", path);
}

/* Links are followed first: it counts where the file is. They may be changed before it is opened, so the driver looks
 * once more at what it opens, see open_directories(). */
static int check_path(void *arg)
{
    struct look *look = arg;
    CLEANUP(free) char *real = realpath(look->path, NULL);
    look->errnum = real ? 0 : errno;
    look->allowed = real && path_list_has(&policy->directories, real);
    return 0;
}

static struct error *judge_path(const struct look *look)
{
    if (look->errnum)
        return error_errno(look->errnum, "cannot look up '%s', which an image names", look->path);
    if (look->allowed)
        return NULL;
    return error_new("an image names '%s', which is in none of the directories that the image policy allows",
                     look->path);
}

static struct error *check_file(const char *path) CO_FN;

static struct error *check_file(const char *path)
{
    if (policy->any_directory)
        return NULL;
    struct look *look = look_at(path, check_path);
    if (!look)
        return look_was_left(path);
    struct error *err = judge_path(look);
    look_free(look);
    return err;
}

const struct path_list *image_policy_directories(void)
{
    return policy->any_directory ? NULL : &policy->directories;
}

/* Only what is known to lead nowhere but to its children, each of which is looked at in its turn, and to what is looked
 * at here. Others may read a file for their rules (blkdebug), or refer to something of the daemon (throttle). */
struct error *image_policy_check(const struct driver *driver, const struct blockdev_options *options)
{
    switch (options->driver) {
    case BLOCKDEV_DRIVER_FILE:
        return check_file(options->u.file.filename);
    case BLOCKDEV_DRIVER_HOST_DEVICE:
        return check_file(options->u.host_device.filename);
    case BLOCKDEV_DRIVER_NBD:
        return check_nbd(options->u.nbd.server);
    case BLOCKDEV_DRIVER_HTTP:
    case BLOCKDEV_DRIVER_HTTPS:
        return check_scheme(driver->name);
    case BLOCKDEV_DRIVER_NULL_CO:
    case BLOCKDEV_DRIVER_RAW:
    case BLOCKDEV_DRIVER_QCOW2:
    case BLOCKDEV_DRIVER_LUKS:
    case BLOCKDEV_DRIVER_COMPRESS:
    case BLOCKDEV_DRIVER_COPY_ON_READ:
    case BLOCKDEV_DRIVER_PREALLOCATE:
    case BLOCKDEV_DRIVER_QUORUM:
        return NULL;
    default:
        return error_new("an image describes a node of driver '%s', which images cannot do", driver->name);
    }
}

/* Names ------------------------------------------------------------------------------------------------------- */

/* What is opened, in the making. */
struct named {
    const char *file;   /* as in the header */
    const char *format; /* NULL: none */
    const struct child *child;
    char *path;
    struct arena arena;
    const struct blockdev_options *options;
};

/* "nbd://host", "json:{...}": a colon before any slash. */
static bool has_protocol(const char *name)
{
    return name[strcspn(name, ":/")] == ':';
}

/* The path of the file below @node, or NULL when it does not stand on a file. */
static const char *path_below(const struct node *node)
{
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

static struct error *find_path(struct named *named, const char *name)
{
    if (name[0] == '/') {
        named->path = xstrdup(name);
        return NULL;
    }
    const char *image = path_below(child_node(named->child));
    if (!image)
        return error_new("the image names '%s', relative to its own place, but it does not stand on a file", name);
    const char *slash = strrchr(image, '/');
    named->path = xasprintf("%.*s%s", slash ? (int)(slash - image + 1) : 0, image, name);
    return NULL;
}

/* A path that cannot be looked at is taken for a file; opening it tells the user why. */
static int find_device(void *arg)
{
    struct look *look = arg;
    struct stat st;
    look->device = stat(look->path, &st) == 0 && (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode));
    return 0;
}

static struct error *describe_path(struct named *named) CO_FN;

static struct error *describe_path(struct named *named)
{
    const char *name = strncmp(named->file, "file:", 5) == 0 ? named->file + 5 : named->file;
    struct error *err = find_path(named, name);
    if (err)
        return err;
    struct look *look = look_at(named->path, find_device);
    if (!look)
        return look_was_left(named->path);
    struct blockdev_options *options = arena_alloc(&named->arena, sizeof(*options));
    options->driver = look->device ? BLOCKDEV_DRIVER_HOST_DEVICE : BLOCKDEV_DRIVER_FILE;
    look_free(look);
    options->u.file.filename = named->path; /* 'host_device' has the same options */
    named->options = options;
    return NULL;
}

/* The name in messages: an address may hold a password, and a description anything. */
static char *shown_name(const char *name)
{
    return strncmp(name, "json:", 5) == 0 ? xstrdup("json:{...}") : url_without_user(name);
}

static struct error *describe_other(struct named *named)
{
    CLEANUP(free) char *shown = shown_name(named->file);
    size_t scheme = strcspn(named->file, ":");
    bool json = strncmp(named->file, "json:", 5) == 0;
    if (json && !policy->json)
        return error_new("the image names a description ('json:'), which the image policy does not allow (its 'json'); "
                         "give the child with a driver, or change the policy");
    if (!json && !scheme_allowed(named->file, scheme))
        return error_new("the image names '%s', which is not a plain path, and the image policy does not allow it (its "
                         "'schemes'); give the child with a driver, or change the policy",
                         shown);
    if (!options_service()->from_name)
        return error_new("the image names '%s', which is not a plain path", shown);
    return error_wrap(options_service()->from_name(named->file, &named->arena, &named->options), "the image names '%s'",
                      shown);
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

/* Puts the format that the header gives on what stores the bytes. */
static struct error *describe_format(struct named *named, enum blockdev_driver format)
{
    const struct driver *described = driver_find(blockdev_driver_name(named->options->driver));
    if (named->options->driver == format)
        return NULL;
    struct blockdev_options *image = arena_alloc(&named->arena, sizeof(*image));
    struct blockdev_ref *file = arena_alloc(&named->arena, sizeof(*file));
    file->kind = BLOCKDEV_REF_KIND_DEFINITION;
    file->u.definition = named->options;
    image->driver = format;
    switch (format) {
    case BLOCKDEV_DRIVER_QCOW2:
        image->u.qcow2.file = file;
        break;
    case BLOCKDEV_DRIVER_RAW:
        image->u.raw.file = file;
        break;
    case BLOCKDEV_DRIVER_FILE:
    case BLOCKDEV_DRIVER_HOST_DEVICE:
        /* The name says which of the two it is. */
        if (named->path)
            return NULL;
        __attribute__((fallthrough));
    default:
        return error_new("the image gives '%s' as the format of its backing file, which is not the format of a file",
                         blockdev_driver_name(format));
    }
    if (described && described->kind != DRIVER_PROTOCOL)
        return error_new("the image describes a node of driver '%s', but gives '%s' as its format", described->name,
                         blockdev_driver_name(format));
    named->options = image;
    return NULL;
}

static struct error *describe(struct named *named) CO_FN;

static struct error *describe(struct named *named)
{
    bool plain = strncmp(named->file, "file:", 5) == 0 || !has_protocol(named->file);
    struct error *err = plain ? describe_path(named) : describe_other(named);
    if (err || !named->format)
        return err;
    enum blockdev_driver format = BLOCKDEV_DRIVER_RAW;
    err = find_format(named->format, &format);
    return err ? err : describe_format(named, format);
}

struct error *child_open_image_name(struct node *parent, const char *name, unsigned role, const char *file,
                                    const char *format, const struct child *child, const struct open_context *context,
                                    struct child **out)
{
    struct named named = { .file = file, .format = format, .child = child };
    arena_init(&named.arena, SIZE_MAX);
    struct error *err = describe(&named);
    if (!err)
        err = child_open_from_image(parent, name, role, named.options, context, out);
    arena_fini(&named.arena);
    free(named.path);
    return err;
}
