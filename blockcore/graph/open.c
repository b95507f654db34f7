/* Opening nodes from descriptions, and letting them go. */
#include "blockcore/base/trace.h"
#include "blockcore/graph/inherit.h"
#include "blockcore/graph/layout.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/flush.h"
#include "blockcore/graph/node_policy.h"
#include "blockcore/graph/notice.h"
#include "blockcore/graph/open_private.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "schema/cairn_types.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define LAST_REQUESTS_MS 3000 /* of a node that is being closed: then they are abandoned */

/* Where an open happens: the descriptions that led here, outermost last. It lives on the stack of the outermost open.
 */
struct open_context {
    const struct open_context *up;
    struct node *node;
    const struct blockdev_options *options;
    unsigned depth;
    bool for_check;  /* the node is to be looked at and repaired, by nobody else */
    bool from_image; /* an image named the node, or one above it */
};

enum open_how {
    OPEN_FROM_IMAGE = 1,
    OPEN_FOR_CHECK = 2,
};

struct error *node_check_name(const char *name)
{
    if (hash_find_string(&graph.by_name, name))
        return error_new("Duplicate nodes with node-name='%s'", name);
    return NULL;
}

char *node_make_name(void)
{
    for (;;) {
        char *name = xasprintf("#block%03llu", (unsigned long long)graph.names_made++);
        if (!hash_find_string(&graph.by_name, name))
            return name;
        free(name);
    }
}

static struct error *check_description(const struct driver *driver, const struct blockdev_options *options,
                                       bool from_image) CO_FN;

static struct error *check_description(const struct driver *driver, const struct blockdev_options *options,
                                       bool from_image)
{
    struct error *err = node_policy_check_driver(driver);
    if (!err)
        err = node_policy_check_count(node_count());
    if (!err && from_image)
        err = image_policy_check(driver, options);
    /* Last, since the name is taken when nothing has been awaited since. */
    if (!err)
        err = settings_check(options);
    if (!err && options->node_name)
        err = node_check_name(options->node_name);
    return err;
}

/* Afterwards it is open, or has no children. */
static struct error *open_with(const struct driver *driver, struct node *node, const struct blockdev_options *options,
                               const struct open_context *context) CO_FN;

static struct error *open_with(const struct driver *driver, struct node *node, const struct blockdev_options *options,
                               const struct open_context *context)
{
    struct opening opening;
    struct co_note note;
    co_note_begin(&note, "opening node", node->name);
    TRACE(node_open, node->name, TRACE_CONSTANT(driver->name));
    opening_begin(&opening, node);
    node_set_busy(node, true);
    struct error *err = driver->open(node, options, context);
    node_set_busy(node, false);
    while (err && !list_empty(&node->children))
        child_close(list_entry(node->children.next, struct child, in_parent));
    opening_end(&opening);
    co_note_end(&note);
    return err;
}

/* @options are what counts, @given what was said, without what is inherited. */
static struct error *open_below(const struct blockdev_options *options, const struct blockdev_options *given,
                                const struct open_context *up, unsigned how, struct node **out)
{
    bool from_image = how & OPEN_FROM_IMAGE;
    const char *driver_name = blockdev_driver_name(options->driver);
    const struct driver *driver = driver_find(driver_name);
    if (!driver)
        return error_new("driver: '%s' is not built in", driver_name);
    if (!opening_is_wanted())
        return error_errno(ECANCELED, "driver '%s'", driver_name);
    if (up && up->depth >= GRAPH_DEPTH_MAX)
        return error_new("the graph would be more than %d nodes deep", GRAPH_DEPTH_MAX);
    if (up && options->if_absent)
        return error_new("if-absent: is for nodes that blockdev-add names");
    struct error *err = check_description(driver, options, from_image);
    if (err)
        return err;

    CLEANUP(free) char *made = options->node_name ? NULL : node_make_name();
    struct node *node = node_create(made ? made : options->node_name, driver);
    node->set = settings_of(options);

    const struct open_context context = {
        .up = up,
        .node = node,
        .options = options,
        .depth = up ? up->depth + 1 : 0,
        .from_image = from_image,
        .for_check = how & OPEN_FOR_CHECK,
    };
    err = open_with(driver, node, options, &context);
    if (err) {
        err = error_wrap(err, "node '%s' (driver '%s')", node->name, driver->name);
        TRACE(node_open_failed, node->name);
        node_free(node);
        return err;
    }
    node_remember_options(node, given);
    node_published(node);
    TRACE(node_opened, node->name, node_length(node));
    *out = node;
    return NULL;
}

struct error *node_open(const struct blockdev_options *options, struct node **out)
{
    return open_below(options, options, NULL, 0, out);
}

struct error *node_open_for_check(const struct blockdev_options *options, struct node **out)
{
    return open_below(options, options, NULL, OPEN_FOR_CHECK, out);
}

struct error *node_open_ref(const struct blockdev_ref *ref, struct node **out)
{
    if (ref->kind == BLOCKDEV_REF_KIND_DEFINITION)
        return node_open(ref->u.definition, out);
    struct node *node = node_find(ref->u.reference);
    if (!node)
        return node_not_found(ref->u.reference);
    *out = node_ref(node);
    return NULL;
}

struct error *child_attach(struct node *parent, const char *name, unsigned role, struct node *node, struct child **out)
{
    /* It may have been deleted while who holds it waited for something: see change.c. */
    if (node->phase == NODE_CLOSING)
        return error_new("%s: node '%s' is being closed", name, node->name);
    if (node->set.inactive && !parent->set.inactive)
        return error_new("Inactive '%s' can't be a %s child of active '%s'", node->name, name, parent->name);
    if (!height_raise(parent, node->height))
        return error_new("%s: the graph would be more than %d nodes deep", name, GRAPH_DEPTH_MAX);

    struct child *edge = xcalloc(1, sizeof(*edge));
    edge->name = xstrdup(name);
    edge->role = role;
    edge->parent = parent;
    edge_attach(edge, node);
    edge_assign_role(parent, edge);

    unsigned perm;
    unsigned shared;
    edge_wanted(parent, edge, &perm, &shared);
    struct error *err = edge_claim(edge, perm, shared);
    if (err) {
        child_close(edge);
        return err;
    }
    if (!parent->identified && node->identified && !(role & CHILD_BACKING))
        node_set_identity(parent, node->device, node->inode);
    *out = edge;
    return NULL;
}

static struct error *attach(struct node *parent, const char *name, unsigned role, struct node *node,
                            const struct open_context *context, struct child **out) CO_FN;

static struct error *attach(struct node *parent, const char *name, unsigned role, struct node *node,
                            const struct open_context *context, struct child **out)
{
    if (node->set.read_only && !(role & CHILD_BACKING) && open_auto_read_only(context))
        parent->set.read_only = true;
    return child_attach(parent, name, role, node, out);
}

/* While a node waits for its child to open it sends no requests, so a drain of what it stands on need not wait for it:
 * the child may be dead. It goes on when that is drained no more. */
static bool leave_off(struct node *parent)
{
    bool busy = parent->busy;
    node_set_busy(parent, false);
    return busy;
}

static void go_on(struct node *parent, bool busy) CO_FN;

static void go_on(struct node *parent, bool busy)
{
    if (busy)
        node_busy_again(parent);
}

static struct error *open_by_name(struct node *parent, const char *name, unsigned role, const char *node_name,
                                  const struct open_context *context, struct child **out)
{
    struct node *node = node_find(node_name);
    if (!node)
        return error_wrap(node_not_found(node_name), "%s", name);
    return attach(parent, name, role, node, context, out);
}

static struct error *open_by_options(struct node *parent, const char *name, unsigned role,
                                     const struct blockdev_options *options, const struct open_context *context,
                                     bool from_image, struct child **out)
{
    struct inherited inherited = { 0 };
    options_inherit(&inherited, options, context->options, context->node->set.read_only, role);
    bool for_reading = context->node->set.read_only || (role & CHILD_BACKING);
    if (from_image && for_reading)
        inherited.options.read_only = true;
    struct node *node;
    struct error *err = open_below(&inherited.options, options, context, from_image ? OPEN_FROM_IMAGE : 0, &node);
    if (!err && !opening_is_wanted()) {
        /* It was done all the same; the requests that the parent would send now are abandoned by nobody. */
        err = error_errno(ECANCELED, "node '%s'", node->name);
        node_unref(node);
    } else if (!err) {
        node->made_with = parent->serial;
        node->made_as = role;
        err = attach(parent, name, role, node, context, out);
        node_unref(node);
    }
    return error_wrap(err, "%s", name);
}

struct error *child_open(struct node *parent, const char *name, unsigned role, const struct blockdev_ref *ref,
                         const struct open_context *context, struct child **out)
{
    if (!ref)
        return error_new("%s: a node or its description is needed", name);
    if (ref->kind == BLOCKDEV_REF_KIND_DEFINITION)
        return child_open_options(parent, name, role, ref->u.definition, context, out);
    if (context->from_image)
        return error_new("%s: an image names node '%s', and images cannot name nodes", name, ref->u.reference);
    bool busy = leave_off(parent);
    struct error *err = open_by_name(parent, name, role, ref->u.reference, context, out);
    go_on(parent, busy);
    return err;
}

static struct error *open_described(struct node *parent, const char *name, unsigned role,
                                    const struct blockdev_options *options, const struct open_context *context,
                                    bool from_image, struct child **out) CO_FN;

static struct error *open_described(struct node *parent, const char *name, unsigned role,
                                    const struct blockdev_options *options, const struct open_context *context,
                                    bool from_image, struct child **out)
{
    bool busy = leave_off(parent);
    struct error *err = open_by_options(parent, name, role, options, context, from_image, out);
    go_on(parent, busy);
    return err;
}

struct error *child_open_options(struct node *parent, const char *name, unsigned role,
                                 const struct blockdev_options *options, const struct open_context *context,
                                 struct child **out)
{
    return open_described(parent, name, role, options, context, context->from_image, out);
}

struct error *child_open_from_image(struct node *parent, const char *name, unsigned role,
                                    const struct blockdev_options *options, const struct open_context *context,
                                    struct child **out)
{
    return open_described(parent, name, role, options, context, true, out);
}

void child_set_role(struct child *child, unsigned role)
{
    child->role = role;
}

void child_close(struct child *child)
{
    edge_release(child);
    edge_fini(child);
    free(child);
}

struct error *open_check_loop(const struct open_context *context, dev_t device, ino_t inode, const char *filename)
{
    for (const struct open_context *up = context->up; up; up = up->up) {
        if (up->node->identified && up->node->device == device && up->node->inode == inode)
            return error_new("'%s' is the file that node '%s' above it stands on already: the chain is a loop",
                             filename, up->node->name);
    }
    return NULL;
}

const struct path_list *open_directories(const struct open_context *context)
{
    return context->from_image ? image_policy_directories() : NULL;
}

bool open_read_only(const struct open_context *context)
{
    return context->node->set.read_only;
}

bool open_for_check(const struct open_context *context)
{
    return context->for_check;
}

bool open_auto_read_only(const struct open_context *context)
{
    return context->options->has_auto_read_only && context->options->auto_read_only;
}

/* Nobody finds it any more. The name stays reserved until it is closed: the file is still locked and written. */
static void node_retire(struct node *node)
{
    node->phase = NODE_CLOSING;
    list_remove(&node->in_graph);
}

/* Nobody waits for this flush, so nobody would hear of it otherwise. */
static void tell_flush_failed(const struct node *node, int ret)
{
    char buffer[128];
    CLEANUP(free)
    char *message = xasprintf("the last flush failed, data that was written may be lost: %s",
                              strerror_r(-ret, buffer, sizeof(buffer)));
    notice_give(&(struct notice){
        .kind = NOTICE_FLUSH_FAILED,
        .node_name = node_name(node),
        .message = message,
        .fatal = true,
    });
}

/* The last requests of a node, which nobody else waits for. They are given some time, and then abandoned: storage that
 * does not answer must not keep a node that nobody uses. */
struct last_requests {
    struct node *node;
    uint64_t owner;  /* theirs */
    uint64_t caller; /* owner of what the coroutine does otherwise */
    struct timer *patience;
    struct haste haste;
};

static void lose_patience(void *arg)
{
    struct last_requests *last = arg;
    haste_begin_for(&last->haste, last->owner);
    haste_from(&last->haste, last->node);
}

static void last_requests_begin(struct last_requests *last, struct node *node)
{
    *last = (struct last_requests){ .node = node, .owner = ++graph.owners_made, .caller = co_owner() };
    haste_begin(&last->haste);
    co_set_owner(last->owner);
    last->patience = timer_create_on_loop(lose_patience, last);
    timer_start(last->patience, LAST_REQUESTS_MS);
}

static void last_requests_end(struct last_requests *last)
{
    timer_destroy(last->patience);
    haste_end(&last->haste);
    co_set_owner(last->caller);
}

/* Closes a node that nobody holds any more. */
static void node_close(struct node *node)
{
    struct last_requests last;
    struct co_note note;
    bool may_leave = co_set_may_leave(false); /* what it has still to do must be done */
    co_note_begin(&note, "closing node", node->name);
    TRACE(node_close, node->name);
    node_retire(node);
    node_set_busy(node, true);
    last_requests_begin(&last, node);
    /* What a job made has nothing of its own; what is below stays, or is flushed when it goes. */
    int ret = node->set.read_only || node->owner ? 0 : node_flush(node);
    if (ret < 0 && node->written)
        tell_flush_failed(node, ret);
    /* Where nothing stands below, all requests have ended by now. */
    co_set_may_leave(may_leave && list_empty(&node->children));
    if (node->driver->close)
        node->driver->close(node);
    co_set_may_leave(may_leave);
    haste_forget(node);
    last_requests_end(&last);
    node_set_busy(node, false);
    while (!list_empty(&node->children))
        child_close(list_entry(node->children.next, struct child, in_parent));
    co_note_end(&note);
    TRACE(node_closed, node->name);
    node_free(node);
}

void node_unref(struct node *node)
{
    if (!node)
        return;
    assert(node->refs > 0);
    if (--node->refs == 0)
        node_close(node);
}

struct error *blockdev_add(const struct blockdev_options *options)
{
    if (!options->node_name)
        return error_new("'node-name' must be specified for the root node");
    struct node *node;
    struct error *err = node_open(options, &node);
    if (err)
        return err;
    if (co_cancelled()) {
        err = error_errno(ECANCELED, "node '%s'", node->name);
        bool before = co_set_may_leave(true);
        node_unref(node);
        co_set_may_leave(before);
        return err;
    }
    node->monitor_owned = true;
    return NULL;
}

struct error *blockdev_del(const char *node_name)
{
    struct node *node = node_find(node_name);
    if (!node)
        return node_not_found(node_name);
    if (!node->monitor_owned)
        return error_new("Node %s is not owned by the monitor", node_name);
    struct child *parent = node_parent_next(node, NULL);
    if (parent) {
        CLEANUP(free) char *user = child_user(parent);
        return error_new("Block device %s is in use by %s", node_name, user);
    }
    /* Another command may hold the node a little longer, or be in the middle of closing what stood on it. */
    struct co_event closed;
    struct co_note note;
    CLEANUP(free) char *name = xstrdup(node_name);
    co_event_init(&closed);
    co_note_begin(&note, "removing node", name);
    node->closed = &closed;
    node->monitor_owned = false;
    node_retire(node);
    node_unref(node);
    co_event_wait(&closed, "others to let go of a node");
    co_note_end(&note);
    return NULL;
}

/* The end of all nodes: those that nothing stands on are closed side by side, and what is below them when they are
 * gone. */
struct ending {
    unsigned running;
    struct co_queue gone; /* one of those that run has ended */
};

struct closing {
    struct list link;
    struct ending *ending;
    struct node *node;
};

static void close_top(void *arg)
{
    struct closing *closing = arg;
    node_unref(closing->node);
    closing->ending->running--;
    co_queue_wake_all(&closing->ending->gone);
    free(closing);
}

/* The monitor's references of nodes that nothing stands on. All at once, since one walk over all nodes is dear. */
static void take_tops(struct ending *ending, struct list *tops)
{
    list_init(tops);
    struct node *node = NULL;
    while ((node = node_next(node))) {
        if (!node->monitor_owned || node_parent_next(node, NULL))
            continue;
        node->monitor_owned = false;
        struct closing *closing = xmalloc(sizeof(*closing));
        *closing = (struct closing){ .ending = ending, .node = node };
        list_append(tops, &closing->link);
    }
}

/* False when there are none. */
static bool close_tops(struct ending *ending)
{
    struct list tops;
    take_tops(ending, &tops);
    bool any = !list_empty(&tops);
    struct list *link;
    while ((link = list_take_first(&tops))) {
        ending->running++;
        co_start("closing a node", close_top, list_entry(link, struct closing, link));
    }
    return any;
}

/* One whose storage hangs keeps back only those that it stands on. */
void blockdev_del_all(void)
{
    struct ending ending = { 0 };
    co_queue_init(&ending.gone);
    for (;;) {
        /* What was closed at once has uncovered others. */
        while (close_tops(&ending))
            ;
        if (ending.running == 0)
            break;
        co_queue_wait(&ending.gone, NULL, "nodes to close");
    }
    co_queue_fini(&ending.gone);
}
