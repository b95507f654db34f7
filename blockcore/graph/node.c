#include "blockcore/graph/layout.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/options.h"
#include "blockcore/graph/stats_count.h"
#include "blockcore/runtime/coroutine.h"

#include <assert.h>
#include <string.h>

struct graph graph = { .nodes = LIST_INIT(graph.nodes) };

struct node *node_create(const char *name, const struct driver *driver)
{
    struct node *node = xcalloc(1, sizeof(*node));
    node->name = xstrdup(name);
    node->filename = xstrdup("");
    node->driver = driver;
    node->state = driver->state_size ? xcalloc(1, driver->state_size) : NULL;
    node->phase = NODE_OPENING;
    node->serial = ++graph.nodes_made;
    arena_init_small(&node->options_arena, SIZE_MAX);
    node->refs = 1;
    node->limits = (struct node_limits){
        .request_alignment = 1,
        .memory_alignment = 1,
        .discard_granularity = 1,
        .zero_granularity = 1,
    };
    node->locked_shared = PERM_ALL;
    list_init(&node->children);
    list_init(&node->claims);
    list_init(&node->parents);
    list_init(&node->in_graph);
    list_init(&node->hastened);
    graph.hastening_nodes += driver->hasten || driver->abandon ? 1 : 0;
    graph.returning_nodes += driver->comes_back_by ? 1 : 0;
    tracker_init(&node->tracker);
    co_mutex_init(&node->locking);
    hash_insert_string(&graph.by_name, &node->by_name, node->name);
    return node;
}

void node_free(struct node *node)
{
    haste_forget(node);
    node_free_bitmaps(node);
    graph.hastening_nodes -= node->driver->hasten || node->driver->abandon ? 1 : 0;
    graph.returning_nodes -= node->driver->comes_back_by ? 1 : 0;
    hash_remove(&graph.by_name, &node->by_name);
    list_remove(&node->in_graph);
    co_mutex_fini(&node->locking);
    if (node->closed)
        co_event_set(node->closed);
    arena_fini(&node->options_arena);
    stats_free(node->stats);
    free(node->state);
    free(node->filename);
    free(node->owner);
    free(node->name);
    free(node);
}

void node_remember_options(struct node *node, const struct blockdev_options *given)
{
    const struct options_service *service = options_service();
    arena_fini(&node->options_arena);
    arena_init_small(&node->options_arena, SIZE_MAX);
    node->given = service->copy ? service->copy(given, &node->options_arena) : NULL;
}

void node_published(struct node *node)
{
    node->phase = NODE_OPEN;
    list_append(&graph.nodes, &node->in_graph);
}

void node_debug_event(struct node *node, const char *event)
{
    while (node->driver->kind == DRIVER_FILTER && node->filtered) {
        if (node->driver->debug_event)
            node->driver->debug_event(node, event);
        node = node->filtered->node;
    }
}

size_t node_count(void)
{
    return graph.by_name.count;
}

struct node *node_find(const char *name)
{
    struct hash_link *link = hash_find_string(&graph.by_name, name);
    if (!link)
        return NULL;
    struct node *node = hash_entry(link, struct node, by_name);
    return node->phase == NODE_OPEN ? node : NULL;
}

struct error *node_not_found(const char *name)
{
    return error_new("Failed to find node with node-name='%s'", name);
}

struct node *node_next(const struct node *after)
{
    const struct list *at = after ? &after->in_graph : &graph.nodes;
    return at->next == &graph.nodes ? NULL : list_entry(at->next, struct node, in_graph);
}

struct node *node_ref(struct node *node)
{
    assert(node->refs > 0);
    node->refs++;
    return node;
}

const char *node_name(const struct node *node)
{
    return node->name;
}

const struct driver *node_driver(const struct node *node)
{
    return node->driver;
}

void *node_state(struct node *node)
{
    return node->state;
}

const struct blockdev_options *node_options(const struct node *node)
{
    return node->given;
}

void *node_replace_state(struct node *node, void *state)
{
    void *old = node->state;
    node->state = state;
    return old;
}

uint64_t node_length(const struct node *node)
{
    const struct child *child;
    while ((child = atomic_load_explicit(&node->length_of, memory_order_acquire)))
        node = child->node;
    return atomic_load_explicit(&node->length, memory_order_acquire);
}

void node_set_length(struct node *node, uint64_t bytes)
{
    atomic_store_explicit(&node->length, bytes, memory_order_release);
    node_settle_bitmaps(node);
}

void node_grow_length(struct node *node, uint64_t bytes)
{
    uint64_t now = atomic_load_explicit(&node->length, memory_order_relaxed);
    while (now < bytes && !atomic_compare_exchange_weak_explicit(&node->length, &now, bytes, memory_order_acq_rel,
                                                                 memory_order_relaxed))
        ;
}

void node_follow_length(struct node *node, struct child *child)
{
    node->length_of = child;
}

const struct node_limits *node_limits(const struct node *node)
{
    return &node->limits;
}

struct node_limits *node_limits_mutable(struct node *node)
{
    return &node->limits;
}

bool node_is_read_only(const struct node *node)
{
    return node->set.read_only;
}

bool node_is_inactive(const struct node *node)
{
    return node->set.inactive;
}

bool node_is_read_only_for(const struct node *node, const struct child *child)
{
    return edge_is_for_next(node, child) ? node->next.read_only : node->set.read_only;
}

void *node_next_state(const struct node *node, const struct child *child)
{
    return edge_is_for_next(node, child) ? node->next_state : NULL;
}

enum detect_zeroes node_detect_zeroes(const struct node *node)
{
    return node->set.detect_zeroes;
}

bool node_unmaps(const struct node *node)
{
    return node->set.unmap;
}

bool node_cache_direct(const struct node *node)
{
    return node->set.cache_direct;
}

bool node_cache_no_flush(const struct node *node)
{
    return node->set.cache_no_flush;
}

void node_set_read_only(struct node *node, bool read_only)
{
    node->set.read_only = read_only;
}

const char *node_filename(const struct node *node)
{
    while (!node->filename[0] && node_filtered(node))
        node = child_node(node_filtered(node));
    return node->filename;
}

void node_set_filename(struct node *node, const char *filename)
{
    char *copy = xstrdup(filename);
    free(node->filename);
    node->filename = copy;
}

bool node_is_monitor_owned(const struct node *node)
{
    return node->monitor_owned;
}

bool node_is_described_by(const struct node *node, const struct node *parent)
{
    return node->made_with == parent->serial;
}

ino_t node_inode(const struct node *node)
{
    return node->identified ? node->inode : 0;
}

void node_set_identity(struct node *node, dev_t device, ino_t inode)
{
    node->identified = true;
    node->device = device;
    node->inode = inode;
}

struct child *node_child_next(const struct node *node, const struct child *after)
{
    const struct list *at = after ? &after->in_parent : &node->children;
    return at->next == &node->children ? NULL : list_entry(at->next, struct child, in_parent);
}

struct child *node_child(const struct node *node, const char *name)
{
    struct child *child = NULL;
    while ((child = node_child_next(node, child))) {
        if (strcmp(child->name, name) == 0)
            return child;
    }
    return NULL;
}

struct child *node_parent_next(const struct node *node, const struct child *after)
{
    const struct list *at = after ? &after->in_node : &node->parents;
    return at->next == &node->parents ? NULL : list_entry(at->next, struct child, in_node);
}

struct child *node_backing(const struct node *node)
{
    return node->backing;
}

struct child *node_filtered(const struct node *node)
{
    return node->filtered;
}

const char *child_name(const struct child *child)
{
    return child->name;
}

unsigned child_role(const struct child *child)
{
    return child->role;
}

struct node *child_node(const struct child *child)
{
    return child->node;
}

struct node *child_parent(const struct child *child)
{
    return child->parent;
}

unsigned child_permissions(const struct child *child)
{
    return child->perm;
}

unsigned child_shared(const struct child *child)
{
    return child->shared;
}

char *child_user(const struct child *child)
{
    if (child->handle)
        return xstrdup(child->handle->user);
    if (child->parent->owner)
        return xstrdup(child->parent->owner);
    return xasprintf("node '%s' (as its '%s')", child->parent->name, child->name);
}

void edge_attach(struct child *edge, struct node *node)
{
    edge->node = node_ref(node);
    edge->perm = 0;
    edge->shared = PERM_ALL;
    list_append(&node->parents, &edge->in_node);
    list_init(&edge->in_parent);
    if (edge->parent)
        list_append(edge->claim ? &edge->parent->claims : &edge->parent->children, &edge->in_parent);
}

void edge_assign_role(struct node *parent, struct child *edge)
{
    if (edge->role & CHILD_BACKING)
        parent->backing = edge;
    if (edge->role & CHILD_FILTERED) {
        parent->filtered = edge;
        parent->length_of = edge;
    }
}

void edge_give_up_role(struct node *parent, const struct child *edge)
{
    if (parent->backing == edge)
        parent->backing = NULL;
    if (parent->filtered == edge)
        parent->filtered = NULL;
    if (parent->length_of == edge)
        parent->length_of = NULL;
}

struct node *edge_detach(struct child *edge)
{
    struct node *node = edge->node;
    struct node *parent = edge->parent;
    assert(edge->perm == 0 && edge->shared == PERM_ALL);
    list_remove(&edge->in_node);
    list_remove(&edge->in_parent);
    edge->node = NULL;
    if (parent) {
        edge_give_up_role(parent, edge);
        height_settle(parent);
    }
    return node;
}

void edge_fini(struct child *edge)
{
    free(edge->frozen_by);
    free(edge->name);
}

bool height_raise(struct node *node, unsigned below)
{
    if (node->height > below)
        return true;
    if (below + 1 > GRAPH_DEPTH_MAX)
        return false;
    node->height = below + 1;
    struct child *edge = NULL;
    while ((edge = node_parent_next(node, edge))) {
        if (edge->parent && !height_raise(edge->parent, node->height))
            return false;
    }
    return true;
}

static unsigned height_above(const struct list *edges)
{
    unsigned height = 0;
    struct child *edge;
    list_for_each (edge, edges, in_parent) {
        if (edge->node->height >= height)
            height = edge->node->height + 1;
    }
    return height;
}

void height_settle(struct node *node)
{
    unsigned of_children = height_above(&node->children);
    unsigned of_claims = height_above(&node->claims);
    unsigned height = of_children > of_claims ? of_children : of_claims;
    if (height >= node->height)
        return;
    node->height = height;
    struct child *edge = NULL;
    while ((edge = node_parent_next(node, edge))) {
        if (edge->parent)
            height_settle(edge->parent);
    }
}
