/* apply - the steps of a plan, one after the other, or back again
 *
 * Before the first step it is looked whether somebody would be in the way who is no part of the plan: a job, a client's
 * node, the monitor of the one who asks. Each step is one that commands take, too, under running requests. When one
 * fails, those before it are undone in reverse order, from what the plan says of how things were.
 *
 * They are taken in coroutines of their own: whoever asked may lose interest, which must not get in the way of undoing.
 */
#ifndef CAIRN_DAEMON_RECONCILE_APPLY_H
#define CAIRN_DAEMON_RECONCILE_APPLY_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "daemon/reconcile/plan.h"

struct command_context;
struct coroutine;
struct config;

/* Whether what is applied is still wanted. Zeroed at first. */
struct apply_wish {
    bool over;
    struct coroutine *step; /* one that can be ended early, and leaves all as it was then */
};

/* It is wanted no more: the step that runs ends early where it can, and all goes back. Does not wait. */
void apply_cancel(struct apply_wish *wish) CONTROL_FN;

/* Runs @fn(@arg) in a coroutine of its own, which apply_cancel() cancels: the rest of the step can go on in the one
 * that called, where nothing is refused. @name is static text. */
struct error *apply_run(struct apply_wish *wish, const char *name, struct error *(*fn)(void *arg), void *arg)
    CO_FN CONTROL_FN MUST_CHECK;

struct apply_request {
    const struct config *config; /* the plan's, for places in messages */
    const struct plan *plan;
    const struct cairn_config *now; /* what the plan begins with */
    struct command_context *asker;  /* whose monitor must not go; NULL: nobody's */
    struct apply_wish *wish;        /* of whoever asked; NULL: it is wanted until the end */
    const bool *ends;               /* looked at before each step: go back instead */
};

/* Is anybody in the way? Changes nothing. */
struct error *apply_check(const struct apply_request *request) CONTROL_FN MUST_CHECK;

/* After apply_check(). An error says which step failed, and whether all is as it was. */
struct error *apply_plan(const struct apply_request *request) CO_FN CONTROL_FN MUST_CHECK;

#endif
