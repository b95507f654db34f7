/* Chains of overlays, as jobs see them: layers, with filters in between. */
#include "blockcore/base/memory.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/inner.h"
#include "blockcore/graph/notice.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/jobs/chain_copy.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/pool.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct node *layer_of(struct node *node)
{
    while (node && node_driver(node)->kind == DRIVER_FILTER && node_filtered(node))
        node = child_node(node_filtered(node));
    return node;
}

static struct node *below(const struct node *layer)
{
    return node_backing(layer) ? layer_of(child_node(node_backing(layer))) : NULL;
}

/* A relative name is one that an overlay has for its backing file: from its own folder. */
static bool is_called(const struct node *layer, const struct node *overlay, const char *name)
{
    const char *filename = node_filename(layer);
    if (strcmp(filename, name) == 0)
        return true;
    const char *slash = overlay ? strrchr(node_filename(overlay), '/') : NULL;
    if (!slash || name[0] == '/')
        return false;
    CLEANUP(free)
    char *whole = xasprintf("%.*s/%s", (int)(slash - node_filename(overlay)), node_filename(overlay), name);
    return strcmp(filename, whole) == 0;
}

struct node *chain_find_file(struct node *top, const char *name)
{
    const struct node *overlay = NULL;
    struct node *layer = layer_of(top);
    while (layer && !is_called(layer, overlay, name)) {
        overlay = layer;
        layer = below(layer);
    }
    return layer;
}

struct node *chain_find_overlay(struct node *top, const struct node *base)
{
    struct node *layer = layer_of(top);
    while (layer && below(layer) != base)
        layer = below(layer);
    return layer;
}

/* Nodes that are writable for a time ----------------------------------------------------------------------------- */

static struct error *make_one(struct writable *writable, struct node *node) CO_FN;

static struct error *make_one(struct writable *writable, struct node *node)
{
    if (!node_is_read_only(node) || writable->count == CHAIN_LAYERS_MAX)
        return NULL;
    struct error *err = node_reopen_writable(node);
    if (!err)
        writable->nodes[writable->count++] = node_ref(node);
    return err;
}

struct error *writable_make(struct writable *writable, struct node *node)
{
    struct error *err = NULL;
    if (node_driver(node)->kind == DRIVER_FILTER && node_filtered(node))
        err = writable_make(writable, child_node(node_filtered(node)));
    return err ? err : make_one(writable, node);
}

void writable_restore(struct writable *writable)
{
    while (writable->count > 0) {
        struct node *node = writable->nodes[--writable->count];
        error_free(node_reopen_read_only(node));
        node_unref(node);
    }
}

void writable_forget(struct writable *writable)
{
    while (writable->count > 0)
        node_unref(writable->nodes[--writable->count]);
}

/* Layers that a job needs ---------------------------------------------------------------------------------------- */

static struct child *down_of(const struct node *node)
{
    return node_filtered(node) ? node_filtered(node) : node_backing(node);
}

static struct error *check_free(const struct node *node)
{
    const char *user = node_inner_user(node);
    return user ? error_new("Node '%s' is busy: block device is in use by %s", node_name(node), user) : NULL;
}

struct error *chain_nodes_add(struct chain_copy_nodes *nodes, struct node *top, const struct node *end)
{
    for (struct node *node = top; node && node != end;) {
        struct error *err = check_free(node);
        if (!err && nodes->layers_count == CHAIN_LAYERS_MAX)
            err = error_new("the chain of node '%s' is more than %d nodes long", node_name(top), CHAIN_LAYERS_MAX);
        if (err)
            return err;
        nodes->layers[nodes->layers_count++] = node_ref(node);
        node = down_of(node) ? child_node(down_of(node)) : NULL;
    }
    return NULL;
}

struct error *chain_nodes_add_above(struct chain_copy_nodes *nodes, struct node *top, struct node *base)
{
    const struct node *overlay = chain_find_overlay(top, layer_of(base));
    if (!overlay)
        return error_new("'%s' is not in this backing file chain", node_name(base));
    struct error *err = chain_nodes_add(nodes, top, child_node(node_backing(overlay)));
    return err ? err : check_free(layer_of(base));
}

struct error *chain_nodes_attach(const struct chain_copy_nodes *nodes, struct node *inner)
{
    struct error *err = NULL;
    for (size_t i = 0; i < nodes->layers_count && !err; i++) {
        struct child *layer;
        CLEANUP(free) char *name = xasprintf("layer.%zu", i);
        err = inner_node_attach(inner, name, 0, nodes->layers[i], &layer);
    }
    return err;
}

void chain_nodes_freeze(struct chain_copy_nodes *nodes, struct node *top, const struct node *end, const char *user)
{
    for (struct node *node = top; node != end && down_of(node) && nodes->frozen_count < CHAIN_LAYERS_MAX;) {
        struct child *down = down_of(node);
        edge_freeze(down, user);
        nodes->frozen[nodes->frozen_count++] = down;
        node = child_node(down);
    }
}

void chain_nodes_thaw(struct chain_copy_nodes *nodes)
{
    while (nodes && nodes->frozen_count > 0)
        edge_thaw(nodes->frozen[--nodes->frozen_count]);
}

void chain_nodes_let_go(struct chain_copy_nodes *nodes)
{
    if (!nodes)
        return;
    chain_nodes_thaw(nodes);
    node_unref(nodes->filter);
    writable_restore(&nodes->writable);
    while (nodes->layers_count > 0)
        node_unref(nodes->layers[--nodes->layers_count]);
    node_unref(nodes->place);
    node_unref(nodes->other);
}

/* Headers ---------------------------------------------------------------------------------------------------------- */

struct lookup {
    const char *filename;
    char *absolute; /* NULL: there is no such file */
};

static int find_absolute(void *arg)
{
    struct lookup *lookup = arg;
    lookup->absolute = realpath(lookup->filename, NULL);
    return 0;
}

/* A name that is good from everywhere. */
static char *name_of(const struct node *base) CO_FN;

static char *name_of(const struct node *base)
{
    CLEANUP(free) char *filename = xstrdup(node_filename(base));
    if (filename[0] == '/' || strchr(filename, ':'))
        return steal(&filename);
    struct lookup lookup = { .filename = filename };
    struct pool_domain *domain = pool_domain_create(filename, 1);
    (void)co_blocking(domain, find_absolute, &lookup);
    pool_domain_unref(domain);
    return lookup.absolute ? lookup.absolute : steal(&filename);
}

/* Raw is no more than a file only where it shows all of one. */
static bool is_named_by_file(struct node *base)
{
    if (node_driver(base)->kind == DRIVER_PROTOCOL)
        return true;
    struct child *edge = NULL;
    while ((edge = node_child_next(base, edge)) && !(child_role(edge) & CHILD_METADATA) &&
           strcmp(child_name(edge), "file"))
        ;
    const struct node *file = edge ? layer_of(child_node(edge)) : NULL;
    return file && node_driver(file)->kind == DRIVER_PROTOCOL &&
           (strcmp(node_driver(base)->name, "raw") != 0 || node_length(file) == node_length(base));
}

struct error *chain_check_name(struct node *base)
{
    if (is_named_by_file(base) && node_filename(base)[0])
        return NULL;
    return error_new("node '%s' is more than a file and its format: 'backing-file' has to say what the header of its "
                     "overlay shall name",
                     node_name(base));
}

static struct error *write_name(struct node *overlay, const char *name, const char *format) CO_FN;

static struct error *write_name(struct node *overlay, const char *name, const char *format)
{
    struct handle *handle;
    struct error *err = handle_enter_here(overlay, "a block job", &handle);
    if (err)
        return err;
    err = node_driver(overlay)->change_backing_file(overlay, name, format);
    handle_leave_here(handle);
    return error_wrap(err, "Could not change the backing file of '%s' to '%s'", node_name(overlay), name ? name : "");
}

struct error *chain_write_backing(struct node *overlay, struct node *base, const char *file, bool mask_protocol)
{
    if (!node_driver(overlay)->change_backing_file)
        return error_new("driver '%s' of node '%s' does not support a backing file", node_driver(overlay)->name,
                         node_name(overlay));
    const char *format = NULL;
    CLEANUP(free) char *name = NULL;
    struct error *err = base && !file ? chain_check_name(base) : NULL;
    if (err)
        return err;
    if (base) {
        bool masked = mask_protocol && node_driver(base)->kind == DRIVER_PROTOCOL;
        format = masked ? "raw" : node_driver(base)->name;
        name = file ? xstrdup(file) : name_of(base);
    }
    bool was_read_only = node_is_read_only(overlay);
    if (was_read_only)
        err = node_reopen_writable(overlay);
    if (err)
        return err;
    err = write_name(overlay, name, format);
    struct error *back = was_read_only ? node_reopen_read_only(overlay) : NULL;
    if (!err)
        return error_wrap(back, "node '%s' stays writable", node_name(overlay));
    error_free(back);
    return err;
}

void chain_restore_backing(struct node *overlay, bool mask_protocol)
{
    const struct child *backing = node_backing(overlay);
    struct node *layer = backing ? layer_of(child_node(backing)) : NULL;
    struct error *err = chain_write_backing(overlay, layer, NULL, mask_protocol);
    if (err)
        notice_give(&(struct notice){
            .kind = NOTICE_LEFT_OVER, .node_name = node_name(overlay), .message = error_message(err) });
    error_free(err);
}
