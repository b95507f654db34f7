/* Commands for gates (schema/gate.json). */
#include "blockcore/filters/gate.h"

#include "blockcore/graph/node.h"
#include "schema/cairn_commands.h"

static unsigned kinds_of(enum gate_operation operation)
{
    static const unsigned kinds[] = {
        [GATE_OPERATION_ANY] = GATE_ANY,         [GATE_OPERATION_READ] = GATE_READ,
        [GATE_OPERATION_WRITE] = GATE_WRITE,     [GATE_OPERATION_FLUSH] = GATE_FLUSH,
        [GATE_OPERATION_DISCARD] = GATE_DISCARD, [GATE_OPERATION_WRITE_ZEROES] = GATE_WRITE_ZEROES,
    };
    return kinds[operation];
}

static struct error *find_gate(const char *name, struct node **out)
{
    *out = node_find(name);
    if (!*out)
        return error_set_class(node_not_found(name), ERROR_DEVICE_NOT_FOUND);
    if (!node_is_gate(*out))
        return error_new("node '%s' is not a gate", name);
    return NULL;
}

struct error *handle_x_gate_hold(struct command_context *context, const struct x_gate_hold_arguments *arguments)
{
    (void)context;
    struct node *node;
    struct error *err = find_gate(arguments->node_name, &node);
    if (!err)
        gate_hold(node, kinds_of(arguments->operation), arguments->has_count ? arguments->count : GATE_ALL);
    return err;
}

struct error *handle_x_gate_release(struct command_context *context, const struct x_gate_release_arguments *arguments)
{
    (void)context;
    struct node *node;
    struct error *err = find_gate(arguments->node_name, &node);
    if (!err)
        gate_release(node, kinds_of(arguments->operation), arguments->has_count ? arguments->count : GATE_ALL);
    return err;
}

struct error *handle_x_gate_query(struct command_context *context, const struct x_gate_query_arguments *arguments,
                                  struct gate_info *result)
{
    (void)context;
    struct node *node;
    struct error *err = find_gate(arguments->node_name, &node);
    if (!err)
        result->held = gate_held(node, GATE_ANY);
    return err;
}
