/* open_private - what opening nodes and finding what images name have in common */
#ifndef CAIRN_GRAPH_OPEN_PRIVATE_H
#define CAIRN_GRAPH_OPEN_PRIVATE_H

#include "blockcore/graph/layout.h"
#include "blockcore/graph/node.h"
#include "blockcore/runtime/coroutine.h"

/* child_open_options() of what an image names: it, and all below it, must be allowed by the policy, refers to no node
 * by its name, and is not written when the parent is not. */
struct error *child_open_from_image(struct node *parent, const char *name, unsigned role,
                                    const struct blockdev_options *options, const struct open_context *context,
                                    struct child **out) CO_FN CONTROL_FN MUST_CHECK;

/* An edge from @parent, which is being opened, to @node, with the permissions that follow from the role. */
struct error *child_attach(struct node *parent, const char *name, unsigned role, struct node *node, struct child **out)
    CO_FN CONTROL_FN MUST_CHECK;

/* An error when there is such a node. */
struct error *node_check_name(const char *name) CONTROL_FN MUST_CHECK;
/* A name that no client can choose, since it begins with '#'. The caller frees it. */
char *node_make_name(void) CONTROL_FN;

/* image_name.c: where files must be that images name; NULL: anywhere. */
const struct path_list *image_policy_directories(void);

/* opening.c: while a driver's open runs, and what it made is taken down after a failure: cancelling the coroutine ends
 * the waits for storage. Lies on its stack, one inside the other. */
struct opening {
    struct list link;
    struct node *node;
    struct coroutine *co;
    struct co_on_cancel on_cancel;
    uint64_t owner; /* of the requests */
    uint64_t owner_before;
    bool may_leave_before;
    bool abandoned; /* the requests; then: */
    struct haste haste;
};

void opening_begin(struct opening *opening, struct node *node) CO_FN CONTROL_FN;
void opening_end(struct opening *opening) CO_FN CONTROL_FN;
/* False when the coroutine is cancelled, or the process ends. */
bool opening_is_wanted(void) CONTROL_FN;

/* image_name.c: may an image lead to such a node? */
struct error *image_policy_check(const struct driver *driver, const struct blockdev_options *options) CO_FN MUST_CHECK;

#endif
