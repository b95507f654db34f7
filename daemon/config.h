/* config - YAML files that say what shall exist
 *
 *     objects:
 *     - { qom-type: throttle-group, id: limits0, limits: { iops-total: 1000 } }
 *     monitors:
 *     - path: /run/cairn/qmp.sock
 *     nodes:
 *     - node-name: disk0
 *       driver: qcow2
 *       file: { driver: file, filename: /srv/disk0.qcow2 }
 *     nbd-server:
 *       addr: { type: unix, path: /run/cairn/nbd.sock }
 *     exports:
 *     - { type: nbd, id: export0, node-name: disk0, writable: true }
 *
 * Its items are the arguments of commands, decoded by the same code. Errors begin with file:line:column. There may be
 * several files: lists are put together in their order, anything else is given once. Variables from the environment are
 * put in (variables.h). Secrets do not stand in these files. */
#ifndef CAIRN_DAEMON_CONFIG_H
#define CAIRN_DAEMON_CONFIG_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stdbool.h>

struct arena;
struct config;
struct member_descriptor;
struct config_source;

/* Reads files, and those of directories (config_files.h), and decodes them; touches nothing else. Blocks: before the
 * service begins, or on the pool. */
struct error *config_load(const char *const *paths, size_t count, bool by_client, struct config **out) MUST_CHECK;
/* The same of texts that are there. Any thread. */
struct error *config_parse(const struct config_source *texts, size_t count, struct config **out) MUST_CHECK;
/* Of @values, which live as long; there are no places to be named then. Error: there is a secret in them. */
struct error *config_of_values(const struct cairn_config *values, struct config **out) MUST_CHECK;
/* NULL is allowed. */
void config_destroy(struct config *config);

const struct cairn_config *config_values(const struct config *config);

/* An error where both say what may be said once; @other was given first. */
struct error *config_check_once(const struct config *config, const struct config *other) MUST_CHECK;

/* Does it say how the daemon works, rather than what it makes and can remove? */
bool config_is_setting(const struct member_descriptor *member);
/* Puts those of @values into @settings, which borrows from it and from @arena; lists are put together. */
void config_take_settings(const struct cairn_config *values, struct cairn_config *settings, struct arena *arena);

/* Makes what it describes, in the order of struct cairn_config. */
struct error *config_add(const struct config *config) CO_FN CONTROL_FN MUST_CHECK;

/* nbd_server_start(), with a path that still holds when the daemon changes its directory. */
struct error *nbd_server_add(const struct nbd_server_options *options) CO_FN CONTROL_FN MUST_CHECK;

/* "file:line:column: PATH: message" around @err, which may be NULL. */
struct error *config_error(const struct config *config, const char *path, struct error *err) MUST_CHECK;

#endif
