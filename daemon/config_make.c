/* Making what a configuration describes. */
#include "daemon/config.h"

#include "blockcore/base/memory.h"
#include "blockcore/export/export.h"
#include "blockcore/export/nbd/server.h"
#include "blockcore/graph/node.h"
#include "blockcore/objects/object.h"
#include "daemon/bitmap.h"
#include "daemon/monitor.h"
#include "daemon/socket_address.h"

#include <stdio.h>

/* "nodes.3", where @err came from. */
static struct error *element_error(const struct config *config, const char *list, size_t index, struct error *err)
{
    char path[64];
    snprintf(path, sizeof(path), "%s.%zu", list, index);
    return config_error(config, path, err);
}

struct error *nbd_server_add(const struct nbd_server_options *options)
{
    CLEANUP(free) char *path = NULL;
    struct socket_address address = socket_address_for_later(options->addr, &path);
    struct nbd_server_options adapted = *options;
    adapted.addr = &address;
    return nbd_server_start(&adapted);
}

static struct error *CO_FN add_objects(const struct config *config)
{
    const struct cairn_config *values = config_values(config);
    for (size_t i = 0; i < values->objects_count; i++) {
        struct error *err = object_add(&values->objects[i]);
        if (err)
            return element_error(config, "objects", i, err);
    }
    return NULL;
}

static struct error *CO_FN add_monitors(const struct config *config)
{
    const struct cairn_config *values = config_values(config);
    for (size_t i = 0; i < values->monitors_count; i++) {
        struct error *err = monitor_add_config(&values->monitors[i]);
        if (err)
            return element_error(config, "monitors", i, err);
    }
    return NULL;
}

static struct error *CO_FN add_nodes(const struct config *config)
{
    const struct cairn_config *values = config_values(config);
    for (size_t i = 0; i < values->nodes_count; i++) {
        struct error *err = blockdev_add(&values->nodes[i]);
        if (err)
            return element_error(config, "nodes", i, err);
    }
    return NULL;
}

static struct error *CO_FN add_bitmaps(const struct config *config)
{
    const struct cairn_config *values = config_values(config);
    for (size_t i = 0; i < values->bitmaps_count; i++) {
        struct error *err = bitmap_ensure(&values->bitmaps[i]);
        if (err)
            return element_error(config, "bitmaps", i, err);
    }
    return NULL;
}

static struct error *CO_FN add_nbd_servers(const struct config *config)
{
    const struct cairn_config *values = config_values(config);
    struct error *err = NULL;
    if (values->nbd_server)
        err = config_error(config, "nbd-server", nbd_server_add(values->nbd_server));
    for (size_t i = 0; i < values->nbd_servers_count && !err; i++) {
        err = nbd_server_add(&values->nbd_servers[i]);
        if (err)
            err = element_error(config, "nbd-servers", i, err);
    }
    return err;
}

static struct error *CO_FN add_exports(const struct config *config)
{
    const struct cairn_config *values = config_values(config);
    for (size_t i = 0; i < values->exports_count; i++) {
        struct error *err = export_add(&values->exports[i]);
        if (err)
            return element_error(config, "exports", i, err);
    }
    return NULL;
}

struct error *config_add(const struct config *config)
{
    struct error *err = add_objects(config);
    if (!err)
        err = add_monitors(config);
    if (!err)
        err = add_nodes(config);
    if (!err)
        err = add_bitmaps(config);
    if (!err)
        err = add_nbd_servers(config);
    if (!err)
        err = add_exports(config);
    return err;
}
