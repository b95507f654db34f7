#include "blockcore/filters/gate.h"

#include "blockcore/base/list.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/sync.h"
#include "schema/cairn_types.h"

#include <assert.h>

struct gate {
    struct child *file;
    struct spinlock lock;
    uint32_t to_hold[GATE_KINDS]; /* how many more requests each order will hold; GATE_ALL: without end */
    unsigned order[GATE_KINDS];   /* the order that each kind is under; an order may be for several kinds */
    uint32_t held[GATE_KINDS];
    uint64_t seen[GATE_KINDS];
    struct list waiters; /* of struct waiter, the oldest first */
    struct co_queue arrivals;
};

/* A request that is held; on its coroutine's stack. */
struct waiter {
    struct list link;
    unsigned kind_index;
    struct co_event released;
};

static unsigned index_of(enum gate_kind kind)
{
    return (unsigned)__builtin_ctz((unsigned)kind);
}

static struct gate *gate_of(struct node *node)
{
    assert(node_is_gate(node));
    return node_state(node);
}

bool node_is_gate(const struct node *node)
{
    return node_driver(node) == &gate_driver;
}

/* Control ------------------------------------------------------------------------------------------------------ */

/* An order that none but @kinds are under. There are as many orders as kinds, so there is always one. */
static unsigned free_order(const struct gate *gate, unsigned kinds)
{
    unsigned taken = 0;

    for (unsigned i = 0; i < GATE_KINDS; i++)
        taken |= kinds & (1u << i) ? 0 : 1u << gate->order[i];
    return (unsigned)__builtin_ctz(~taken);
}

static void give_order(struct gate *gate, unsigned kinds, uint32_t count)
{
    unsigned order = free_order(gate, kinds);

    gate->to_hold[order] = count;
    for (unsigned i = 0; i < GATE_KINDS; i++) {
        if (kinds & (1u << i))
            gate->order[i] = order;
    }
}

void gate_hold(struct node *node, unsigned kinds, uint32_t count)
{
    struct gate *gate = gate_of(node);

    spinlock_lock(&gate->lock);
    give_order(gate, kinds, count);
    spinlock_unlock(&gate->lock);
}

void gate_release(struct node *node, unsigned kinds, uint32_t count)
{
    struct gate *gate = gate_of(node);
    struct waiter *waiter;
    struct waiter *following;

    spinlock_lock(&gate->lock);
    if (count == GATE_ALL)
        give_order(gate, kinds, 0);
    uint32_t left = count;
    list_for_each_safe (waiter, following, &gate->waiters, link) {
        if (left == 0)
            break;
        if (!(kinds & (1u << waiter->kind_index)))
            continue;
        left--;
        gate->held[waiter->kind_index]--;
        list_remove(&waiter->link);
        co_event_set(&waiter->released); /* the waiter may be gone from here on */
    }
    spinlock_unlock(&gate->lock);
}

static uint32_t count_held(const struct gate *gate, unsigned kinds)
{
    uint32_t count = 0;

    for (unsigned i = 0; i < GATE_KINDS; i++)
        count += kinds & (1u << i) ? gate->held[i] : 0;
    return count;
}

uint32_t gate_held(struct node *node, unsigned kinds)
{
    struct gate *gate = gate_of(node);

    spinlock_lock(&gate->lock);
    uint32_t count = count_held(gate, kinds);
    spinlock_unlock(&gate->lock);
    return count;
}

uint64_t gate_seen(struct node *node, unsigned kinds)
{
    struct gate *gate = gate_of(node);
    uint64_t count = 0;

    spinlock_lock(&gate->lock);
    for (unsigned i = 0; i < GATE_KINDS; i++)
        count += kinds & (1u << i) ? gate->seen[i] : 0;
    spinlock_unlock(&gate->lock);
    return count;
}

void gate_wait_held(struct node *node, uint32_t count)
{
    struct gate *gate = gate_of(node);

    spinlock_lock(&gate->lock);
    while (count_held(gate, GATE_ANY) < count)
        co_queue_wait_spin(&gate->arrivals, &gate->lock, "a request at the gate");
    spinlock_unlock(&gate->lock);
}

/* Requests ----------------------------------------------------------------------------------------------------- */

/* Waits if requests of @kind are held. */
static struct gate *pass(struct node *node, enum gate_kind kind) CO_FN;

static struct gate *pass(struct node *node, enum gate_kind kind)
{
    struct gate *gate = node_state(node);
    struct waiter waiter = { .kind_index = index_of(kind) };

    spinlock_lock(&gate->lock);
    gate->seen[waiter.kind_index]++;
    uint32_t *to_hold = &gate->to_hold[gate->order[waiter.kind_index]];
    if (*to_hold == 0) {
        spinlock_unlock(&gate->lock);
        return gate;
    }
    if (*to_hold != GATE_ALL)
        (*to_hold)--;
    co_event_init(&waiter.released);
    list_append(&gate->waiters, &waiter.link);
    gate->held[waiter.kind_index]++;
    co_queue_wake_all(&gate->arrivals);
    spinlock_unlock(&gate->lock);
    co_event_wait(&waiter.released, "the gate");
    return gate;
}

static int gate_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    return child_preadv(pass(node, GATE_READ)->file, range, iov, flags);
}

static int gate_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    return child_pwritev(pass(node, GATE_WRITE)->file, range, iov, flags);
}

static int gate_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    return child_pwrite_zeroes(pass(node, GATE_WRITE_ZEROES)->file, range, flags);
}

static int gate_pdiscard(struct node *node, struct range range)
{
    return child_pdiscard(pass(node, GATE_DISCARD)->file, range);
}

/* The node below is flushed by io/ afterwards. */
static int gate_flush(struct node *node)
{
    pass(node, GATE_FLUSH);
    return 0;
}

static int gate_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    (void)range;
    (void)ask;
    (void)extents;
    pass(node, GATE_BLOCK_STATUS);
    return 0;
}

static struct error *gate_open(struct node *node, const struct blockdev_options *options,
                               const struct open_context *context)
{
    struct gate *gate = node_state(node);

    spinlock_init(&gate->lock);
    list_init(&gate->waiters);
    co_queue_init(&gate->arrivals);
    struct error *err = child_open(node, "file", CHILD_FILTERED, options->u.gate.file, context, &gate->file);
    if (err)
        co_queue_fini(&gate->arrivals);
    return err;
}

static void gate_close(struct node *node)
{
    struct gate *gate = node_state(node);

    assert(list_empty(&gate->waiters));
    co_queue_fini(&gate->arrivals);
}

static struct error *gate_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                         struct reopen *reopen)
{
    (void)node;
    return reopen_child(reopen, "file", options->u.gate.file);
}

const struct driver gate_driver = {
    .name = "gate",
    .kind = DRIVER_FILTER,
    .state_size = sizeof(struct gate),
    .write_flags = REQ_FUA | REQ_COMPRESSED,
    .open = gate_open,
    .reopen_prepare = gate_reopen_prepare,
    .close = gate_close,
    .preadv = gate_preadv,
    .pwritev = gate_pwritev,
    .pwrite_zeroes = gate_pwrite_zeroes,
    .pdiscard = gate_pdiscard,
    .flush = gate_flush,
    .block_status = gate_block_status,
};
