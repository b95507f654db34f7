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
#include "blockcore/graph/child.h"
#include "blockcore/graph/notice.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/tracking.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <string.h>

#define CHILDREN_MAX 64
#define TRANSFER_MAX (2u * 1024 * 1024) /* each child's data is read into memory of its own */

struct quorum {
    struct child **children; /* these three change while the node is drained */
    unsigned children_count;
    unsigned next_index; /* of the name of the next one */
    unsigned threshold;
    bool blkverify;
    bool rewrite;
    bool fifo;
    struct tracker tracker;
};

/* One request, put to all children. */
struct ballot {
    struct node *node;
    struct quorum *quorum;
    enum notice_request request;
    struct range range;
    const struct iov *iov; /* of a write; NULL: zeroes */
    unsigned flags;
    unsigned successes;
    struct vote *votes; /* one per child */
};

struct vote {
    struct ballot *ballot;
    struct child *child;
    char *data; /* that was read */
    int ret;
    unsigned alike; /* the first vote with the same data */
    unsigned supporters;
};

static int vote_read(struct vote *vote) CO_FN;
static int vote_write(struct vote *vote) CO_FN;
static int vote_flush(struct vote *vote) CO_FN;

static int vote_read(struct vote *vote)
{
    struct range range = vote->ballot->range;
    return child_pread(vote->child, range.offset, vote->data, range.bytes);
}

static int vote_write(struct vote *vote)
{
    struct ballot *ballot = vote->ballot;
    return ballot->iov ? child_pwritev(vote->child, ballot->range, ballot->iov, ballot->flags)
                       : child_pwrite_zeroes(vote->child, ballot->range, ballot->flags);
}

static int vote_flush(struct vote *vote)
{
    return child_flush(vote->child);
}

static void vote_entry(void *arg)
{
    struct vote *vote = arg;
    switch (vote->ballot->request) {
    case NOTICE_READ:
        vote->ret = vote_read(vote);
        break;
    case NOTICE_WRITE:
        vote->ret = vote_write(vote);
        break;
    case NOTICE_FLUSH:
        vote->ret = vote_flush(vote);
        break;
    }
}

/* Asks all children at once and waits for all answers: the request's memory is theirs until then. */
static void ballot_hold(struct ballot *ballot) CO_FN;

static void ballot_hold(struct ballot *ballot)
{
    unsigned count = ballot->quorum->children_count;
    struct co_group group;
    co_group_init(&group);
    for (unsigned i = 0; i < count; i++)
        co_group_start(&group, "quorum", vote_entry, &ballot->votes[i]);
    co_group_join(&group);
    ballot->successes = 0;
    for (unsigned i = 0; i < count; i++)
        ballot->successes += ballot->votes[i].ret == 0;
}

static void ballot_init(struct ballot *ballot, struct node *node, enum notice_request request, struct range range)
{
    struct quorum *quorum = node_state(node);
    *ballot = (struct ballot){ .node = node, .quorum = quorum, .request = request, .range = range };
    ballot->votes = xcalloc(quorum->children_count, sizeof(struct vote));
    for (unsigned i = 0; i < quorum->children_count; i++)
        ballot->votes[i] = (struct vote){ .ballot = ballot, .child = quorum->children[i] };
}

/* Telling ------------------------------------------------------------------------------------------------------ */

static const char *const request_names[] = {
    [NOTICE_READ] = "read",
    [NOTICE_WRITE] = "write",
    [NOTICE_FLUSH] = "flush",
};

/* @ret 0: other data. */
static void report_bad(const struct ballot *ballot, const struct vote *vote, enum notice_request request, int ret)
{
    char text[128];
    CLEANUP(free)
    char *message =
        xasprintf("bad in quorum '%s': %s of %llu bytes at %llu: %s", node_name(ballot->node), request_names[request],
                  (unsigned long long)ballot->range.bytes, (unsigned long long)ballot->range.offset,
                  ret < 0 ? strerror_r(-ret, text, sizeof(text)) : "outvoted");
    notice_give(&(struct notice){
        .kind = NOTICE_QUORUM_BAD,
        .node_name = node_name(child_node(vote->child)),
        .message = message,
        .request = request,
        .place = ballot->range,
        .errnum = -ret,
    });
}

static void report_errors(const struct ballot *ballot)
{
    for (unsigned i = 0; i < ballot->quorum->children_count; i++) {
        if (ballot->votes[i].ret < 0)
            report_bad(ballot, &ballot->votes[i], ballot->request, ballot->votes[i].ret);
    }
}

static void report_failure(const struct ballot *ballot)
{
    CLEANUP(free)
    char *message = xasprintf("no quorum: fewer than %u children agree about the %s of %llu bytes at %llu",
                              ballot->quorum->threshold, request_names[ballot->request],
                              (unsigned long long)ballot->range.bytes, (unsigned long long)ballot->range.offset);
    notice_give(&(struct notice){
        .kind = NOTICE_QUORUM_FAILURE,
        .node_name = node_name(ballot->node),
        .message = message,
        .request = ballot->request,
        .place = ballot->range,
    });
}

/* Counting ----------------------------------------------------------------------------------------------------- */

/* The error that most children have. */
static int error_of(const struct ballot *ballot)
{
    unsigned most = 0;
    int error = -EIO;
    for (unsigned i = 0; i < ballot->quorum->children_count; i++) {
        unsigned alike = 0;
        int ret = ballot->votes[i].ret;
        for (unsigned j = 0; j < ballot->quorum->children_count; j++)
            alike += ballot->votes[j].ret == ret;
        if (ret < 0 && alike > most) {
            most = alike;
            error = ret;
        }
    }
    return error;
}

/* 0 when enough children have done it. */
static int ballot_result(const struct ballot *ballot)
{
    report_errors(ballot);
    if (ballot->successes >= ballot->quorum->threshold)
        return 0;
    if (ballot->request != NOTICE_FLUSH)
        report_failure(ballot);
    return error_of(ballot);
}

/* The first vote that says the same as vote @i. */
static unsigned first_alike(const struct ballot *ballot, unsigned i)
{
    for (unsigned j = 0; j < i; j++) {
        const struct vote *other = &ballot->votes[j];
        if (other->ret == 0 && other->alike == j &&
            memcmp(other->data, ballot->votes[i].data, ballot->range.bytes) == 0)
            return j;
    }
    return i;
}

static struct vote *find_winner(struct ballot *ballot)
{
    struct vote *winner = NULL;
    for (unsigned i = 0; i < ballot->quorum->children_count; i++) {
        struct vote *vote = &ballot->votes[i];
        if (vote->supporters > 0 && (!winner || vote->supporters > winner->supporters))
            winner = vote;
    }
    return winner;
}

/* Gives each vote to the first one that says the same. Do all of them? */
static bool count_votes(struct ballot *ballot)
{
    for (unsigned i = 0; i < ballot->quorum->children_count; i++) {
        struct vote *vote = &ballot->votes[i];
        vote->supporters = 0;
        vote->alike = vote->ret == 0 ? first_alike(ballot, i) : i;
        if (vote->ret == 0)
            ballot->votes[vote->alike].supporters++;
    }
    const struct vote *winner = find_winner(ballot);
    return !winner || winner->supporters == ballot->successes;
}

/* Reading ------------------------------------------------------------------------------------------------------ */

static void tell_difference(const struct ballot *ballot)
{
    uint64_t at = 0;
    while (at < ballot->range.bytes && ballot->votes[0].data[at] == ballot->votes[1].data[at])
        at++;
    CLEANUP(free)
    char *message =
        xasprintf("nodes '%s' and '%s' differ at offset %llu", node_name(child_node(ballot->votes[0].child)),
                  node_name(child_node(ballot->votes[1].child)), (unsigned long long)(ballot->range.offset + at));
    notice_give(&(struct notice){
        .kind = NOTICE_MISMATCH,
        .node_name = node_name(ballot->node),
        .message = message,
        .place = range_make(ballot->range.offset + at, 1),
    });
}

/* What was outvoted. Writes to the range are held back meanwhile. */
static void treat_losers(struct ballot *ballot, const struct vote *winner) CO_FN;

static void treat_losers(struct ballot *ballot, const struct vote *winner)
{
    struct quorum *quorum = ballot->quorum;
    for (unsigned i = 0; i < quorum->children_count; i++) {
        struct vote *vote = &ballot->votes[i];
        if (vote->ret < 0 || &ballot->votes[vote->alike] == winner)
            continue;
        report_bad(ballot, vote, NOTICE_READ, 0);
        if (!quorum->rewrite || node_is_read_only(ballot->node))
            continue;
        int ret = child_pwrite(vote->child, ballot->range.offset, winner->data, ballot->range.bytes, 0);
        if (ret < 0)
            report_bad(ballot, vote, NOTICE_WRITE, ret);
    }
}

static int elect(struct ballot *ballot, struct vote **winner) CO_FN;

static int elect(struct ballot *ballot, struct vote **winner)
{
    int ret = ballot_result(ballot);
    if (ret < 0)
        return ret;
    *winner = find_winner(ballot);
    if ((*winner)->supporters == ballot->successes)
        return 0;
    if (ballot->quorum->blkverify)
        tell_difference(ballot);
    if ((*winner)->supporters < ballot->quorum->threshold) {
        report_failure(ballot);
        return -EIO;
    }
    treat_losers(ballot, *winner);
    return 0;
}

/* The children differ, or seem to: once more without a write in between. */
static int read_alone(struct ballot *ballot, struct vote **winner) CO_FN;

static int read_alone(struct ballot *ballot, struct vote **winner)
{
    struct tracked tracked;
    tracked_begin(&ballot->quorum->tracker, &tracked, ballot->range, true);
    ballot_hold(ballot);
    count_votes(ballot);
    int ret = elect(ballot, winner);
    tracked_end(&ballot->quorum->tracker, &tracked);
    return ret;
}

static bool get_buffers(struct ballot *ballot)
{
    bool all = true;
    for (unsigned i = 0; i < ballot->quorum->children_count; i++) {
        ballot->votes[i].data = buffer_get(ballot->range.bytes);
        all = all && ballot->votes[i].data;
    }
    return all;
}

static void put_buffers(struct ballot *ballot)
{
    for (unsigned i = 0; i < ballot->quorum->children_count; i++)
        buffer_put(ballot->votes[i].data, ballot->range.bytes);
}

static int read_quorum(struct node *node, struct range range, const struct iov *iov) CO_FN;

static int read_quorum(struct node *node, struct range range, const struct iov *iov)
{
    struct ballot ballot;
    ballot_init(&ballot, node, NOTICE_READ, range);
    int ret = -ENOMEM;
    if (get_buffers(&ballot)) {
        struct vote *winner = NULL;
        ballot_hold(&ballot);
        ret = count_votes(&ballot) ? elect(&ballot, &winner) : read_alone(&ballot, &winner);
        if (ret == 0)
            iov_copy_from(iov, winner->data);
    }
    put_buffers(&ballot);
    free(ballot.votes);
    return ret;
}

static int read_first(struct node *node, struct range range, const struct iov *iov) CO_FN;

static int read_first(struct node *node, struct range range, const struct iov *iov)
{
    struct quorum *quorum = node_state(node);
    struct ballot ballot = { .node = node, .quorum = quorum, .request = NOTICE_READ, .range = range };
    int ret = -EIO;
    for (unsigned i = 0; i < quorum->children_count; i++) {
        struct vote vote = { .ballot = &ballot, .child = quorum->children[i] };
        ret = child_preadv(vote.child, range, iov, 0);
        if (ret == 0)
            break;
        report_bad(&ballot, &vote, NOTICE_READ, ret);
    }
    return ret;
}

static int quorum_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    const struct quorum *quorum = node_state(node);
    (void)flags;
    return quorum->fifo ? read_first(node, range, iov) : read_quorum(node, range, iov);
}

/* Writing ------------------------------------------------------------------------------------------------------ */

static int write_all(struct node *node, struct range range, const struct iov *iov, unsigned flags) CO_FN;

static int write_all(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct ballot ballot;
    struct tracked tracked;
    ballot_init(&ballot, node, NOTICE_WRITE, range);
    ballot.iov = iov;
    ballot.flags = flags;
    tracked_begin(&ballot.quorum->tracker, &tracked, range, true);
    ballot_hold(&ballot);
    tracked_end(&ballot.quorum->tracker, &tracked);
    int ret = ballot_result(&ballot);
    if (ret == 0)
        node_grow_length(node, range_end(range));
    free(ballot.votes);
    return ret;
}

static int quorum_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    return write_all(node, range, iov, flags);
}

/* Where one child can do it quickly and another cannot, they would differ afterwards: so nobody is asked. */
static int quorum_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    return flags & REQ_NO_FALLBACK ? -ENOTSUP : write_all(node, range, NULL, flags);
}

static int quorum_flush(struct node *node)
{
    struct ballot ballot;
    ballot_init(&ballot, node, NOTICE_FLUSH, range_make(0, 0));
    ballot_hold(&ballot);
    int ret = ballot_result(&ballot);
    free(ballot.votes);
    return ret;
}

/* A child that could not follow reads as zero behind its end, and is outvoted there. */
static int quorum_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode)
{
    struct quorum *quorum = node_state(node);
    unsigned successes = 0;
    int error = -EIO;
    for (unsigned i = 0; i < quorum->children_count; i++) {
        int ret = child_truncate(quorum->children[i], bytes, mode);
        successes += ret == 0;
        error = ret < 0 ? ret : error;
    }
    if (successes < quorum->threshold)
        return error;
    node_set_length(node, bytes);
    return 0;
}

/* Block status ------------------------------------------------------------------------------------------------- */

/* What one child says of a range, while the lists of all are walked side by side. */
struct opinion {
    struct extents extents;
    size_t at;
};

static int ask_child(struct ballot *ballot, struct child *child, unsigned ask, struct opinion *opinion) CO_FN;

static int ask_child(struct ballot *ballot, struct child *child, unsigned ask, struct opinion *opinion)
{
    int ret = child_block_status(child, ballot->range, ask, &opinion->extents);
    if (ret < 0) {
        struct extent unknown = { .offset = ballot->range.offset, .bytes = ballot->range.bytes, .flags = EXTENT_DATA };
        struct vote vote = { .child = child };
        report_bad(ballot, &vote, NOTICE_READ, ret);
        extents_append(&opinion->extents, &unknown);
    }
    return 0;
}

/* From @offset on: the part that all tell in one extent. Empty when one of them has no more to say. */
static struct extent agreed(struct opinion *opinions, unsigned count, uint64_t offset)
{
    struct extent result = { .offset = offset, .flags = EXTENT_ALLOCATED | EXTENT_ZERO };
    uint64_t end = UINT64_MAX;
    for (unsigned i = 0; i < count; i++) {
        struct opinion *opinion = &opinions[i];
        const struct extents *extents = &opinion->extents;
        while (opinion->at < extents->count &&
               extents->items[opinion->at].offset + extents->items[opinion->at].bytes <= offset)
            opinion->at++;
        if (opinion->at == extents->count)
            return result;
        const struct extent *extent = &extents->items[opinion->at];
        end = min_u64(end, extent->offset + extent->bytes);
        result.flags |= extent->flags & EXTENT_DATA;
        if (!(extent->flags & EXTENT_ZERO))
            result.flags = (result.flags & ~(uint32_t)EXTENT_ZERO) | EXTENT_DATA;
    }
    result.bytes = end - offset;
    return result;
}

/* Zero is what all children say is zero; data is what one of them has. A child that cannot tell makes it data. Where
 * it lies is not told: what is read is the outcome of a vote. */
static int quorum_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    struct quorum *quorum = node_state(node);
    struct ballot ballot = { .node = node, .quorum = quorum, .request = NOTICE_READ, .range = range };
    struct extent everything = { .offset = range.offset,
                                 .bytes = range.bytes,
                                 .flags = EXTENT_ALLOCATED | EXTENT_DATA };
    ask &= ASK_ZERO | ASK_MAP;
    if (!ask) {
        extents_append(extents, &everything);
        return 0;
    }
    struct opinion *opinions = xcalloc(quorum->children_count, sizeof(struct opinion));
    int ret = 0;
    for (unsigned i = 0; i < quorum->children_count && ret == 0; i++) {
        extents_init(&opinions[i].extents, extents->max);
        ret = ask_child(&ballot, quorum->children[i], ask | ASK_ZERO, &opinions[i]);
    }
    uint64_t at = range.offset;
    while (ret == 0 && at < range_end(range) && !extents_full(extents)) {
        struct extent next = agreed(opinions, quorum->children_count, at);
        if (next.bytes == 0)
            break;
        extents_append(extents, &next);
        at += next.bytes;
    }
    for (unsigned i = 0; i < quorum->children_count; i++)
        extents_fini(&opinions[i].extents);
    free(opinions);
    return ret;
}

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
    if (quorum->blkverify)
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
    else if (quorum->children_count <= quorum->threshold)
        err = error_new("The number of children cannot be lower than the vote threshold %u", quorum->threshold);
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
    quorum->threshold = (unsigned)own->vote_threshold;
    quorum->fifo = own->read_pattern == QUORUM_READ_PATTERN_FIFO;
    quorum->blkverify = own->blkverify && !quorum->fifo;
    quorum->rewrite = own->rewrite_corrupted && !quorum->fifo;
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

/* Nobody else may write or resize one of the children, or they would differ. */
static void quorum_child_permissions(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                                     unsigned *child_perm, unsigned *child_shared)
{
    const struct quorum *quorum = node_state((struct node *)(uintptr_t)node);
    *child_perm = perm;
    if (quorum->rewrite && !node_is_read_only_for(node, child))
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
