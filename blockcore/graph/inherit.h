/* inherit - what options say of a node whatever its driver, and what a child takes over from its parent */
#ifndef CAIRN_GRAPH_INHERIT_H
#define CAIRN_GRAPH_INHERIT_H

#include "blockcore/graph/layout.h"
#include "schema/cairn_types.h"

/* Options and their cache member, where what the parent hands down has been filled in. */
struct inherited {
    struct blockdev_options options;
    struct blockdev_cache_options cache;
};

struct node_settings settings_of(const struct blockdev_options *options);
bool settings_equal(const struct node_settings *a, const struct node_settings *b);
struct error *settings_check(const struct blockdev_options *options) MUST_CHECK;

/* What a child described inline takes over from its parent where it says nothing itself. Backing files are read only.
 * @child lives as long as its options; it borrows from @given and @parent. */
void options_inherit(struct inherited *child, const struct blockdev_options *given,
                     const struct blockdev_options *parent, bool parent_read_only, unsigned role);

#endif
