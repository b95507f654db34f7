/* Secrets in options of nodes: what the schema calls one, and users and passwords in addresses. A configuration that is
 * shown has neither. */
#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/base/url.h"
#include "blockcore/runtime/coroutine.h"
#include "daemon/reconcile/inventory_private.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/value.h"

#include <stdlib.h>

#define NODES_AT_ONCE 256 /* looked at, before others get a turn */

struct hiding {
    struct inventory *inventory;
    struct arena *arena;
    const char *node; /* that is not described inside of another */
};

static void hide_in_node(const struct hiding *hiding, char *options);

static void hide_in_child(const struct hiding *hiding, const struct blockdev_ref *ref)
{
    if (ref && ref->kind == BLOCKDEV_REF_KIND_DEFINITION)
        hide_in_node(hiding, (char *)(uintptr_t)ref->u.definition);
}

static void hide_in_child_or_null(const struct hiding *hiding, const struct blockdev_ref_or_null *ref)
{
    if (ref && ref->kind == BLOCKDEV_REF_OR_NULL_KIND_DEFINITION)
        hide_in_node(hiding, (char *)(uintptr_t)ref->u.definition);
}

static void replace(const struct hiding *hiding, const struct member_descriptor *member, char *place, const char *shown,
                    const char *what)
{
    memcpy(place, &shown, sizeof(shown));
    inventory_leave_out(hiding->inventory, hiding->arena,
                        arena_printf(hiding->arena, "node '%s': its %s%s", hiding->node, what, member->name));
}

static void hide_in_string(const struct hiding *hiding, const struct member_descriptor *member, char *place)
{
    const char *text = value_pointer(place);
    if (!text)
        return;
    if (member->flags & MEMBER_SECRET) {
        replace(hiding, member, place, NULL, "");
        return;
    }
    CLEANUP(free) char *shown = strstr(text, "://") ? url_without_user(text) : NULL;
    if (shown && strcmp(shown, text) != 0)
        replace(hiding, member, place, arena_strdup(hiding->arena, shown), "user in ");
}

static void hide_in_member(const struct hiding *hiding, const struct member_descriptor *member, char *options)
{
    char *place = options + member->offset;
    if (member->type->kind == VALUE_STRING) {
        hide_in_string(hiding, member, place);
    } else if (member->type == &blockdev_ref_descriptor) {
        hide_in_child(hiding, value_pointer(place));
    } else if (member->type == &blockdev_ref_or_null_descriptor) {
        hide_in_child_or_null(hiding, value_pointer(place));
    } else if (member->type->kind == VALUE_ARRAY && member->type->array.element == &blockdev_ref_descriptor) {
        const struct blockdev_ref *refs = value_pointer(place);
        for (size_t i = 0; i < value_count(options + member->count_offset); i++)
            hide_in_child(hiding, &refs[i]);
    }
}

static void hide_in_node(const struct hiding *hiding, char *options)
{
    const struct type_descriptor *type = &blockdev_options_descriptor;
    while (type) {
        for (uint32_t i = 0; i < type->object.count; i++)
            hide_in_member(hiding, &type->object.members[i], options);
        const struct type_descriptor *branch = union_branch(type, options);
        options += type->object.branch_offset;
        type = branch;
    }
}

void inventory_hide_secrets(struct inventory *inventory, struct arena *arena)
{
    for (size_t i = 0; i < inventory->values.nodes_count; i++) {
        if (i % NODES_AT_ONCE == NODES_AT_ONCE - 1)
            co_yield ();
        const struct blockdev_options *node = &inventory->values.nodes[i];
        hide_in_node(&(struct hiding){ inventory, arena, node->node_name }, (char *)(uintptr_t)node);
    }
}
