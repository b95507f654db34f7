/* quorum - several nodes that should hold the same, and vote
 *
 *     write:  to all children; done when @threshold of them have done it
 *     read:   from all children; what at least @threshold of them say is what it is (or, read-pattern=fifo, from the
 *             first child that can be read)
 *     flush:  as a write
 *
 * Order. Two writes that overlap must reach all children in the same order, or the children would differ for ever: so
 * writes to the same bytes wait for each other, while others never do. A read takes no part in that, as long as the
 * children agree. When they do not, a write may simply have been on its way; so the read is done again with writes to
 * its bytes held back, and only what differs then is believed to be bad, reported, and (rewrite-corrupted) written
 * anew, before a later write can come in between. */
#include "blockcore/base/memory.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/drivers/quorum/quorum_private.h"
#include "blockcore/graph/child.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/request.h"
#include "schema/cairn_types.h"

#define CHILDREN_MAX 64
#define TRANSFER_MAX (2u * 1024 * 1024) /* each child's data is read into memory of its own */

/* Children that come and go ------------------------------------------------------------------------------------ */

static struct error *check_length(const struct quorum *quorum, const struct node *node)
{
    const struct node *first = child_node(quorum->children[0]);
    if (node_length(node) == node_length(first))
        return NULL;
    return error_new("node '%s' is %llu bytes long, but node '%s' is %llu", node_name(node),
                     (unsigned long long)node_length(node), node_name(first), (unsigned long long)node_length(first));
}

static struct error *check_one_more(const struct quorum *quorum, const struct node *node)
{
    if (quorum->rules.blkverify)
        return error_new("Cannot add a child to a quorum in blkverify mode");
    if (quorum->children_count == CHILDREN_MAX)
        return error_new("Too many children: %d are allowed", CHILDREN_MAX);
    return check_length(quorum, node);
}

static struct error *quorum_add_child(struct node *node, struct node *added)
{
    struct quorum *quorum = node_state(node);
    struct error *err = check_one_more(quorum, added);
    if (err)
        return err;
    CLEANUP(free) char *name = xasprintf("children.%u", quorum->next_index++);
    struct child *child;
    err = child_claim(node, name, CHILD_DATA, added, &child);
    if (err)
        return err;
    struct drain *drain = drain_begin(node);
    err = check_one_more(quorum, added); /* others may have been here meanwhile */
    if (!err) {
        quorum->children = xrealloc_array(quorum->children, quorum->children_count + 1, sizeof(struct child *));
        quorum->children[quorum->children_count++] = child;
        child_begin(child);
    }
    drain_end(drain);
    if (err)
        child_close(child);
    return err;
}

static void forget_child(struct quorum *quorum, const struct child *child)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < quorum->children_count; i++) {
        if (quorum->children[i] != child)
            quorum->children[kept++] = quorum->children[i];
    }
    quorum->children_count = kept;
}

static struct error *quorum_remove_child(struct node *node, const char *name)
{
    struct quorum *quorum = node_state(node);
    struct drain *drain = drain_begin(node);
    struct child *child = node_child(node, name);
    struct error *err = NULL;
    if (!child)
        err = error_new("Node '%s' does not have child '%s'", node_name(node), name);
    else if (quorum->children_count <= quorum->rules.threshold)
        err = error_new("The number of children cannot be lower than the vote threshold %u", quorum->rules.threshold);
    if (!err) {
        forget_child(quorum, child);
        child_end(child);
    }
    drain_end(drain);
    if (!err)
        child_close(child);
    return err;
}

/* Opening ------------------------------------------------------------------------------------------------------ */

static struct error *check_options(const struct blockdev_options_quorum *own)
{
    if (own->children_count < 1 || own->children_count > CHILDREN_MAX)
        return error_new("children: %zu children, between 1 and %d are allowed", own->children_count, CHILDREN_MAX);
    if (own->vote_threshold < 1)
        return error_new("vote-threshold: %lld is not at least 1", (long long)own->vote_threshold);
    if ((uint64_t)own->vote_threshold > own->children_count)
        return error_new("vote-threshold: %lld may not exceed the number of children, %zu",
                         (long long)own->vote_threshold, own->children_count);
    if (own->read_pattern == QUORUM_READ_PATTERN_FIFO)
        return NULL;
    if (own->blkverify && (own->children_count != 2 || own->vote_threshold != 2))
        return error_new("blkverify: true needs exactly two children and a vote-threshold of 2");
    if (own->blkverify && own->rewrite_corrupted)
        return error_new("rewrite-corrupted: true cannot be used with blkverify");
    return NULL;
}

static struct quorum_rules rules_of(const struct blockdev_options_quorum *own)
{
    bool fifo = own->read_pattern == QUORUM_READ_PATTERN_FIFO;
    return (struct quorum_rules){
        .threshold = (unsigned)own->vote_threshold,
        .fifo = fifo,
        .blkverify = own->blkverify && !fifo,
        .rewrite = own->rewrite_corrupted && !fifo,
    };
}

static struct error *open_children(struct node *node, const struct blockdev_options_quorum *own,
                                   const struct open_context *context) CO_FN;

static struct error *open_children(struct node *node, const struct blockdev_options_quorum *own,
                                   const struct open_context *context)
{
    struct quorum *quorum = node_state(node);
    struct error *err = NULL;
    quorum->children = xcalloc(own->children_count, sizeof(struct child *));
    while (!err && quorum->children_count < own->children_count) {
        CLEANUP(free) char *name = xasprintf("children.%u", quorum->children_count);
        const struct blockdev_ref *ref = &own->children[quorum->children_count];
        struct child *child;
        err = child_open(node, name, CHILD_DATA, ref, context, &child);
        if (err)
            break;
        quorum->children[quorum->children_count++] = child;
        err = error_wrap(check_length(quorum, child_node(child)), "%s", name);
    }
    quorum->next_index = quorum->children_count;
    return err;
}

static struct error *quorum_open(struct node *node, const struct blockdev_options *options,
                                 const struct open_context *context)
{
    const struct blockdev_options_quorum *own = &options->u.quorum;
    struct quorum *quorum = node_state(node);
    struct error *err = check_options(own);
    if (err)
        return err;
    quorum->rules = rules_of(own);
    tracker_init(&quorum->tracker);
    err = open_children(node, own, context);
    if (err) {
        free(quorum->children);
        return err;
    }
    node_limits_mutable(node)->max_transfer = TRANSFER_MAX;
    node_set_length(node, child_length(quorum->children[0]));
    node_set_filename(node, "quorum");
    return NULL;
}

static void quorum_close(struct node *node)
{
    struct quorum *quorum = node_state(node);
    free(quorum->children);
}

/* Reopening ---------------------------------------------------------------------------------------------------- */

static struct error *reopen_children(const struct quorum *quorum, const struct blockdev_options_quorum *own,
                                     struct reopen *reopen) CO_FN;

/* x-blockdev-change waits meanwhile, see graph/child.c: they stay as many. */
static struct error *reopen_children(const struct quorum *quorum, const struct blockdev_options_quorum *own,
                                     struct reopen *reopen)
{
    struct error *err = NULL;
    if (own->children_count != quorum->children_count)
        return error_new("children: %zu are given, but there are %u; x-blockdev-change adds and removes them",
                         own->children_count, quorum->children_count);
    for (unsigned i = 0; i < quorum->children_count && !err; i++)
        err = reopen_child(reopen, child_name(quorum->children[i]), &own->children[i]);
    return err;
}

static struct error *quorum_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                           struct reopen *reopen)
{
    const struct blockdev_options_quorum *own = &options->u.quorum;
    struct error *err = check_options(own);
    if (err)
        return err;
    struct quorum_rules *next = xmalloc(sizeof(*next));
    *next = rules_of(own);
    reopen_set_state(reopen, next);
    return reopen_children(node_state(node), own, reopen);
}

static struct error *quorum_reopen_enter(struct node *node, struct reopen *reopen)
{
    const struct quorum *quorum = node_state(node);
    struct error *err = NULL;
    (void)reopen;
    for (unsigned i = 0; i < quorum->children_count && !err; i++)
        err = error_wrap(check_length(quorum, child_node(quorum->children[i])), "children[%u]", i);
    return err;
}

static void quorum_reopen_commit(struct node *node, struct reopen *reopen)
{
    struct quorum *quorum = node_state(node);
    const struct quorum_rules *next = reopen_state(reopen);
    quorum->rules = *next;
}

static void quorum_reopen_end(struct node *node, struct reopen *reopen)
{
    (void)node;
    free(reopen_state(reopen));
}

static const char *const quorum_reopenable[] = { "children",     "vote-threshold", "rewrite-corrupted",
                                                 "read-pattern", "blkverify",      NULL };

/* Nobody else may write or resize one of the children, or they would differ. */
static void quorum_child_permissions(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                                     unsigned *child_perm, unsigned *child_shared)
{
    const struct quorum *quorum = node_state((struct node *)(uintptr_t)node);
    const struct quorum_rules *next = node_next_state(node, child);
    *child_perm = perm;
    if ((next ? next->rewrite : quorum->rules.rewrite) && !node_is_read_only_for(node, child))
        *child_perm |= PERM_WRITE;
    *child_shared = shared & (PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED);
}

const struct driver quorum_driver = {
    .name = "quorum",
    .kind = DRIVER_FORMAT,
    .state_size = sizeof(struct quorum),
    .flushes_children = true,
    .open = quorum_open,
    .close = quorum_close,
    .reopen_prepare = quorum_reopen_prepare,
    .reopen_enter = quorum_reopen_enter,
    .reopen_commit = quorum_reopen_commit,
    .reopen_abort = quorum_reopen_end,
    .reopen_end = quorum_reopen_end,
    .reopenable = quorum_reopenable,
    .preadv = quorum_preadv,
    .pwritev = quorum_pwritev,
    .pwrite_zeroes = quorum_pwrite_zeroes,
    .flush = quorum_flush,
    .truncate = quorum_truncate,
    .block_status = quorum_block_status,
    .child_permissions = quorum_child_permissions,
    .add_child = quorum_add_child,
    .remove_child = quorum_remove_child,
};
