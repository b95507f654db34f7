/* check - what a description says of itself, without touching an image (cairnd --check)
 *
 * Names that are taken or malformed, references to what does not exist. Everything is looked at in the order in which
 * it would be made. The walk over a node's options goes by the tables of the schema: a new driver is checked without a
 * line here. */
#ifndef CAIRN_DAEMON_CHECK_H
#define CAIRN_DAEMON_CHECK_H

#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

struct check;
struct config;

struct check *check_create(void);
void check_destroy(struct check *check);

/* Each takes note of what would exist afterwards. */
struct error *check_blockdev(struct check *check, const struct blockdev_options *options) MUST_CHECK;
struct error *check_chardev(struct check *check, const struct chardev_options *options) MUST_CHECK;
struct error *check_export(struct check *check, const struct block_export_options *options) MUST_CHECK;
struct error *check_monitor(struct check *check, const struct monitor_options *options) MUST_CHECK;
struct error *check_nbd_server(struct check *check, const struct nbd_server_options *options) MUST_CHECK;
struct error *check_object(struct check *check, const struct object_options *options) MUST_CHECK;
/* It exists: others may refer to it, and its name is taken. */
void check_know(struct check *check, enum config_item item, const char *name);
struct error *check_config(struct check *check, const struct config *config) MUST_CHECK;

#endif
