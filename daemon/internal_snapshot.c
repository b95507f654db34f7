/* Commands on internal snapshots (schema/internal-snapshot.json). */
#include "blockcore/graph/node.h"
#include "blockcore/io/snapshot.h"
#include "blockcore/jobs/transaction.h"
#include "daemon/transaction.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"

static struct error *find_device(const char *device, struct node **out)
{
    *out = node_find(device);
    return *out ? NULL : error_new("Cannot find device='%s' nor node-name='%s'", device, device);
}

static struct error *check_key(const char *id, const char *name)
{
    return id || name ? NULL : error_new("Name or id must be provided");
}

static struct error *find_to_snapshot(const struct blockdev_snapshot_internal *arguments, struct node **out)
{
    struct error *err = find_device(arguments->device, out);
    if (!err && arguments->name[0] == '\0')
        err = error_new("Name is empty");
    return err;
}

struct error *internal_snapshot_action(struct transaction *transaction,
                                       const struct blockdev_snapshot_internal *arguments)
{
    struct node *node;
    struct error *err = find_to_snapshot(arguments, &node);
    return err ? err : transaction_snapshot_internal(transaction, node, arguments->name);
}

struct error *handle_blockdev_snapshot_internal_sync(struct command_context *context,
                                                     const struct blockdev_snapshot_internal *arguments)
{
    (void)context;
    struct node *node;
    struct error *err = find_to_snapshot(arguments, &node);
    return err ? err : node_snapshot_create(node, arguments->name);
}

struct error *
handle_blockdev_snapshot_delete_internal_sync(struct command_context *context,
                                              const struct blockdev_snapshot_delete_internal_sync_arguments *arguments,
                                              struct snapshot_info *result)
{
    struct node *node;
    struct error *err = find_device(arguments->device, &node);
    if (!err)
        err = check_key(arguments->id, arguments->name);
    return err ? err : node_snapshot_delete(node, arguments->id, arguments->name, command_arena(context), result);
}

struct error *
handle_blockdev_snapshot_apply_internal_sync(struct command_context *context,
                                             const struct blockdev_snapshot_apply_internal_sync_arguments *arguments)
{
    (void)context;
    struct node *node;
    struct error *err = find_device(arguments->device, &node);
    if (!err)
        err = check_key(arguments->id, arguments->name);
    return err ? err : node_snapshot_apply(node, arguments->id, arguments->name);
}
