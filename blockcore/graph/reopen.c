#include "blockcore/graph/reopen.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/flush.h"
#include "blockcore/graph/inherit.h"
#include "blockcore/graph/options.h"

#include <string.h>

/* What a child is going to be. */
struct target {
    char *name;
    unsigned role;
    struct node *node; /* with a reference; NULL: gone */
};

/* One node that is reopened. */
struct reopen {
    struct list link; /* in the set's entries */
    struct reopen_set *set;
    struct node *node;                    /* with a reference */
    const struct blockdev_options *given; /* as the command has them, or the node remembers */
    struct inherited inherited;           /* what counts */
    struct node_settings settings;
    struct target *targets; /* what prepare said of children */
    size_t targets_count;
    void *state;
    bool keeps_children; /* whatever the options say of them */
    bool prepared;
    bool entered;
    bool over; /* committed or aborted */
};

struct reopen_set {
    struct change *change;
    struct list entries;
};

void reopen_set_state(struct reopen *reopen, void *state)
{
    reopen->state = state;
}

void *reopen_state(const struct reopen *reopen)
{
    return reopen->state;
}

bool reopen_read_only(const struct reopen *reopen)
{
    return reopen->settings.read_only || reopen->settings.inactive;
}

bool reopen_auto_read_only(const struct reopen *reopen)
{
    return reopen->settings.auto_read_only;
}

bool reopen_cache_direct(const struct reopen *reopen)
{
    return reopen->settings.cache_direct;
}

bool reopen_cache_no_flush(const struct reopen *reopen)
{
    return reopen->settings.cache_no_flush;
}

bool reopen_unmap(const struct reopen *reopen)
{
    return reopen->settings.unmap;
}

void reopen_set_read_only(struct reopen *reopen)
{
    reopen->settings.read_only = true;
}

static struct reopen *find_entry(const struct reopen_set *set, const struct node *node)
{
    struct reopen *entry;
    list_for_each (entry, &set->entries, link) {
        if (entry->node == node)
            return entry;
    }
    return NULL;
}

static struct error *check_free(const struct node *node)
{
    if (node->in_reopen)
        return error_new("node '%s' is given twice, or is being reopened by another command", node->name);
    if (node->changing_children > 0)
        return error_new("node '%s' is getting or losing a child", node->name);
    return NULL;
}

/* @parent: whose options describe the node, what they do not say is inherited from; NULL: none. */
static struct reopen *add_entry(struct reopen_set *set, struct node *node, const struct blockdev_options *given,
                                const struct reopen *parent)
{
    struct reopen *entry = xcalloc(1, sizeof(*entry));
    entry->set = set;
    entry->node = node_ref(node);
    node->in_reopen = true;
    entry->given = given;
    if (parent)
        options_inherit(&entry->inherited, given, &parent->inherited.options, parent->settings.read_only,
                        node->made_as);
    else
        entry->inherited.options = *given;
    entry->settings = settings_of(&entry->inherited.options);
    entry->settings.inactive = node->set.inactive; /* blockdev-set-active says when that changes */
    list_append(&set->entries, &entry->link);
    return entry;
}

/* Children ---------------------------------------------------------------------------------------------------- */

static void add_target(struct reopen *entry, const char *name, unsigned role, struct node *node)
{
    entry->targets = xrealloc_array(entry->targets, entry->targets_count + 1, sizeof(struct target));
    entry->targets[entry->targets_count++] =
        (struct target){ .name = xstrdup(name), .role = role, .node = node ? node_ref(node) : NULL };
}

static struct error *prepare(struct reopen *entry) CO_FN;

/* The child stays; if its parent's options described it, it may get others with them. */
static struct error *follow_parent(struct reopen *entry, struct child *child) CO_FN;

static struct error *follow_parent(struct reopen *entry, struct child *child)
{
    struct node *node = child->node;
    if (node->made_with != entry->node->serial || !node->given || find_entry(entry->set, node))
        return NULL;
    struct inherited inherited = { 0 };
    options_inherit(&inherited, node->given, &entry->inherited.options, entry->settings.read_only, node->made_as);
    struct node_settings settings = settings_of(&inherited.options);
    settings.inactive = node->set.inactive;
    /* A fall-back that happened is not a difference. */
    settings.read_only = settings.read_only || (settings.auto_read_only && node->set.read_only);
    if (settings_equal(&settings, &node->set))
        return NULL;
    struct error *err = check_free(node);
    return err ? err : prepare(add_entry(entry->set, node, node->given, entry));
}

static struct error *reopen_described(struct reopen *entry, const char *name, struct child *child,
                                      const struct blockdev_options *options) CO_FN;

static struct error *reopen_described(struct reopen *entry, const char *name, struct child *child,
                                      const struct blockdev_options *options)
{
    if (!child)
        return error_new("%s: only an existing node can become a child of a node that is reopened", name);
    struct node *node = child->node;
    if (node->made_with != entry->node->serial)
        return error_new("%s: node '%s' was not described inside node '%s'; give its name", name, node->name,
                         entry->node->name);
    if (options->node_name && strcmp(options->node_name, node->name) != 0)
        return error_new("%s: Cannot change the option 'node-name'", name);
    struct error *err = check_free(node);
    if (err)
        return error_wrap(err, "%s", name);
    add_target(entry, name, child->role, node);
    return error_wrap(prepare(add_entry(entry->set, node, options, entry)), "%s", name);
}

static struct error *reopen_named(struct reopen *entry, const char *name, unsigned role, struct child *child,
                                  const char *node_name) CO_FN;

static struct error *reopen_named(struct reopen *entry, const char *name, unsigned role, struct child *child,
                                  const char *node_name)
{
    struct node *node = node_find(node_name);
    if (!node)
        return error_wrap(node_not_found(node_name), "%s", name);
    add_target(entry, name, role, node);
    if (child && child->node == node)
        return follow_parent(entry, child);
    struct child *added;
    if (child)
        return change_edge(entry->set->change, child, node);
    return change_add(entry->set->change, entry->node, name, role, node, &added);
}

static struct error *keep_child(struct reopen *reopen, const char *name, struct child *child) CO_FN;

static struct error *keep_child(struct reopen *reopen, const char *name, struct child *child)
{
    add_target(reopen, name, child ? child->role : CHILD_BACKING, child ? child->node : NULL);
    return child ? follow_parent(reopen, child) : NULL;
}

struct error *reopen_child(struct reopen *reopen, const char *name, const struct blockdev_ref *ref)
{
    struct child *child = node_child(reopen->node, name);
    if (reopen->keeps_children && child)
        return keep_child(reopen, name, child);
    if (!ref || !child)
        return error_new("%s is missing for '%s'", name, reopen->node->name);
    if (ref->kind == BLOCKDEV_REF_KIND_DEFINITION)
        return reopen_described(reopen, name, child, ref->u.definition);
    return reopen_named(reopen, name, child->role, child, ref->u.reference);
}

struct error *reopen_same_child(struct reopen *reopen, const char *name, const struct blockdev_ref *ref)
{
    const struct child *child = node_child(reopen->node, name);
    if (!reopen->keeps_children && ref && child && ref->kind == BLOCKDEV_REF_KIND_REFERENCE &&
        node_find(ref->u.reference) != child->node)
        return error_new("Cannot change the option '%s'", name);
    return reopen_child(reopen, name, ref);
}

struct error *reopen_backing(struct reopen *reopen, const struct blockdev_ref_or_null *ref)
{
    struct child *child = reopen->node->backing;
    if (reopen->keeps_children)
        return keep_child(reopen, "backing", child);
    if (!ref && child)
        return error_new("backing is missing for '%s'", reopen->node->name);
    if (!ref) {
        add_target(reopen, "backing", CHILD_BACKING, NULL);
        return NULL;
    }
    if (ref->kind == BLOCKDEV_REF_OR_NULL_KIND_DEFINITION)
        return reopen_described(reopen, "backing", child, ref->u.definition);
    if (ref->kind == BLOCKDEV_REF_OR_NULL_KIND_REFERENCE && ref->u.reference[0])
        return reopen_named(reopen, "backing", CHILD_BACKING, child, ref->u.reference);
    add_target(reopen, "backing", CHILD_BACKING, NULL);
    return child ? change_remove(reopen->set->change, child) : NULL;
}

/* What may change --------------------------------------------------------------------------------------------- */

static bool is_in(const char *const *list, const char *name, size_t length)
{
    for (; list && *list; list++) {
        if (strlen(*list) == length && strncmp(*list, name, length) == 0)
            return true;
    }
    return false;
}

static bool is_child(const struct reopen *entry, const char *name, size_t length)
{
    for (size_t i = 0; i < entry->targets_count; i++) {
        if (strlen(entry->targets[i].name) == length && strncmp(entry->targets[i].name, name, length) == 0)
            return true;
    }
    return false;
}

static struct error *check_changes(const struct reopen *entry)
{
    /* These are the graph's own. */
    static const char *const settings[] = { "node-name",      "discard",     "cache",         "active", "read-only",
                                            "auto-read-only", "force-share", "detect-zeroes", NULL };
    const struct options_service *service = options_service();
    if (!service->diff || !entry->node->given)
        return NULL;
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    const char *const *paths;
    size_t count = 0;
    struct error *err = service->diff(entry->node->given, entry->given, &arena, &paths, &count);
    for (size_t i = 0; i < count && !err; i++) {
        size_t length = strcspn(paths[i], ".[");
        bool may = is_in(settings, paths[i], length) || is_child(entry, paths[i], length) ||
                   is_in(entry->node->driver->reopenable, paths[i], length);
        if (!may)
            err = error_new("Cannot change the option '%s'", paths[i]);
    }
    arena_fini(&arena);
    return err;
}

static struct error *prepare(struct reopen *entry)
{
    const struct blockdev_options *options = &entry->inherited.options;
    const struct driver *driver = entry->node->driver;
    if (strcmp(blockdev_driver_name(options->driver), driver->name) != 0)
        return error_new("Cannot change the option 'driver'");
    struct error *err = settings_check(options);
    if (err)
        return err;
    if (!driver->reopen_prepare)
        return error_new("Block format '%s' used by node '%s' does not support reopening files", driver->name,
                         entry->node->name);
    entry->prepared = true;
    err = driver->reopen_prepare(entry->node, options, entry);
    return err ? err : check_changes(entry);
}

/* Together ---------------------------------------------------------------------------------------------------- */

static bool will_be_read_only(const struct reopen_set *set, const struct node *node);

/* A parent falls back when what it stands on does, as when it is opened. */
static bool child_is_read_only(const struct reopen *entry)
{
    for (size_t i = 0; i < entry->targets_count; i++) {
        const struct target *target = &entry->targets[i];
        if (target->node && !(target->role & CHILD_BACKING) && will_be_read_only(entry->set, target->node))
            return true;
    }
    return false;
}

static bool will_be_read_only(const struct reopen_set *set, const struct node *node)
{
    struct reopen *entry = find_entry(set, node);
    if (!entry)
        return node->set.read_only;
    if (entry->settings.auto_read_only && !entry->settings.read_only)
        entry->settings.read_only = child_is_read_only(entry);
    return entry->settings.read_only;
}

static struct error *describe_settings(struct reopen_set *set)
{
    struct error *err = NULL;
    struct reopen *entry;
    list_for_each (entry, &set->entries, link) {
        (void)will_be_read_only(set, entry->node);
        if (!err)
            err = change_settings(set->change, entry->node, &entry->settings, entry->state);
    }
    return err;
}

static bool stops_writing(const struct reopen *entry)
{
    return entry->settings.read_only && !entry->node->set.read_only;
}

static struct error *flush_node(struct node *node) CO_FN;

static struct error *flush_node(struct node *node)
{
    int ret = node_flush(node);
    return ret < 0 ? error_errno(-ret, "node '%s': cannot be flushed before it becomes read-only", node->name) : NULL;
}

/* While requests run, so that little is left to do when they are held back. */
static struct error *flush_early(struct reopen_set *set) CO_FN;

static struct error *flush_early(struct reopen_set *set)
{
    struct error *err = NULL;
    struct reopen *entry;
    list_for_each (entry, &set->entries, link) {
        if (!err && stops_writing(entry))
            err = node_flush_in_use(entry->node, "blockdev-reopen");
    }
    return err;
}

static struct error *leave_all(void *arg) CO_FN;

static struct error *leave_all(void *arg)
{
    struct reopen_set *set = arg;
    struct error *err = NULL;
    struct reopen *entry;
    list_for_each (entry, &set->entries, link) {
        const struct driver *driver = entry->node->driver;
        if (!err && stops_writing(entry))
            err = flush_node(entry->node);
        if (!err && driver->reopen_leave)
            err = error_wrap(driver->reopen_leave(entry->node, entry), "node '%s'", entry->node->name);
    }
    return err;
}

static struct error *enter_all(void *arg) CO_FN;

static struct error *enter_all(void *arg)
{
    struct reopen_set *set = arg;
    struct error *err = NULL;
    struct reopen *entry;
    list_for_each (entry, &set->entries, link) {
        if (!err && entry->node->driver->reopen_enter)
            err = error_wrap(entry->node->driver->reopen_enter(entry->node, entry), "node '%s'", entry->node->name);
        entry->entered = !err;
    }
    return err;
}

static void undo_entered(void *arg) CO_FN;

static void undo_entered(void *arg)
{
    struct reopen_set *set = arg;
    for (struct list *link = set->entries.prev; link != &set->entries; link = link->prev) {
        struct reopen *entry = list_entry(link, struct reopen, link);
        if (entry->entered && entry->node->driver->reopen_undo)
            entry->node->driver->reopen_undo(entry->node, entry);
    }
}

static void abort_all(void *arg) CO_FN;

static void abort_all(void *arg)
{
    struct reopen_set *set = arg;
    struct reopen *entry;
    list_for_each (entry, &set->entries, link) {
        const struct driver *driver = entry->node->driver;
        if (entry->prepared && !entry->over && driver->reopen_abort)
            driver->reopen_abort(entry->node, entry);
        entry->over = true;
    }
}

static void commit_all(void *arg)
{
    struct reopen_set *set = arg;
    struct reopen *entry;
    list_for_each (entry, &set->entries, link) {
        if (entry->node->driver->reopen_commit)
            entry->node->driver->reopen_commit(entry->node, entry);
        /* A child that follows its parent has them already. */
        if (entry->given != entry->node->given && !entry->keeps_children)
            node_remember_options(entry->node, entry->given);
        entry->over = true;
    }
}

static void end_all(struct reopen_set *set) CO_FN;

static void end_all(struct reopen_set *set)
{
    struct reopen *entry;
    list_for_each (entry, &set->entries, link) {
        if (entry->node->driver->reopen_end)
            entry->node->driver->reopen_end(entry->node, entry);
    }
}

static void set_fini(struct reopen_set *set) CO_FN;

static void set_fini(struct reopen_set *set)
{
    struct list *link;
    while ((link = list_take_first(&set->entries))) {
        struct reopen *entry = list_entry(link, struct reopen, link);
        for (size_t i = 0; i < entry->targets_count; i++) {
            node_unref(entry->targets[i].node);
            free(entry->targets[i].name);
        }
        free(entry->targets);
        entry->node->in_reopen = false;
        node_unref(entry->node);
        free(entry);
    }
}

static struct error *add_named(struct reopen_set *set, const struct blockdev_options *options)
{
    if (!options->node_name)
        return error_new("node-name not specified");
    struct node *node = node_find(options->node_name);
    if (!node)
        return node_not_found(options->node_name);
    struct error *err = check_free(node);
    if (!err && node->owner)
        err = error_new("node '%s' belongs to %s", node->name, node->owner);
    if (!err)
        add_entry(set, node, options, NULL);
    return err;
}

/* Entries that come meanwhile are prepared where they come from. */
static struct error *prepare_all(struct reopen_set *set, const struct blockdev_options *options, size_t count) CO_FN;

static struct error *prepare_all(struct reopen_set *set, const struct blockdev_options *options, size_t count)
{
    struct error *err = NULL;
    for (size_t i = 0; i < count && !err; i++)
        err = add_named(set, &options[i]);
    for (size_t i = 0; i < count && !err; i++) {
        struct node *node = node_find(options[i].node_name);
        struct reopen *entry = node ? find_entry(set, node) : NULL;
        err = entry ? error_wrap(prepare(entry), "node '%s'", node->name) : node_not_found(options[i].node_name);
    }
    return err;
}

/* What is below comes first: a file has its other descriptor before the image in it is written. Requests go the other
 * way, but none runs. */
static void sort_entries(struct reopen_set *set)
{
    struct list unsorted;
    list_init(&unsorted);
    struct list *link;
    while ((link = list_take_first(&set->entries)))
        list_append(&unsorted, link);
    while ((link = list_take_first(&unsorted))) {
        const struct node *node = list_entry(link, struct reopen, link)->node;
        struct list *after = set->entries.prev;
        while (after != &set->entries && list_entry(after, struct reopen, link)->node->height > node->height)
            after = after->prev;
        list_prepend(after, link);
    }
}

static void set_init(struct reopen_set *set)
{
    static const struct change_owner owner = {
        .before = leave_all, .try_new = enter_all, .undo_new = undo_entered, .failed = abort_all, .done = commit_all
    };
    set->change = change_begin();
    list_init(&set->entries);
    change_add_owner(set->change, &owner, set);
}

/* @err: of preparing the entries. */
static struct error *make_it_so(struct reopen_set *set, struct error *err) CO_FN;

static struct error *make_it_so(struct reopen_set *set, struct error *err)
{
    if (!err)
        err = flush_early(set);
    if (!err)
        err = describe_settings(set);
    sort_entries(set);
    if (err) {
        abort_all(set);
        change_abort(set->change);
    } else {
        change_may_be_cancelled(set->change);
        err = change_commit(set->change);
        if (err)
            abort_all(set);
        else
            end_all(set);
    }
    set_fini(set);
    return err;
}

struct error *blockdev_reopen(const struct blockdev_options *options, size_t count)
{
    struct reopen_set set;
    set_init(&set);
    struct error *err = prepare_all(&set, options, count);
    return make_it_so(&set, err);
}

/* What counts for the node now, whoever said so. */
static void options_now(struct inherited *inherited, const struct node *node, bool read_only)
{
    struct blockdev_options *options = &inherited->options;
    *options = *node->given;
    options->has_read_only = true;
    options->read_only = read_only;
    options->has_auto_read_only = true;
    options->auto_read_only = node->set.auto_read_only;
    options->has_discard = true;
    options->discard = node->set.unmap ? BLOCKDEV_DISCARD_OPTIONS_UNMAP : BLOCKDEV_DISCARD_OPTIONS_IGNORE;
    options->has_force_share = true;
    options->force_share = node->set.force_share && read_only;
    inherited->cache = (struct blockdev_cache_options){
        .has_direct = true,
        .direct = node->set.cache_direct,
        .has_no_flush = true,
        .no_flush = node->set.cache_no_flush,
    };
    options->cache = &inherited->cache;
}

static struct error *reopen_as(struct node *node, bool read_only) CO_FN;

static struct error *reopen_as(struct node *node, bool read_only)
{
    if (!node->given)
        return error_new("the options of node '%s' are not known any more", node->name);
    struct error *err = check_free(node);
    if (err)
        return err;
    struct reopen_set set;
    set_init(&set);
    struct inherited now;
    options_now(&now, node, read_only);
    struct reopen *entry = add_entry(&set, node, node->given, NULL);
    entry->inherited.cache = now.cache;
    entry->inherited.options = now.options;
    entry->inherited.options.cache = &entry->inherited.cache;
    entry->settings = node->set;
    entry->settings.read_only = read_only;
    entry->settings.force_share = now.options.force_share;
    entry->keeps_children = true;
    return make_it_so(&set, error_wrap(prepare(entry), "node '%s'", node->name));
}

struct error *node_reopen_writable(struct node *node)
{
    return reopen_as(node, false);
}

struct error *node_reopen_read_only(struct node *node)
{
    return reopen_as(node, true);
}
