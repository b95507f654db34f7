#include "daemon/config.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/export/export.h"
#include "blockcore/export/nbd/server.h"
#include "blockcore/graph/node.h"
#include "blockcore/objects/object.h"
#include "daemon/monitor.h"
#include "daemon/path.h"
#include "daemon/yaml_tree.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/decode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct config {
    char *name; /* as given, for messages */
    struct yaml_tree *tree;
    struct arena arena;
    const struct cairn_config *values;
};

/* Also what is no regular file and does not tell its length. */
static struct error *read_file(const char *path, char **text, size_t *length)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return error_errno(errno, "cannot open '%s'", path);
    size_t capacity = 64 * 1024;
    char *data = xmalloc(capacity);
    size_t bytes = 0;
    size_t count;
    while (bytes <= YAML_BYTES_MAX && (count = fread(data + bytes, 1, capacity - bytes, file)) > 0) {
        bytes += count;
        if (bytes == capacity)
            data = xrealloc_array(data, capacity *= 2, 1);
    }
    struct error *err = ferror(file) ? error_errno(errno, "cannot read '%s'", path) : NULL;
    fclose(file);
    if (err)
        free(data);
    else
        *text = data;
    *length = bytes;
    return err;
}

static struct error *place_error(const struct config *config, const char *path, bool key, struct error *err)
{
    struct yaml_place place = yaml_tree_find(config->tree, path, key);
    return error_wrap(err, "%s:%zu:%zu", config->name, place.line, place.column);
}

struct error *config_error(const struct config *config, const char *path, struct error *err)
{
    return err ? place_error(config, path, false, error_wrap(err, "%s", path)) : NULL;
}

static struct error *decode(struct config *config)
{
    struct decode_failure failure = { 0 };
    void *values = NULL;
    struct error *err = decode_value(&cairn_config_descriptor, yaml_tree_root(config->tree), DECODE_TEXT, "",
                                     &config->arena, &values, &failure);
    if (err)
        return place_error(config, failure.path ? failure.path : "", failure.is_key, err);
    config->values = values;
    return NULL;
}

struct error *config_load(const char *path, struct config **out)
{
    CLEANUP(free) char *text = NULL;
    size_t length = 0;
    struct error *err = read_file(path, &text, &length);
    if (err)
        return err;
    struct config *config = xcalloc(1, sizeof(*config));
    config->name = xstrdup(path);
    arena_init(&config->arena, SIZE_MAX);
    err = yaml_tree_parse(path, text, length, &config->tree);
    if (!err)
        err = decode(config);
    if (err)
        config_destroy(config);
    else
        *out = config;
    return err;
}

void config_destroy(struct config *config)
{
    if (!config)
        return;
    yaml_tree_destroy(config->tree);
    arena_fini(&config->arena);
    free(config->name);
    free(config);
}

const struct cairn_config *config_values(const struct config *config)
{
    return config->values;
}

/* "nodes.3", where @err came from. */
static struct error *element_error(const struct config *config, const char *list, size_t index, struct error *err)
{
    char path[64];
    snprintf(path, sizeof(path), "%s.%zu", list, index);
    return config_error(config, path, err);
}

struct error *nbd_server_add(const struct nbd_server_options *options)
{
    struct socket_address address = *options->addr;
    CLEANUP(free) char *path = NULL;
    bool in_file_system =
        address.type == SOCKET_ADDRESS_TYPE_UNIX && !(address.u.unix_.has_abstract && address.u.unix_.abstract);
    if (in_file_system) {
        path = path_for_later(address.u.unix_.path);
        address.u.unix_.path = path;
    }
    struct nbd_server_options adapted = *options;
    adapted.addr = &address;
    return nbd_server_start(&adapted);
}

static struct error *CO_FN add_objects(const struct config *config)
{
    for (size_t i = 0; i < config->values->objects_count; i++) {
        struct error *err = object_add(&config->values->objects[i]);
        if (err)
            return element_error(config, "objects", i, err);
    }
    return NULL;
}

static struct error *CO_FN add_monitors(const struct config *config)
{
    for (size_t i = 0; i < config->values->monitors_count; i++) {
        struct error *err = monitor_add_config(&config->values->monitors[i]);
        if (err)
            return element_error(config, "monitors", i, err);
    }
    return NULL;
}

static struct error *CO_FN add_nodes(const struct config *config)
{
    for (size_t i = 0; i < config->values->nodes_count; i++) {
        struct error *err = blockdev_add(&config->values->nodes[i]);
        if (err)
            return element_error(config, "nodes", i, err);
    }
    return NULL;
}

static struct error *CO_FN add_nbd_servers(const struct config *config)
{
    const struct cairn_config *values = config->values;
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
    for (size_t i = 0; i < config->values->exports_count; i++) {
        struct error *err = export_add(&config->values->exports[i]);
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
        err = add_nbd_servers(config);
    if (!err)
        err = add_exports(config);
    return err;
}
