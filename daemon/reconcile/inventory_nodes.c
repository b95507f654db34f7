/* Nodes, as configurations describe them: what they were made with, and the children that they have now. */
#include "blockcore/base/hash.h"
#include "blockcore/base/memory.h"
#include "blockcore/export/export.h"
#include "blockcore/graph/node.h"
#include "blockcore/runtime/coroutine.h"
#include "daemon/reconcile/inventory_private.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/value.h"

#include <stdio.h>
#include <string.h>

#define NODES_AT_ONCE 32 /* described, before others get a turn */

struct listing {
    struct inventory *inventory;
    struct arena *arena;
    struct hash listed; /* of struct listed, by name */
    struct blockdev_options *nodes;
    size_t count;
    size_t room;
};

struct listed {
    struct hash_link by_name;
};

struct node *inventory_look_through(struct node *node)
{
    while (!node_options(node) && node_filtered(node))
        node = child_node(node_filtered(node));
    return node;
}

/* Names that the daemon makes up mean nothing to another one. */
static bool has_own_name(const struct node *node)
{
    return *node_name(node) != '#';
}

static struct blockdev_options *describe(struct listing *listing, const struct node *node);

/* Children --------------------------------------------------------------------------------------------------------- */

static void leave_out_child(struct listing *listing, const struct node *node, const char *name)
{
    inventory_leave_out(listing->inventory, listing->arena,
                        arena_printf(listing->arena, "node '%s': its child '%s' is a node without a name of its own",
                                     node_name(node), name));
}

static const struct blockdev_ref *ref_to(struct listing *listing, const struct node *parent, const char *name,
                                         const struct blockdev_ref *given, const struct node *child)
{
    struct blockdev_ref *ref = arena_alloc(listing->arena, sizeof(*ref));
    if (given && given->kind == BLOCKDEV_REF_KIND_DEFINITION && node_is_described_by(child, parent)) {
        const struct blockdev_options *options = describe(listing, child);
        if (!options)
            return given;
        *ref = (struct blockdev_ref){ .kind = BLOCKDEV_REF_KIND_DEFINITION, .u.definition = options };
        return ref;
    }
    if (!has_own_name(child)) {
        leave_out_child(listing, parent, name);
        return given;
    }
    *ref = (struct blockdev_ref){ .kind = BLOCKDEV_REF_KIND_REFERENCE,
                                  .u.reference = arena_strdup(listing->arena, node_name(child)) };
    return ref;
}

static const struct blockdev_ref_or_null *no_child(struct listing *listing)
{
    struct blockdev_ref_or_null *ref = arena_alloc(listing->arena, sizeof(*ref));
    *ref = (struct blockdev_ref_or_null){ .kind = BLOCKDEV_REF_OR_NULL_KIND_NULL };
    return ref;
}

/* What may be null has the same two branches before that. */
static const struct blockdev_ref_or_null *ref_or_null_to(struct listing *listing, const struct node *parent,
                                                         const char *name, const struct blockdev_ref_or_null *given,
                                                         const struct node *child)
{
    struct blockdev_ref_or_null *ref = arena_alloc(listing->arena, sizeof(*ref));
    struct blockdev_ref before = { .kind = BLOCKDEV_REF_KIND_REFERENCE, .u.reference = "" };
    if (given && given->kind == BLOCKDEV_REF_OR_NULL_KIND_DEFINITION)
        before = (struct blockdev_ref){ .kind = BLOCKDEV_REF_KIND_DEFINITION, .u.definition = given->u.definition };
    const struct blockdev_ref *now = ref_to(listing, parent, name, &before, child);
    if (now == &before)
        return given;
    if (now->kind == BLOCKDEV_REF_KIND_DEFINITION)
        *ref = (struct blockdev_ref_or_null){ .kind = BLOCKDEV_REF_OR_NULL_KIND_DEFINITION,
                                              .u.definition = now->u.definition };
    else
        *ref = (struct blockdev_ref_or_null){ .kind = BLOCKDEV_REF_OR_NULL_KIND_REFERENCE,
                                              .u.reference = now->u.reference };
    return ref;
}

/* NULL: there is none, or the image's header names it, which a configuration leaves out as well. */
static struct node *find_child(const struct node *node, const char *name, bool given)
{
    const struct child *edge = node_child(node, name);
    struct node *child = edge ? inventory_look_through(child_node(edge)) : NULL;
    return child && (given || !node_is_described_by(child, node)) ? child : NULL;
}

static void describe_child(struct listing *listing, const struct node *node, const struct member_descriptor *member,
                           char *options)
{
    const void *given = value_pointer(options + member->offset);
    struct node *child = find_child(node, member->name, given);
    bool may_be_null = member->type == &blockdev_ref_or_null_descriptor;
    const void *now = given;
    if (child && may_be_null)
        now = ref_or_null_to(listing, node, member->name, given, child);
    else if (child)
        now = ref_to(listing, node, member->name, given, child);
    else if (given && may_be_null && !node_child(node, member->name))
        now = no_child(listing);
    memcpy(options + member->offset, &now, sizeof(now));
}

/* Edges "children.0", "children.1", ... where the options have a list "children". */
static void describe_children(struct listing *listing, const struct node *node, const struct member_descriptor *member,
                              char *options)
{
    const struct blockdev_ref *given = value_pointer(options + member->offset);
    size_t given_count = value_count(options + member->count_offset);
    size_t room = 0;
    size_t count = 0;
    for (struct child *edge = node_child_next(node, NULL); edge; edge = node_child_next(node, edge))
        room++;
    struct blockdev_ref *refs = arena_array(listing->arena, room, sizeof(*refs));
    for (struct child *edge = node_child_next(node, NULL); edge; edge = node_child_next(node, edge)) {
        size_t length = strlen(member->name);
        if (strncmp(child_name(edge), member->name, length) != 0 || child_name(edge)[length] != '.')
            continue;
        const struct blockdev_ref *before = count < given_count ? &given[count] : NULL;
        const struct blockdev_ref *ref =
            ref_to(listing, node, child_name(edge), before, inventory_look_through(child_node(edge)));
        if (ref)
            refs[count++] = *ref;
    }
    const struct blockdev_ref *list = refs;
    memcpy(options + member->offset, &list, sizeof(list));
    memcpy(options + member->count_offset, &count, sizeof(count));
}

static void describe_member(struct listing *listing, const struct node *node, const struct member_descriptor *member,
                            char *options)
{
    const struct type_descriptor *type = member->type;
    if (type == &blockdev_ref_descriptor || type == &blockdev_ref_or_null_descriptor)
        describe_child(listing, node, member, options);
    else if (type->kind == VALUE_ARRAY && type->array.element == &blockdev_ref_descriptor)
        describe_children(listing, node, member, options);
}

static struct blockdev_options *describe(struct listing *listing, const struct node *node)
{
    const struct type_descriptor *type = &blockdev_options_descriptor;
    struct blockdev_options *options = inventory_copy(listing->inventory, type, node_options(node), listing->arena);
    if (!options)
        return NULL;
    char *object = (char *)options;
    while (type) {
        for (uint32_t i = 0; i < type->object.count; i++)
            describe_member(listing, node, &type->object.members[i], object);
        const struct type_descriptor *branch = union_branch(type, object);
        object += type->object.branch_offset;
        type = branch;
    }
    return options;
}

/* Order ------------------------------------------------------------------------------------------------------------ */

static void list_node(struct listing *listing, struct node *node);

/* Those that are described inside of it stand on others, too. */
static void list_below(struct listing *listing, const struct node *node)
{
    for (struct child *edge = node_child_next(node, NULL); edge; edge = node_child_next(node, edge)) {
        struct node *child = inventory_look_through(child_node(edge));
        if (node_is_described_by(child, node))
            list_below(listing, child);
        else
            list_node(listing, child);
    }
}

static bool is_described_by_a_parent(const struct node *node)
{
    for (struct child *edge = node_parent_next(node, NULL); edge; edge = node_parent_next(node, edge)) {
        if (child_parent(edge) && node_is_described_by(node, child_parent(edge)))
            return true;
    }
    return false;
}

static void list_node(struct listing *listing, struct node *node)
{
    if (!has_own_name(node) || !node_options(node) || hash_find_string(&listing->listed, node_name(node)) ||
        is_described_by_a_parent(node))
        return;
    const char *name = arena_strdup(listing->arena, node_name(node));
    struct listed *listed = arena_alloc(listing->arena, sizeof(*listed));
    hash_insert_string(&listing->listed, &listed->by_name, name);
    list_below(listing, node);
    struct blockdev_options *options = describe(listing, node);
    if (!options)
        return;
    options->node_name = name;
    options->has_if_absent = options->if_absent = false;
    if (listing->count == listing->room) {
        listing->room = 2 * listing->room + 16;
        listing->nodes = xrealloc_array(listing->nodes, listing->room, sizeof(*listing->nodes));
    }
    listing->nodes[listing->count++] = *options;
}

static bool is_wanted(const struct node *node)
{
    for (struct child *edge = node_parent_next(node, NULL); edge; edge = node_parent_next(node, edge)) {
        if (!child_parent(edge))
            return true;
    }
    return node_is_monitor_owned(node);
}

/* Others may be gone by the time it is their turn, so they are known by name. */
static const char **collect_names(struct listing *listing, size_t *count)
{
    *count = 0;
    for (struct node *node = node_next(NULL); node; node = node_next(node))
        (*count)++;
    const char **names = arena_array(listing->arena, *count, sizeof(*names));
    *count = 0;
    for (struct node *node = node_next(NULL); node; node = node_next(node)) {
        if (has_own_name(node) && is_wanted(node))
            names[(*count)++] = arena_strdup(listing->arena, node_name(node));
    }
    return names;
}

void inventory_nodes(struct inventory *inventory, struct arena *arena)
{
    struct listing listing = { .inventory = inventory, .arena = arena };
    hash_init(&listing.listed);
    size_t count;
    const char **names = collect_names(&listing, &count);
    for (size_t i = 0; i < count; i++) {
        if (i % NODES_AT_ONCE == NODES_AT_ONCE - 1)
            co_yield ();
        struct node *node = node_find(names[i]);
        if (node)
            list_node(&listing, node);
    }
    struct blockdev_options *nodes = arena_array(arena, listing.count, sizeof(*nodes));
    if (listing.count)
        memcpy(nodes, listing.nodes, listing.count * sizeof(*nodes));
    free(listing.nodes);
    hash_fini(&listing.listed);
    inventory->values.has_nodes = listing.count > 0;
    inventory->values.nodes = nodes;
    inventory->values.nodes_count = listing.count;
}
