#include "blockcore/graph/layout.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/trace.h"
#include "blockcore/runtime/coroutine.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

/* What is held still: the graph above some nodes, and single handles. The list of drains lets handles and edges that
 * come while a drain lasts be held too. */
struct drain {
    struct list link;    /* in drains, while it holds */
    struct node **nodes; /* the caller keeps them */
    size_t nodes_count;
    bool may_be_cancelled;
    bool content;          /* and what the nodes' content comes from, as the graph is at the time */
    struct handle **doors; /* to be held whatever they lead to; the caller keeps them, but they may be closed */
    size_t doors_count;
    struct covered *handles;
    size_t handles_count;
    uint64_t since_ns; /* doors are closed */
    bool impatient;    /* they have been for too long */
};

struct covered {
    struct handle *handle; /* NULL: closed meanwhile */
    bool held;             /* or about to be */
};

static struct drain_times times;

static struct list drains = LIST_INIT(drains);

/* Those who wait for a node not to be busy any more, or for a drain to end. */
static struct co_queue settled = { .guard = { ATOMIC_FLAG_INIT }, .waiters = LIST_INIT(settled.waiters) };

typedef bool found_here(struct node *node, void *arg);

/* Asks @found of @node and of all nodes above it that this visit has not seen, until it says yes. */
static bool search_up(struct node *node, found_here *found, void *arg)
{
    if (node->visit == graph.visit)
        return false;
    node->visit = graph.visit;
    if (found(node, arg))
        return true;
    struct child *edge = NULL;
    while ((edge = node_parent_next(node, edge))) {
        if (edge->parent && !edge->claim && search_up(edge->parent, found, arg))
            return true;
    }
    return false;
}

/* The same, and of the nodes above those that the content of @node comes from. */
static bool search_content(struct node *node, found_here *found, void *arg)
{
    if (search_up(node, found, arg))
        return true;
    struct child *edge = NULL;
    while ((edge = node_child_next(node, edge))) {
        if ((edge->role & (CHILD_DATA | CHILD_FILTERED)) && search_content(edge->node, found, arg))
            return true;
    }
    return false;
}

/* All that the drain covers. */
static bool search(const struct drain *drain, found_here *found, void *arg)
{
    for (size_t i = 0; i < drain->nodes_count; i++) {
        struct node *node = drain->nodes[i];
        if (drain->content ? search_content(node, found, arg) : search_up(node, found, arg))
            return true;
    }
    return false;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool drain_has(const struct drain *drain, const struct handle *handle)
{
    for (size_t i = 0; i < drain->handles_count; i++) {
        if (drain->handles[i].handle == handle)
            return true;
    }
    return false;
}

static void cover_hold(struct covered *covered)
{
    covered->held = true;
    handle_hold(covered->handle);
}

static void drain_add(struct drain *drain, struct handle *handle)
{
    drain->handles = xrealloc_array(drain->handles, drain->handles_count + 1, sizeof(struct covered));
    drain->handles[drain->handles_count++] = (struct covered){ .handle = handle };
}

/* A walk meets each handle once, so the first one need not search. */
static bool hold_users(struct node *node, void *arg)
{
    struct drain *drain = arg;
    bool first = list_empty(&drain->link);
    struct child *edge = NULL;
    while ((edge = node_parent_next(node, edge))) {
        if (edge->handle && !edge->claim && (first || !drain_has(drain, edge->handle)))
            drain_add(drain, edge->handle);
    }
    return false;
}

/* Adds all handles that the drain does not cover yet. */
static void drain_collect(struct drain *drain)
{
    graph.visit++;
    search(drain, hold_users, drain);
    for (size_t i = 0; i < drain->doors_count; i++) {
        if (drain->doors[i]->edge.node && !drain_has(drain, drain->doors[i]))
            drain_add(drain, drain->doors[i]);
    }
}

static bool is_to_be_held(const struct covered *covered)
{
    return covered->handle && !covered->held;
}

static bool is_unwanted(const struct drain *drain)
{
    return drain->may_be_cancelled && co_cancelled();
}

static struct error *unwanted(void)
{
    return error_errno(ECANCELED, "changing the graph");
}

static void patience_is_over(void *arg)
{
    struct drain *drain = arg;
    drain->impatient = true;
    for (size_t i = 0; i < drain->handles_count; i++) {
        if (drain->handles[i].handle && drain->handles[i].held)
            co_queue_wake_all(&drain->handles[i].handle->quieted);
    }
}

static struct error *impatience(const struct handle *handle)
{
    return error_new("requests of %s to node '%s' have not ended in time", handle->user, handle->edge.node->name);
}

/* The list may grow while we wait: handles that come are held from their start, so they are quiet soon. */
static struct error *drain_wait(struct drain *drain) CO_FN;

static struct error *drain_wait(struct drain *drain)
{
    for (size_t i = 0; i < drain->handles_count; i++) {
        if (!drain->handles[i].handle || !drain->handles[i].held)
            continue;
        if (!drain->may_be_cancelled)
            handle_wait_quiet(drain->handles[i].handle, &drain->impatient);
        else if (!handle_wait_quiet_unless_cancelled(drain->handles[i].handle, &drain->impatient))
            return unwanted();
        if (drain->impatient && drain->handles[i].handle)
            return impatience(drain->handles[i].handle);
    }
    return NULL;
}

/* Those by which requests of others that are to be held come back stay open for them. Were it so with all, the requests
 * would go round in circles, and it does not matter. */
static bool *find_entrances_in_use(const struct drain *drain)
{
    bool *in_use = xcalloc(drain->handles_count, sizeof(*in_use));
    for (size_t i = 0; i < drain->handles_count; i++) {
        if (!is_to_be_held(&drain->handles[i]))
            continue;
        entrances_find(drain->handles[i].handle->edge.node);
        for (size_t j = 0; j < drain->handles_count; j++) {
            if (j != i && is_to_be_held(&drain->handles[j]))
                in_use[j] = in_use[j] || entrance_is_found(drain->handles[j].handle);
        }
    }
    return in_use;
}

static unsigned hold_some(struct drain *drain, const bool *except)
{
    unsigned held = 0;
    for (size_t i = 0; i < drain->handles_count; i++) {
        if (!is_to_be_held(&drain->handles[i]) || (except && except[i]))
            continue;
        cover_hold(&drain->handles[i]);
        held++;
    }
    return held;
}

/* Closes the doors, from the outside to the inside where requests come back; in one go where none do. */
static struct error *drain_close_doors(struct drain *drain) CO_FN;

static struct error *drain_close_doors(struct drain *drain)
{
    struct error *err = NULL;
    while (graph.returning_nodes > 0 && !err) {
        bool *in_use = find_entrances_in_use(drain);
        unsigned held = hold_some(drain, in_use);
        free(in_use);
        if (held == 0)
            break;
        err = drain_wait(drain);
    }
    if (err)
        return err;
    hold_some(drain, NULL);
    return drain_wait(drain);
}

static struct error *drain_close_doors_within(struct drain *drain, unsigned patience_ms) CO_FN;

static struct error *drain_close_doors_within(struct drain *drain, unsigned patience_ms)
{
    struct timer *timer = patience_ms ? timer_create_on_loop(patience_is_over, drain) : NULL;
    drain->impatient = false;
    if (timer)
        timer_start(timer, patience_ms);
    struct error *err = drain_close_doors(drain);
    timer_destroy(timer);
    return err;
}

static void count_time(uint64_t ns)
{
    times.count++;
    times.last_ns = ns;
    times.longest_ns = ns > times.longest_ns ? ns : times.longest_ns;
    times.total_ns += ns;
}

struct drain_times drain_times(void)
{
    return times;
}

static const char *first_name(const struct drain *drain)
{
    return drain->nodes_count > 0 ? drain->nodes[0]->name : NULL;
}

static void drain_let_go(struct drain *drain)
{
    list_remove(&drain->link);
    for (size_t i = 0; i < drain->handles_count; i++) {
        if (drain->handles[i].handle && drain->handles[i].held)
            handle_release(drain->handles[i].handle);
    }
    if (drain->handles_count > 0)
        count_time(now_ns() - drain->since_ns);
    TRACE(drain_end, first_name(drain), drain->since_ns ? now_ns() - drain->since_ns : 0);
    drain->handles_count = 0;
    co_queue_wake_all(&settled);
}

static bool is_busy(struct node *node, void *found)
{
    bool busy = node->busy || node->background > 0;
    if (busy)
        *(struct node **)found = node;
    return busy;
}

/* NULL when there is none. */
static struct node *find_busy(const struct drain *drain)
{
    struct node *found = NULL;
    graph.visit++;
    search(drain, is_busy, &found);
    return found;
}

static void wait_busy(struct drain *drain) CO_FN;

/* With the doors open: the storage that a busy node waits for may be dead, which must not hold up others. */
static void wait_busy(struct drain *drain)
{
    static const char what[] = "a node that is opened, closed or resized";
    struct node *node;
    while (!is_unwanted(drain) && (node = find_busy(drain))) {
        struct haste haste;
        haste_begin(&haste);
        haste_below(&haste, node);
        if (drain->may_be_cancelled)
            (void)co_queue_wait_unless_cancelled(&settled, what);
        else
            co_queue_wait(&settled, NULL, what);
        haste_end(&haste);
    }
}

static bool is_node(struct node *node, void *arg)
{
    return node == arg;
}

static bool is_drained(struct node *node)
{
    struct drain *drain;
    graph.visit++;
    list_for_each (drain, &drains, link) {
        if (search(drain, is_node, node))
            return true;
    }
    return false;
}

static void begin_to_be_busy(struct node *node)
{
    assert(!node->busy);
    node->busy = true;
    haste_begin(&node->haste);
    haste_below(&node->haste, node);
}

void node_set_busy(struct node *node, bool busy)
{
    if (busy) {
        begin_to_be_busy(node);
        return;
    }
    node->busy = false;
    haste_end(&node->haste);
    co_queue_wake_all(&settled);
}

void node_busy_again(struct node *node)
{
    while (is_drained(node))
        co_queue_wait(&settled, NULL, "drain");
    begin_to_be_busy(node);
}

void node_background_begin(struct node *node)
{
    node->background++;
}

void node_background_end(struct node *node)
{
    if (--node->background == 0)
        co_queue_wake_all(&settled);
}

struct drain *drain_make(void)
{
    struct drain *drain = xcalloc(1, sizeof(*drain));
    list_init(&drain->link);
    return drain;
}

void drain_cover_node(struct drain *drain, struct node *node)
{
    drain->nodes = xrealloc_array(drain->nodes, drain->nodes_count + 1, sizeof(struct node *));
    drain->nodes[drain->nodes_count++] = node;
}

void drain_cover_handle(struct drain *drain, struct handle *handle)
{
    drain->doors = xrealloc_array(drain->doors, drain->doors_count + 1, sizeof(struct handle *));
    drain->doors[drain->doors_count++] = handle;
}

static void drain_hasten(const struct drain *drain, struct haste *haste)
{
    haste_begin(haste);
    for (size_t i = 0; i < drain->handles_count; i++) {
        if (drain->handles[i].handle)
            haste_from(haste, drain->handles[i].handle->edge.node);
    }
}

void drain_may_be_cancelled(struct drain *drain)
{
    drain->may_be_cancelled = true;
}

/* Until requests are held, or nobody wants that any more. */
static struct error *hold(struct drain *drain, unsigned patience_ms) CO_FN;

static struct error *hold(struct drain *drain, unsigned patience_ms)
{
    struct haste haste;
    for (;;) {
        wait_busy(drain);
        if (is_unwanted(drain))
            return unwanted();
        drain->since_ns = now_ns();
        drain_collect(drain);
        list_append(&drains, &drain->link);
        drain_hasten(drain, &haste);
        struct error *err = drain_close_doors_within(drain, patience_ms);
        haste_end(&haste);
        if (!err && is_unwanted(drain))
            err = unwanted();
        if (!err && !find_busy(drain))
            return NULL;
        drain_let_go(drain);
        if (err)
            return err;
    }
}

const char *drain_in_the_way_of(const struct drain *drain, struct node *node)
{
    if (graph.returning_nodes == 0)
        return NULL;
    entrances_find(node);
    for (size_t i = 0; i < drain->handles_count; i++) {
        const struct handle *handle = drain->handles[i].handle;
        if (handle && entrance_is_found(handle))
            return handle->user;
    }
    return NULL;
}

struct error *drain_try_hold(struct drain *drain, unsigned patience_ms)
{
    struct co_note note;
    co_note_begin(&note, "holding requests back at", first_name(drain));
    TRACE(drain_begin, first_name(drain));
    struct error *err = hold(drain, patience_ms);
    TRACE(drain_held, first_name(drain), drain->handles_count);
    co_note_end(&note);
    return err;
}

void drain_hold(struct drain *drain)
{
    error_free(drain_try_hold(drain, 0));
}

struct drain *drain_begin(struct node *node)
{
    struct drain *drain = drain_make();
    drain_cover_node(drain, node);
    drain_hold(drain);
    return drain;
}

struct drain *drain_begin_content(struct node *node)
{
    struct drain *drain = drain_make();
    drain->content = true;
    drain_cover_node(drain, node);
    drain_hold(drain);
    return drain;
}

struct drain *drain_outlast(struct node *node)
{
    struct drain *drain = drain_make();
    drain_cover_node(drain, node);
    drain->since_ns = now_ns();
    drain_collect(drain);
    list_append(&drains, &drain->link);
    hold_some(drain, NULL);
    return drain;
}

void drain_end(struct drain *drain)
{
    if (!drain)
        return;
    drain_let_go(drain);
    free(drain->nodes);
    free(drain->doors);
    free(drain->handles);
    free(drain);
}

void drains_refresh(void)
{
    struct drain *drain;
    list_for_each (drain, &drains, link) {
        size_t known = drain->handles_count;
        drain_collect(drain);
        for (size_t i = known; i < drain->handles_count; i++)
            cover_hold(&drain->handles[i]);
    }
}

void drains_forget(struct handle *handle)
{
    struct drain *drain;
    list_for_each (drain, &drains, link) {
        for (size_t i = 0; i < drain->handles_count; i++) {
            struct covered *covered = &drain->handles[i];
            if (covered->handle != handle)
                continue;
            covered->handle = NULL;
            if (covered->held)
                handle_release(handle);
        }
    }
}
