/* Requests to all children, and how they vote. */
#include "blockcore/io/request.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/quorum/quorum_private.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/coroutine.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

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

void quorum_report_bad(const struct node *node, const struct child *child, enum notice_request request,
                       struct range range, int ret)
{
    char text[128];
    CLEANUP(free)
    char *message = xasprintf("bad in quorum '%s': %s of %llu bytes at %llu: %s", node_name(node),
                              request_names[request], (unsigned long long)range.bytes, (unsigned long long)range.offset,
                              ret < 0 ? strerror_r(-ret, text, sizeof(text)) : "outvoted");
    notice_give(&(struct notice){
        .kind = NOTICE_QUORUM_BAD,
        .node_name = node_name(child_node(child)),
        .message = message,
        .request = request,
        .place = range,
        .errnum = -ret,
    });
}

static void report_bad(const struct ballot *ballot, const struct vote *vote, enum notice_request request, int ret)
{
    quorum_report_bad(ballot->node, vote->child, request, ballot->range, ret);
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
                              ballot->quorum->rules.threshold, request_names[ballot->request],
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
    if (ballot->successes >= ballot->quorum->rules.threshold)
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
        xasprintf("nodes '%s' and '%s' differ at offset %" PRIu64, node_name(child_node(ballot->votes[0].child)),
                  node_name(child_node(ballot->votes[1].child)), ballot->range.offset + at);
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
        if (!quorum->rules.rewrite || node_is_read_only(ballot->node))
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
    if (ballot->quorum->rules.blkverify)
        tell_difference(ballot);
    if ((*winner)->supporters < ballot->quorum->rules.threshold) {
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
    int ret = -EIO;
    for (unsigned i = 0; i < quorum->children_count; i++) {
        ret = child_preadv(quorum->children[i], range, iov, 0);
        if (ret == 0)
            break;
        quorum_report_bad(node, quorum->children[i], NOTICE_READ, range, ret);
    }
    return ret;
}

int quorum_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    const struct quorum *quorum = node_state(node);
    (void)flags;
    return quorum->rules.fifo ? read_first(node, range, iov) : read_quorum(node, range, iov);
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

int quorum_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    return write_all(node, range, iov, flags);
}

/* Where one child can do it quickly and another cannot, they would differ afterwards: so nobody is asked. */
int quorum_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    return flags & REQ_NO_FALLBACK ? -ENOTSUP : write_all(node, range, NULL, flags);
}

int quorum_flush(struct node *node)
{
    struct ballot ballot;
    ballot_init(&ballot, node, NOTICE_FLUSH, range_make(0, 0));
    ballot_hold(&ballot);
    int ret = ballot_result(&ballot);
    free(ballot.votes);
    return ret;
}

/* A child that could not follow reads as zero behind its end, and is outvoted there. */
int quorum_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode)
{
    struct quorum *quorum = node_state(node);
    unsigned successes = 0;
    int error = -EIO;
    for (unsigned i = 0; i < quorum->children_count; i++) {
        int ret = child_truncate(quorum->children[i], bytes, mode);
        successes += ret == 0;
        error = ret < 0 ? ret : error;
    }
    if (successes < quorum->rules.threshold)
        return error;
    node_set_length(node, bytes);
    return 0;
}
