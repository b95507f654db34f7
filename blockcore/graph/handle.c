#include "blockcore/graph/change.h"
#include "blockcore/graph/layout.h"
#include "blockcore/graph/stats_count.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine.h"

#include <assert.h>
#include <errno.h>

/* A hold closes a handle's door: each lane is told on its own thread, and answers once nothing is in flight there.
 *
 *     control                       lane (its loop's thread)
 *     handle_hold: post  ------->   lane->hold = hold; nothing in flight: answer, else answer at the last leave
 *     quiet      <----------------  the last lane to answer
 *     handle_release: post ----->   lane->hold = NULL; wake those who wait
 *     freed      <----------------  the last lane to open
 *
 * A drain that is given up may open lanes that have not answered; they answer then, so that each lane answers exactly
 * once per hold. A lane sees the tasks of a hold, and of the next one, in the order they were posted. */
struct hold {
    struct handle *handle; /* holds a reference until all lanes are open again */
    _Atomic unsigned lanes_to_answer;
    _Atomic unsigned lanes_to_open;
    bool quiet;
    struct loop_task all_quiet;
    struct loop_task all_open;
};

struct lane_task {
    struct loop_task task;
    struct lane *lane;
    struct hold *hold;
};

/* A request that found its lane held. */
struct lane_waiter {
    struct list link;
    struct co_event go_on;
};

static void hold_is_quiet(struct loop_task *task)
{
    struct hold *hold = CONTAINER_OF(task, struct hold, all_quiet);
    hold->quiet = true;
    co_queue_wake_all(&hold->handle->quieted);
}

static void hold_is_over(struct loop_task *task)
{
    struct hold *hold = CONTAINER_OF(task, struct hold, all_open);
    handle_put(hold->handle);
    free(hold);
}

static void lane_answer(struct lane *lane)
{
    lane->answered = true;
    if (atomic_fetch_sub(&lane->hold->lanes_to_answer, 1) == 1)
        loop_post(loop_control(), &lane->hold->all_quiet);
}

static void lane_close(struct loop_task *task)
{
    struct lane_task *lane_task = CONTAINER_OF(task, struct lane_task, task);
    struct lane *lane = lane_task->lane;
    lane->hold = lane_task->hold;
    lane->answered = false;
    if (lane->in_flight == 0)
        lane_answer(lane);
    free(lane_task);
}

static void lane_open(struct loop_task *task)
{
    struct lane_task *lane_task = CONTAINER_OF(task, struct lane_task, task);
    struct lane *lane = lane_task->lane;
    struct hold *hold = lane->hold;
    if (!lane->answered)
        lane_answer(lane);
    lane->hold = NULL;
    struct list *link;
    while ((link = list_take_first(&lane->waiters)))
        co_event_set(&list_entry(link, struct lane_waiter, link)->go_on);
    if (atomic_fetch_sub(&hold->lanes_to_open, 1) == 1)
        loop_post(loop_control(), &hold->all_open);
    free(lane_task);
}

static void lanes_post(struct handle *handle, void (*run)(struct loop_task *task), struct hold *hold)
{
    for (unsigned i = 0; i < handle->lanes_count; i++) {
        struct lane_task *lane_task = xmalloc(sizeof(*lane_task));
        *lane_task = (struct lane_task){ .task.run = run, .lane = &handle->lanes[i], .hold = hold };
        loop_post(i < loop_io_count() ? loop_io(i) : loop_control(), &lane_task->task);
    }
}

void handle_hold(struct handle *handle)
{
    handle->refs++;
    if (handle->holds++ > 0)
        return;
    struct hold *hold = xcalloc(1, sizeof(*hold));
    hold->handle = handle;
    hold->lanes_to_answer = handle->lanes_count;
    hold->lanes_to_open = handle->lanes_count;
    hold->all_quiet.run = hold_is_quiet;
    hold->all_open.run = hold_is_over;
    handle->refs++;
    handle->hold = hold;
    lanes_post(handle, lane_close, hold);
}

void handle_wait_quiet(struct handle *handle, const bool *stop)
{
    handle->refs++; /* it may be closed, and the drain told to forget it, while we wait */
    while (handle->hold && !handle->hold->quiet && !(stop && *stop))
        co_queue_wait(&handle->quieted, NULL, "requests in flight");
    handle_put(handle);
}

bool handle_wait_quiet_unless_cancelled(struct handle *handle, const bool *stop)
{
    bool wanted = true;
    handle->refs++;
    while (wanted && handle->hold && !handle->hold->quiet && !(stop && *stop))
        wanted = co_queue_wait_unless_cancelled(&handle->quieted, "requests in flight");
    handle_put(handle);
    return wanted;
}

void handle_release(struct handle *handle)
{
    assert(handle->holds > 0);
    if (--handle->holds == 0) {
        lanes_post(handle, lane_open, handle->hold);
        handle->hold = NULL;
    }
    handle_put(handle);
}

void handle_put(struct handle *handle)
{
    assert(handle->refs > 0);
    if (--handle->refs > 0)
        return;
    co_queue_fini(&handle->quieted);
    stats_free(handle->stats);
    free(handle->lanes);
    free(handle->user);
    free(handle);
}

static struct lane *current_lane(struct handle *handle)
{
    return &handle->lanes[loop_index(loop_current())];
}

static void lane_wait(struct lane *lane)
{
    while (lane->hold) {
        struct lane_waiter waiter;
        co_event_init(&waiter.go_on);
        list_append(&lane->waiters, &waiter.link);
        lane->waiting++;
        co_event_wait(&waiter.go_on, "drain");
        lane->waiting--;
    }
}

/* Others only look at the number, so adding to it need not be one step for them. */
static unsigned lane_count(struct lane *lane, int more)
{
    unsigned in_flight = atomic_load_explicit(&lane->in_flight, memory_order_relaxed) + (unsigned)more;
    atomic_store_explicit(&lane->in_flight, in_flight, memory_order_relaxed);
    return in_flight;
}

void handle_enter(struct handle *handle)
{
    struct lane *lane = current_lane(handle);
    if (unlikely(lane->hold))
        lane_wait(lane);
    lane_count(lane, 1);
    co_set_owner(handle->owner);
}

void handle_leave(struct handle *handle)
{
    struct lane *lane = current_lane(handle);
    if (lane_count(lane, -1) == 0 && unlikely(lane->hold) && !lane->answered)
        lane_answer(lane);
    co_set_owner(0);
}

/* NULL when there is no memory. */
static struct handle *handle_make(const char *user)
{
    struct handle *handle = xcalloc(1, sizeof(*handle));
    handle->user = xstrdup(user);
    handle->refs = 1;
    handle->owner = ++graph.owners_made;
    co_queue_init(&handle->quieted);
    handle->lanes_count = loop_io_count() + 1;
    handle->lanes = try_aligned_alloc(_Alignof(struct lane), handle->lanes_count * sizeof(struct lane));
    if (!handle->lanes) {
        handle_put(handle);
        return NULL;
    }
    for (unsigned i = 0; i < handle->lanes_count; i++) {
        handle->lanes[i] = (struct lane){ 0 };
        list_init(&handle->lanes[i].waiters);
    }
    handle->edge.handle = handle;
    return handle;
}

static struct error *open_door(struct node *node, const char *user, unsigned perm, unsigned shared, bool stays,
                               struct handle **out) CO_FN;

static struct error *open_door(struct node *node, const char *user, unsigned perm, unsigned shared, bool stays,
                               struct handle **out)
{
    struct handle *handle = handle_make(user);
    if (!handle)
        return error_errno(ENOMEM, "%s", user);
    handle->stays = stays;
    edge_attach(&handle->edge, node);
    struct error *err = edge_claim(&handle->edge, perm, shared);
    if (err) {
        edge_release(&handle->edge);
        handle_put(handle);
        return err;
    }
    drains_refresh();
    /* When it is held, requests must find all doors closed, also those that begin in this turn of the loop. */
    handle_wait_quiet(handle, NULL);
    *out = handle;
    return NULL;
}

struct error *handle_open(struct node *node, const char *user, unsigned perm, unsigned shared, struct handle **out)
{
    return open_door(node, user, perm, shared, false, out);
}

struct error *handle_open_here(struct node *node, const char *user, unsigned perm, unsigned shared, struct handle **out)
{
    return open_door(node, user, perm, shared, true, out);
}

struct error *handle_enter_here(struct node *node, const char *user, struct handle **out)
{
    /* The driver says itself that what is read-only cannot be written. */
    unsigned perm = node_refuses_writes(node) ? 0 : PERM_WRITE_UNCHANGED;
    struct error *err = handle_open_here(node, user, perm, PERM_ALL, out);
    if (!err)
        handle_enter(*out);
    return err;
}

void handle_leave_here(struct handle *handle)
{
    handle_leave(handle);
    handle_close(handle);
}

void handle_abandon(struct handle *handle)
{
    if (handle->abandoned)
        return;
    handle->abandoned = true;
    haste_begin_for(&handle->haste, handle->owner);
    haste_from(&handle->haste, handle->edge.node);
}

void handle_need_active(struct handle *handle)
{
    handle->needs_active = true;
}

void handle_close(struct handle *handle)
{
    if (!handle)
        return;
    if (handle->abandoned)
        haste_end(&handle->haste);
    drains_forget(handle);
    entrance_forget(handle);
    edge_release(&handle->edge);
    handle_put(handle);
}

struct node *handle_node(const struct handle *handle)
{
    return handle->edge.node;
}

const char *handle_user(const struct handle *handle)
{
    return handle->user;
}

struct child *handle_edge(struct handle *handle)
{
    return &handle->edge;
}

unsigned handle_in_flight(const struct handle *handle)
{
    unsigned count = 0;
    for (unsigned i = 0; i < handle->lanes_count; i++)
        count += atomic_load_explicit(&handle->lanes[i].in_flight, memory_order_relaxed);
    return count;
}

unsigned handle_waiting(const struct handle *handle)
{
    unsigned count = 0;
    for (unsigned i = 0; i < handle->lanes_count; i++)
        count += atomic_load_explicit(&handle->lanes[i].waiting, memory_order_relaxed);
    return count;
}
