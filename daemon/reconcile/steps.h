/* steps - what the steps of a plan do, and what undoes them */
#ifndef CAIRN_DAEMON_RECONCILE_STEPS_H
#define CAIRN_DAEMON_RECONCILE_STEPS_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "daemon/reconcile/plan.h"

struct apply_wish;
struct command_context;

/* What has to be known to undo a step; zeroed before it is taken, but for @wish. */
struct step_state {
    struct apply_wish *wish; /* NULL: the step is wanted whatever happens */
    bool was_there;          /* a bitmap that an image brought along */
    bool was_disabled;       /* that one */
    bool lost;               /* of a step that failed: what it was about is not as it was */
};

/* One step; or several that reopen nodes, all of them or none. @asker: whose client gets the reply in any case. */
struct error *steps_take(const struct plan_step *steps, struct step_state *states, size_t count,
                         struct command_context *asker) CO_FN CONTROL_FN MUST_CHECK;
/* The reverse of what was taken. */
struct error *steps_undo(const struct plan_step *steps, const struct step_state *states, size_t count,
                         struct command_context *asker) CO_FN CONTROL_FN MUST_CHECK;

#endif
