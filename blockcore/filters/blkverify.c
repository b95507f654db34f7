/* blkverify - each request goes to two nodes, and what differs is an error
 *
 * "raw" is what is believed and shown; "test" is what is being examined. QEMU ends its process at the first difference;
 * a process that serves others cannot: the request fails with EIO, and the log names the place.
 *
 * Writes to the same bytes wait for each other, so that both nodes see them in one order. A read that finds a
 * difference may have met a write on its way: it is done again with writes to its bytes held back, and what differs
 * then, differs. */
#include "blockcore/base/memory.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/notice.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/tracking.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <string.h>

#define TRANSFER_MAX (2u * 1024 * 1024) /* what is read twice needs memory of its own */

struct blkverify {
    struct child *raw;
    struct child *test;
    struct tracker tracker;
};

enum kind {
    READ,
    WRITE,
    ZERO,
};

static const char *const kind_names[] = { [READ] = "read", [WRITE] = "write", [ZERO] = "write of zeroes" };

/* A request, done by both nodes. */
struct pair {
    struct node *node;
    enum kind kind;
    struct range range;
    const struct iov *iov; /* of a read: of raw */
    char *data;            /* of a read: of test */
    unsigned flags;
    int raw_ret;
    int test_ret;
    uint64_t difference; /* its offset; UINT64_MAX: none */
};

static int do_by(struct child *child, const struct pair *pair, const struct iov *iov) CO_FN;

static int do_by(struct child *child, const struct pair *pair, const struct iov *iov)
{
    switch (pair->kind) {
    case READ:
        return child_preadv(child, pair->range, iov, pair->flags);
    case WRITE:
        return child_pwritev(child, pair->range, iov, pair->flags);
    case ZERO:
        return child_pwrite_zeroes(child, pair->range, pair->flags);
    }
    return -ENOTSUP;
}

static void test_entry(void *arg)
{
    struct pair *pair = arg;
    const struct blkverify *verify = node_state(pair->node);
    struct iovec storage;
    struct iov data = iov_of(&storage, pair->data, pair->data ? pair->range.bytes : 0);
    pair->test_ret = do_by(verify->test, pair, pair->kind == READ ? &data : pair->iov);
}

static uint64_t find_difference(const struct pair *pair)
{
    for (size_t at = 0; at < pair->iov->bytes;) {
        size_t piece = (size_t)min_u64(pair->iov->bytes - at, 4096);
        char raw[4096];
        struct iov part = iov_slice(pair->iov, at, piece);
        iov_copy_to(&part, raw);
        if (memcmp(raw, pair->data + at, piece) != 0) {
            size_t byte = 0;
            while (raw[byte] == pair->data[at + byte])
                byte++;
            return pair->range.offset + at + byte;
        }
        at += piece;
    }
    return UINT64_MAX;
}

/* By both at once. Do they agree? */
static bool do_by_both(struct pair *pair) CO_FN;

static bool do_by_both(struct pair *pair)
{
    const struct blkverify *verify = node_state(pair->node);
    struct co_group group;
    co_group_init(&group);
    co_group_start(&group, "blkverify", test_entry, pair);
    pair->raw_ret = do_by(verify->raw, pair, pair->iov);
    co_group_join(&group);
    bool compare = pair->kind == READ && pair->raw_ret == 0 && pair->test_ret == 0;
    pair->difference = compare ? find_difference(pair) : UINT64_MAX;
    return pair->raw_ret == pair->test_ret && pair->difference == UINT64_MAX;
}

static const char *result_text(int ret, char *buffer, size_t bytes)
{
    return ret < 0 ? strerror_r(-ret, buffer, bytes) : "success";
}

/* What the two did not do alike. Returns what the request fails with. */
static int tell(const struct pair *pair)
{
    const struct blkverify *verify = node_state(pair->node);
    const char *raw = node_name(child_node(verify->raw));
    const char *test = node_name(child_node(verify->test));
    unsigned long long bytes = pair->range.bytes;
    unsigned long long offset = pair->range.offset;
    char raw_text[128];
    char test_text[128];
    CLEANUP(free) char *message;
    if (pair->difference != UINT64_MAX)
        message = xasprintf("nodes '%s' and '%s' differ at offset %llu (read of %llu bytes at %llu)", test, raw,
                            (unsigned long long)pair->difference, bytes, offset);
    else
        message = xasprintf("%s of %llu bytes at %llu: node '%s' says %s, node '%s' says %s", kind_names[pair->kind],
                            bytes, offset, test, result_text(pair->test_ret, test_text, sizeof(test_text)), raw,
                            result_text(pair->raw_ret, raw_text, sizeof(raw_text)));
    notice_give(&(struct notice){
        .kind = NOTICE_MISMATCH,
        .node_name = node_name(pair->node),
        .message = message,
        .place = pair->range,
    });
    return -EIO;
}

static int verify_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct blkverify *verify = node_state(node);
    struct pair pair = { .node = node, .kind = READ, .range = range, .iov = iov, .flags = flags };
    pair.data = buffer_get(range.bytes);
    if (!pair.data)
        return -ENOMEM;
    bool alike = do_by_both(&pair);
    if (!alike) {
        struct tracked tracked;
        tracked_begin(&verify->tracker, &tracked, range, true);
        alike = do_by_both(&pair);
        tracked_end(&verify->tracker, &tracked);
    }
    buffer_put(pair.data, range.bytes);
    return alike ? pair.raw_ret : tell(&pair);
}

static int write_both(struct pair *pair) CO_FN;

static int write_both(struct pair *pair)
{
    struct blkverify *verify = node_state(pair->node);
    struct tracked tracked;
    tracked_begin(&verify->tracker, &tracked, pair->range, true);
    bool alike = do_by_both(pair);
    tracked_end(&verify->tracker, &tracked);
    return alike ? pair->raw_ret : tell(pair);
}

static int verify_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct pair pair = { .node = node, .kind = WRITE, .range = range, .iov = iov, .flags = flags };
    return write_both(&pair);
}

/* One may be able to do it quickly and the other not: then both write zeroes. */
static int verify_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    struct pair pair = { .node = node, .kind = ZERO, .range = range, .flags = flags };
    return flags & REQ_NO_FALLBACK ? -ENOTSUP : write_both(&pair);
}

/* What is read afterwards may be zero in one and not in the other, and both would be right. */
static int verify_pdiscard(struct node *node, struct range range)
{
    (void)node;
    (void)range;
    return 0;
}

static int verify_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode)
{
    (void)node;
    (void)bytes;
    (void)mode;
    return -ENOTSUP;
}

static struct error *check_lengths(const struct blkverify *verify)
{
    if (child_length(verify->raw) == child_length(verify->test))
        return NULL;
    return error_new("test: node '%s' is %llu bytes long, but node '%s' is %llu", node_name(child_node(verify->test)),
                     (unsigned long long)child_length(verify->test), node_name(child_node(verify->raw)),
                     (unsigned long long)child_length(verify->raw));
}

static struct error *verify_open(struct node *node, const struct blockdev_options *options,
                                 const struct open_context *context)
{
    const struct blockdev_options_blkverify *own = &options->u.blkverify;
    struct blkverify *verify = node_state(node);
    tracker_init(&verify->tracker);
    struct error *err = child_open(node, "raw", CHILD_FILTERED, own->raw, context, &verify->raw);
    if (!err)
        err = child_open(node, "test", CHILD_DATA, own->test, context, &verify->test);
    if (!err)
        err = check_lengths(verify);
    if (err)
        return err;
    node_limits_mutable(node)->max_transfer = TRANSFER_MAX;
    node_set_filename(node, node_filename(child_node(verify->test)));
    return NULL;
}

/* That the nodes are alike is the business of who names them. */
static struct error *verify_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                           struct reopen *reopen)
{
    const struct blockdev_options_blkverify *own = &options->u.blkverify;
    (void)node;
    struct error *err = reopen_child(reopen, "raw", own->raw);
    return err ? err : reopen_child(reopen, "test", own->test);
}

static struct error *verify_reopen_enter(struct node *node, struct reopen *reopen)
{
    (void)reopen;
    return check_lengths(node_state(node));
}

/* Nobody else writes one of the two, or they would differ, as long as the filter has users. */
static void verify_child_permissions(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                                     unsigned *child_perm, unsigned *child_shared)
{
    (void)node;
    (void)child;
    *child_perm = perm & ~(unsigned)PERM_RESIZE;
    *child_shared = perm ? shared & (PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED) : shared;
}

const struct driver blkverify_driver = {
    .name = "blkverify",
    .kind = DRIVER_FILTER,
    .state_size = sizeof(struct blkverify),
    .write_flags = REQ_FUA,
    .open = verify_open,
    .reopen_prepare = verify_reopen_prepare,
    .reopen_enter = verify_reopen_enter,
    .preadv = verify_preadv,
    .pwritev = verify_pwritev,
    .pwrite_zeroes = verify_pwrite_zeroes,
    .pdiscard = verify_pdiscard,
    .truncate = verify_truncate,
    .child_permissions = verify_child_permissions,
};
