/* permission - what an edge needs of a node, and what it lets others do
 *
 * The words and bit values are QEMU's, because the file driver maps the bits to the same byte-range locks, so that a
 * running VM and this daemon cannot write one image together. */
#ifndef CAIRN_GRAPH_PERMISSION_H
#define CAIRN_GRAPH_PERMISSION_H

enum permission {
    PERM_CONSISTENT_READ = 0x1, /* what is read is what the node's guest would see */
    PERM_WRITE = 0x2,           /* may change content */
    PERM_WRITE_UNCHANGED = 0x4, /* may write what is there already (copy-on-read) */
    PERM_RESIZE = 0x8,          /* may change the length */
    PERM_ALL = 0xf,
};

#define PERM_BITS 4

struct child;
struct node;

/* The rule of a child's role, for what driver->child_permissions does not decide itself. */
void permissions_of_role(const struct node *node, const struct child *edge, unsigned perm, unsigned shared,
                         unsigned *edge_perm, unsigned *edge_shared);

/* What the users of the node need together. */
unsigned node_permissions_held(const struct node *node);

/* "write", "resize", ...: @permission is one bit. */
const char *permission_name(enum permission permission);

#endif
