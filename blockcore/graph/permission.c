#include "blockcore/graph/child.h"
#include "blockcore/graph/layout.h"

#include "blockcore/base/memory.h"

#include <assert.h>

/* The journal of one change of permissions: what each edge had before, so that it can be put back, and the nodes whose
 * files' locks have to follow. Claims only tighten and releases only relax, so each edge is visited a bounded number of
 * times, also where paths meet again. */

struct journal_entry {
    struct child *edge;
    unsigned perm;
    unsigned shared;
};

struct journal {
    bool unchecked; /* nothing is checked, nothing can fail */
    bool hidden;    /* requests do not see it */
    const struct change *without;
    struct journal_entry *entries;
    size_t entries_count;
    struct node **to_lock; /* with a reference each */
    size_t to_lock_count;
};

/* Of a node. */
struct needs {
    unsigned perm;
    unsigned shared;
};

static const char *const permission_names[PERM_BITS] = { "consistent read", "write", "write unchanged", "resize" };

const char *permission_name(enum permission permission)
{
    for (unsigned bit = 0; bit < PERM_BITS; bit++) {
        if ((unsigned)permission == 1u << bit)
            return permission_names[bit];
    }
    return "unknown";
}

struct journal *journal_begin(void)
{
    return xcalloc(1, sizeof(struct journal));
}

/* Adds (@delta 1) or removes (-1) the edge in its node's counters. */
static void count_edge(const struct child *edge, int delta)
{
    struct node *node = edge->node;
    for (unsigned bit = 0; bit < PERM_BITS; bit++) {
        if (edge->perm & (1u << bit))
            node->holders[bit] += (unsigned)delta;
        if (!(edge->shared & (1u << bit)))
            node->refusers[bit] += (unsigned)delta;
    }
}

static void edge_put(struct child *edge, unsigned perm, unsigned shared)
{
    count_edge(edge, -1);
    edge->perm = perm;
    edge->shared = shared;
    count_edge(edge, 1);
}

static unsigned cumulative_perm(const struct node *node)
{
    unsigned perm = 0;
    for (unsigned bit = 0; bit < PERM_BITS; bit++)
        perm |= node->holders[bit] ? 1u << bit : 0;
    return perm;
}

unsigned node_permissions_held(const struct node *node)
{
    return cumulative_perm(node);
}

static unsigned cumulative_shared(const struct node *node)
{
    unsigned shared = PERM_ALL;
    for (unsigned bit = 0; bit < PERM_BITS; bit++)
        shared &= node->refusers[bit] ? ~(1u << bit) : PERM_ALL;
    return shared;
}

static bool edges_conflict(const struct child *a, const struct child *b)
{
    if (a->twin == b)
        return false;
    return (a->perm & ~b->shared) || (b->perm & ~a->shared);
}

/* Cheap answer for the usual case: do the counters alone show that nobody minds? */
static bool counters_conflict(const struct child *edge)
{
    const struct node *node = edge->node;
    for (unsigned bit = 0; bit < PERM_BITS; bit++) {
        bool holds = edge->perm & (1u << bit);
        bool refuses = !(edge->shared & (1u << bit));
        if (holds && node->refusers[bit] > (refuses ? 1 : 0))
            return true;
        if (refuses && node->holders[bit] > (holds ? 1 : 0))
            return true;
    }
    return false;
}

static struct error *conflict_error(const struct child *edge, const struct child *other)
{
    CLEANUP(free) char *user = child_user(edge);
    CLEANUP(free) char *holder = child_user(other);
    unsigned refused = edge->perm & ~other->shared;
    if (refused)
        return error_new("%s needs permission '%s' on node '%s', which %s does not share", user,
                         permission_name(refused & -refused), edge->node->name, holder);
    unsigned held = other->perm & ~edge->shared;
    return error_new("%s does not share permission '%s' on node '%s', which %s holds", user,
                     permission_name(held & -held), edge->node->name, holder);
}

static struct error *check_conflicts(const struct child *edge)
{
    if (!counters_conflict(edge))
        return NULL;
    const struct child *other = NULL;
    while ((other = node_parent_next(edge->node, other))) {
        if (other != edge && edges_conflict(edge, other))
            return conflict_error(edge, other);
    }
    return NULL;
}

static struct error *check_read_only(const struct child *edge)
{
    const struct node *node = edge->node;
    unsigned writes = edge->perm & (PERM_WRITE | PERM_WRITE_UNCHANGED | PERM_RESIZE);
    const struct node_settings *set = edge_is_for_next(node, edge) ? &node->next : &node->set;
    /* Who comes while a node is about to refuse writes, comes too late. */
    bool comes = node->reopening && edge->perm & ~edge->granted;
    bool read_only = set->read_only || (comes && node->next.read_only);
    bool inactive = set->inactive || (comes && node->next.inactive);
    if (!writes || !(read_only || inactive))
        return NULL;
    CLEANUP(free) char *user = child_user(edge);
    return error_new("%s needs permission '%s', but node '%s' is %s", user, permission_name(writes & -writes),
                     edge->node->name, inactive ? "inactive" : "read-only");
}

/* The rules of the roles; the same as in QEMU, so that images are locked as QEMU would lock them. */
void permissions_of_role(const struct node *node, const struct child *edge, unsigned perm, unsigned shared,
                         unsigned *edge_perm, unsigned *edge_shared)
{
    *edge_perm = perm;
    *edge_shared = shared;
    if (edge->role & CHILD_BACKING) {
        /* An overlay never writes what it stands on; others may, if the overlay's users do not mind changing bytes. */
        *edge_perm = perm & PERM_CONSISTENT_READ;
        *edge_shared = PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED;
        if (shared & PERM_WRITE)
            *edge_shared |= PERM_WRITE | PERM_RESIZE;
    } else if (edge->role & CHILD_METADATA) {
        /* Tables are read always and written whenever the node may: nobody else may move them meanwhile. */
        *edge_perm |= PERM_CONSISTENT_READ;
        if (!node_is_read_only_for(node, edge))
            *edge_perm |= PERM_WRITE | PERM_RESIZE;
        *edge_shared &= ~(unsigned)(PERM_WRITE | PERM_RESIZE);
    }
}

void edge_wanted(const struct node *node, const struct child *edge, unsigned *perm, unsigned *shared)
{
    unsigned node_perm = cumulative_perm(node);
    unsigned node_shared = cumulative_shared(node);
    if (node->driver->child_permissions)
        node->driver->child_permissions(node, edge, node_perm, node_shared, perm, shared);
    else
        permissions_of_role(node, edge, node_perm, node_shared, perm, shared);
    const struct node_settings *set = edge_is_for_next(node, edge) ? &node->next : &node->set;
    if (set->force_share || set->inactive) {
        *perm &= PERM_CONSISTENT_READ;
        *shared = PERM_ALL;
    }
}

static void remember_to_lock(struct journal *journal, struct node *node)
{
    if (!node->driver->set_permissions)
        return;
    for (size_t i = 0; i < journal->to_lock_count; i++) {
        if (journal->to_lock[i] == node)
            return;
    }
    journal->to_lock = xrealloc_array(journal->to_lock, journal->to_lock_count + 1, sizeof(struct node *));
    journal->to_lock[journal->to_lock_count++] = node_ref(node);
}

static void remember(struct journal *journal, struct child *edge)
{
    journal->entries = xrealloc_array(journal->entries, journal->entries_count + 1, sizeof(struct journal_entry));
    journal->entries[journal->entries_count++] =
        (struct journal_entry){ .edge = edge, .perm = edge->perm, .shared = edge->shared };
    remember_to_lock(journal, edge->node);
}

static struct error *check_edge(const struct child *edge)
{
    struct error *err = check_read_only(edge);
    return err ? err : check_conflicts(edge);
}

static struct error *set_edge(struct journal *journal, struct child *edge, unsigned perm, unsigned shared);

/* What follows for edges below @node. */
static struct error *set_edges(struct journal *journal, const struct node *node, const struct list *edges)
{
    struct error *err = NULL;
    struct child *edge;
    list_for_each (edge, edges, in_parent) {
        if (err)
            break;
        if (edge->leaving && edge->leaving == journal->without)
            continue;
        unsigned perm;
        unsigned shared;
        edge_wanted(node, edge, &perm, &shared);
        err = set_edge(journal, edge, perm, shared);
    }
    return err;
}

static struct error *set_edge(struct journal *journal, struct child *edge, unsigned perm, unsigned shared)
{
    if (edge->perm == perm && edge->shared == shared)
        return NULL;
    remember(journal, edge);
    edge_put(edge, perm, shared);
    struct error *err = journal->unchecked ? NULL : check_edge(edge);
    if (!err)
        err = set_edges(journal, edge->node, &edge->node->children);
    if (!err)
        err = set_edges(journal, edge->node, &edge->node->claims);
    return err;
}

void journal_without(struct journal *journal, const struct change *change)
{
    journal->without = change;
}

void journal_touch(struct journal *journal, struct node *node)
{
    remember_to_lock(journal, node);
}

void journal_hide(struct journal *journal)
{
    journal->hidden = true;
}

void journal_publish(struct journal *journal)
{
    journal->hidden = false;
    for (size_t i = 0; i < journal->entries_count; i++)
        atomic_store_explicit(&journal->entries[i].edge->granted, journal->entries[i].edge->perm, memory_order_relaxed);
}

static void publish_unless_hidden(struct journal *journal)
{
    if (!journal->hidden)
        journal_publish(journal);
}

struct error *journal_set(struct journal *journal, struct child *edge, unsigned perm, unsigned shared)
{
    struct error *err = set_edge(journal, edge, perm, shared);
    if (err)
        journal_undo(journal);
    else
        publish_unless_hidden(journal);
    return err;
}

void journal_force(struct journal *journal, struct child *edge, unsigned perm, unsigned shared)
{
    journal->unchecked = true;
    error_free(set_edge(journal, edge, perm, shared));
    journal->unchecked = false;
    publish_unless_hidden(journal);
}

void journal_relax(struct journal *journal, struct child *edge)
{
    journal_force(journal, edge, 0, PERM_ALL);
}

void journal_undo(struct journal *journal)
{
    journal->hidden = false;
    journal->without = NULL;
    while (journal->entries_count > 0) {
        struct journal_entry *entry = &journal->entries[--journal->entries_count];
        edge_put(entry->edge, entry->perm, entry->shared);
        atomic_store_explicit(&entry->edge->granted, entry->perm, memory_order_relaxed);
    }
}

static bool shares_all(const struct node_settings *set)
{
    return set->force_share || set->inactive;
}

/* Another node on the same file, whose locks are in the way. */
static const struct node *find_rival(const struct node *node, unsigned perm, unsigned shared)
{
    for (const struct node *other = node_next(NULL); other; other = node_next(other)) {
        if (other != node && other->driver->kind == DRIVER_PROTOCOL && other->identified &&
            other->device == node->device && other->inode == node->inode &&
            ((perm & ~other->locked_shared) || (other->locked_perm & ~shared)))
            return other;
    }
    return NULL;
}

/* The user of @rival for whose sake it has these locks; NULL: it has gone meanwhile. The caller frees it. */
static char *rival_user(const struct node *rival, unsigned perm, unsigned shared)
{
    for (const struct child *edge = NULL; (edge = node_parent_next(rival, edge));) {
        if ((perm & ~edge->shared) || (edge->perm & ~shared))
            return child_user(edge);
    }
    return NULL;
}

/* Locks do not tell who has them, but our own nodes are known. An error that is no conflict has a number. */
static struct error *name_rival(struct error *err, const struct node *node, unsigned perm, unsigned shared)
{
    bool conflict = node->driver->kind == DRIVER_PROTOCOL && node->identified && !error_errnum(err);
    const struct node *rival = conflict ? find_rival(node, perm, shared) : NULL;
    if (!rival)
        return err;
    unsigned refused = perm & ~rival->locked_shared;
    unsigned held = rival->locked_perm & ~shared;
    CLEANUP(free) char *user = rival_user(rival, perm, shared);
    error_free(err);
    return error_new("'%s' is in use: node '%s'%s%s%s %s permission '%s'", node_filename(node), rival->name,
                     user ? ", used by " : "", user ? user : "", user ? "," : "",
                     refused ? "does not share" : "holds, and would have to share,",
                     permission_name(refused ? refused & -refused : held & -held));
}

static struct error *set_locks(struct node *node, unsigned perm, unsigned shared) CO_FN;

static struct error *set_locks(struct node *node, unsigned perm, unsigned shared)
{
    if (perm == node->locked_perm && shared == node->locked_shared)
        return NULL;
    struct error *err = node->driver->set_permissions(node, perm, shared);
    if (!err) {
        node->locked_perm = perm;
        node->locked_shared = shared;
    }
    return err ? name_rival(err, node, perm, shared) : NULL;
}

/* The locks follow what is needed *now*, which other commands may have changed since: each command ends with a
 * call of this, so the last one leaves them right. What is needed now may be too much for what another command wants
 * and will not get: then what @own needs, beside what is locked already, is enough for this one. */
static struct error *node_sync_locks(struct node *node, const struct needs *own) CO_FN;

static struct error *node_sync_locks(struct node *node, const struct needs *own)
{
    co_mutex_lock(&node->locking);
    bool share_all = shares_all(&node->set) && !(node->reopening && !shares_all(&node->next));
    unsigned perm = cumulative_perm(node);
    unsigned shared = share_all ? PERM_ALL : cumulative_shared(node);
    struct error *err = set_locks(node, perm, shared);
    unsigned own_perm = node->locked_perm | own->perm;
    unsigned own_shared = share_all ? PERM_ALL : node->locked_shared & own->shared;
    if (err && (own_perm != perm || own_shared != shared)) {
        struct error *own_err = set_locks(node, own_perm, own_shared);
        error_free(own_err ? own_err : err);
        err = own_err ? err : NULL;
    }
    co_mutex_unlock(&node->locking);
    return err;
}

/* What the edges of the journal need of each node to lock, as they are now. */
static struct needs *needs_of(const struct journal *journal)
{
    struct needs *needs = xcalloc(journal->to_lock_count, sizeof(*needs));
    for (size_t i = 0; i < journal->to_lock_count; i++) {
        needs[i].shared = PERM_ALL;
        for (size_t j = 0; j < journal->entries_count; j++) {
            const struct child *edge = journal->entries[j].edge;
            if (edge->node == journal->to_lock[i]) {
                needs[i].perm |= edge->perm;
                needs[i].shared &= edge->shared;
            }
        }
    }
    return needs;
}

struct error *journal_sync(struct journal *journal)
{
    CLEANUP(free) struct needs *needs = needs_of(journal);
    /* While locks are awaited edges come and go: from here on nothing is undone step by step. */
    journal->entries_count = 0;
    struct error *err = NULL;
    for (size_t i = 0; i < journal->to_lock_count && !err; i++)
        err = error_wrap(node_sync_locks(journal->to_lock[i], &needs[i]), "node '%s'", journal->to_lock[i]->name);
    return err;
}

void journal_end(struct journal *journal)
{
    for (size_t i = 0; i < journal->to_lock_count; i++)
        node_unref(journal->to_lock[i]);
    free(journal->to_lock);
    free(journal->entries);
    free(journal);
}

struct error *edge_claim(struct child *edge, unsigned perm, unsigned shared)
{
    struct journal *journal = journal_begin();
    struct error *err = journal_set(journal, edge, perm, shared);
    if (!err) {
        err = journal_sync(journal);
        if (err) {
            /* Not journal_undo: while the locks were awaited, others may have changed what is below. */
            journal_relax(journal, edge);
            error_free(journal_sync(journal));
        }
    }
    journal_end(journal);
    return err;
}

void edge_release(struct child *edge)
{
    if (edge->leaving)
        change_forget(edge->leaving, edge);
    struct journal *journal = journal_begin();
    journal_relax(journal, edge);
    struct node *node = edge_detach(edge);
    /* Giving locks up can only fail where the file is lost anyway. */
    error_free(journal_sync(journal));
    journal_end(journal);
    node_unref(node);
}

struct error *child_update_permissions(struct child *child)
{
    struct journal *journal = journal_begin();
    unsigned perm;
    unsigned shared;
    edge_wanted(child->parent, child, &perm, &shared);
    struct error *err = journal_set(journal, child, perm, shared);
    if (!err)
        err = journal_sync(journal);
    journal_end(journal);
    return err;
}
