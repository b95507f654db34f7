/* change - alter the shape of the graph, all of it or nothing
 *
 * describe change_edge, change_replace: each edge that shall lead elsewhere gets a claim, a second edge to the new
 *          node that carries no requests. Loops and graphs that would be too deep show here.
 * commit   1. the claims take permissions; conflicts show, and the change is given up
 *          2. locks of files below are brought in line (awaited; may fail, and the change is given up)
 *          3. the handles above are drained (awaited)
 *          4. edges and claims swap their ends: cannot fail, does not wait
 *
 *     before              claimed                  committed
 *     P --file--> A       P --file--> A            P --file--> F --file--> A
 *                         P ..claim..> F --> A
 *
 * Other changes may run at the same time: permissions of claims are visible to their checks, so two that exclude each
 * other cannot both go on. */
#ifndef CAIRN_GRAPH_CHANGE_H
#define CAIRN_GRAPH_CHANGE_H

#include "blockcore/graph/handle.h"

struct change;

struct change *change_begin(void) CONTROL_FN;

/* The edge (of a node or of a handle) shall lead to @node. Edges of one change are all switched at the same moment. On
 * error the change can only be aborted. */
struct error *change_edge(struct change *change, struct child *edge, struct node *node) CONTROL_FN MUST_CHECK;

/* Everything that leads to @from shall lead to @to, except edges from @to or from below it. */
struct error *change_replace(struct change *change, struct node *from, struct node *to) CONTROL_FN MUST_CHECK;

/* Makes it so, or aborts; frees @change in both cases. */
struct error *change_commit(struct change *change) CO_FN CONTROL_FN MUST_CHECK;
void change_abort(struct change *change) CO_FN CONTROL_FN;

/* The edge of a handle. */
struct child *handle_edge(struct handle *handle);

#endif
