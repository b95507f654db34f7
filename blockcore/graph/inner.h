/* inner - nodes that no description makes: what jobs put into the graph while they work
 *
 * Made in steps: inner_node_begin(), inner_node_attach() for each child, then inner_node_publish(), after which it is a
 * node like any other with one reference, or inner_node_give_up(). Its driver's open is not called: whoever makes the
 * node fills in its state, length and limits. To others, its edges are those of its owner. */
#ifndef CAIRN_GRAPH_INNER_H
#define CAIRN_GRAPH_INNER_H

#include "blockcore/graph/node.h"

/* @name NULL: made up. @owner as in messages: "block job 'job0'"; it is copied. */
struct error *inner_node_begin(const struct driver *driver, const char *name, const char *owner,
                               struct node **out) CONTROL_FN MUST_CHECK;
struct error *inner_node_attach(struct node *node, const char *child_name, unsigned role, struct node *child,
                                struct child **out) CO_FN CONTROL_FN MUST_CHECK;
void inner_node_publish(struct node *node) CONTROL_FN;
void inner_node_give_up(struct node *node) CO_FN CONTROL_FN;

/* @node, which has just been made, waits for its place: until it has one, it is no user of its children, and stays on
 * them when others are moved away. */
void inner_node_set_placed(struct node *node, bool placed) CONTROL_FN;

/* Who in the inside uses the node, if anybody does: "block job 'job0'". NULL: nobody. */
const char *node_inner_user(const struct node *node) CONTROL_FN;

#endif
