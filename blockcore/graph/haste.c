/* haste - somebody waits for the end of requests, so none of them may wait for its turn
 *
 * A filter that holds requests back for a time of their own (throttle) would hold up a drain, the end of an export or
 * the closing of a node as long. So whoever waits makes haste: the filters that requests can come by are told to let
 * all through, and told when that is over.
 *
 *     drain, handle, busy node ---entries---> nodes below that have an entry "hasten" (or "abandon")
 *
 * A filter hears of the first who makes haste and of the end of the last. Entries are weak: a filter that is closed
 * takes them along, since the graph may change while somebody else is still waited for.
 *
 * Whoever ends an export, or closes a node, does not even want the results: drivers whose storage may be away are told
 * whose requests those are, each time. A drain does not do that: those who sent the requests still want them. */
#include "blockcore/graph/layout.h"

#include "blockcore/base/memory.h"

struct haste_entry {
    struct list in_haste;
    struct list in_node;
    struct node *node; /* weak */
};

static void entry_free(struct haste_entry *entry)
{
    list_remove(&entry->in_haste);
    list_remove(&entry->in_node);
    free(entry);
}

static void hasten(struct haste *haste, struct node *node)
{
    struct haste_entry *entry = xmalloc(sizeof(*entry));
    entry->node = node;
    bool first = list_empty(&node->hastened);
    list_append(&haste->entries, &entry->in_haste);
    list_append(&node->hastened, &entry->in_node);
    if (first && node->driver->hasten)
        node->driver->hasten(node, true);
    if (haste->owner && node->driver->abandon)
        node->driver->abandon(node, haste->owner, true);
}

static void reach(struct haste *haste, struct node *node);

static void reach_children(struct haste *haste, const struct node *node)
{
    struct child *edge;
    list_for_each (edge, &node->children, in_parent)
        reach(haste, edge->node);
}

static void reach(struct haste *haste, struct node *node)
{
    if (node->visit == graph.visit)
        return;
    node->visit = graph.visit;
    if (node->driver->hasten || (node->driver->abandon && haste->owner))
        hasten(haste, node);
    reach_children(haste, node);
}

void haste_begin_for(struct haste *haste, uint64_t owner)
{
    list_init(&haste->entries);
    haste->owner = owner;
    graph.visit++;
}

void haste_begin(struct haste *haste)
{
    haste_begin_for(haste, 0);
}

void haste_from(struct haste *haste, struct node *node)
{
    if (graph.hastening_nodes > 0)
        reach(haste, node);
}

void haste_below(struct haste *haste, const struct node *node)
{
    if (graph.hastening_nodes > 0)
        reach_children(haste, node);
}

void haste_end(struct haste *haste)
{
    while (!list_empty(&haste->entries)) {
        struct haste_entry *entry = list_first(&haste->entries, struct haste_entry, in_haste);
        struct node *node = entry->node;
        entry_free(entry);
        if (haste->owner && node->driver->abandon)
            node->driver->abandon(node, haste->owner, false);
        if (list_empty(&node->hastened) && node->driver->hasten)
            node->driver->hasten(node, false);
    }
}

void haste_forget(struct node *node)
{
    while (!list_empty(&node->hastened))
        entry_free(list_first(&node->hastened, struct haste_entry, in_node));
}
