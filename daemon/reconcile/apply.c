#include "daemon/reconcile/apply.h"

#include "blockcore/base/memory.h"
#include "daemon/config.h"
#include "daemon/reconcile/steps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Nodes are reopened all at once, since they may need each other. Returns the end of what is done together with @first.
 */
static size_t end_of_unit(const struct plan *plan, size_t first)
{
    size_t end = first + 1;
    while (plan->steps[first].action == CONFIG_ACTION_REOPEN && end < plan->count &&
           plan->steps[end].action == CONFIG_ACTION_REOPEN)
        end++;
    return end;
}

static size_t begin_of_unit(const struct plan *plan, size_t end)
{
    size_t first = end - 1;
    while (plan->steps[first].action == CONFIG_ACTION_REOPEN && first > 0 &&
           plan->steps[first - 1].action == CONFIG_ACTION_REOPEN)
        first--;
    return first;
}

/* Back from before step @end to the beginning. What cannot be undone is told; the rest is undone all the same. NULL:
 * all of it. The caller frees the text. */
static char *go_back(const struct apply_request *request, struct step_state *states, size_t end) CO_FN;

static char *go_back(const struct apply_request *request, struct step_state *states, size_t end)
{
    const struct plan *plan = request->plan;
    char *failures = NULL;
    while (end > 0) {
        size_t first = begin_of_unit(plan, end);
        CLEANUP(error_free)
        struct error *err = steps_undo(&plan->steps[first], &states[first], end - first, request->asker);
        if (err) {
            char *more = xasprintf("%s%s%s: %s", failures ? failures : "", failures ? "; " : "",
                                   plan->steps[first].text, error_message(err));
            free(failures);
            failures = more;
        }
        end = first;
    }
    return failures;
}

static struct error *tell(struct error *err, const char *failures)
{
    struct error *all =
        failures ? error_new("%s; what was done before could not be undone: %s", error_message(err), failures)
                 : error_new("%s; all is as it was before", error_message(err));
    error_free(err);
    return all;
}

/* Where it is described, and what was to be done. */
static struct error *place(const struct apply_request *request, const struct plan_step *step, struct error *err)
{
    err = error_wrap(err, "%s", step->text);
    return step->path ? config_error(request->config, step->path, err) : err;
}

static bool is_unwanted(const struct apply_request *request)
{
    return *request->ends || (request->unwanted && *request->unwanted);
}

struct error *apply_plan(const struct apply_request *request)
{
    const struct plan *plan = request->plan;
    CLEANUP(free) struct step_state *states = xcalloc(plan->count + 1, sizeof(*states));
    size_t at = 0;
    while (at < plan->count) {
        size_t end = end_of_unit(plan, at);
        struct error *err = is_unwanted(request) ? error_errno(ECANCELED, "applying a configuration") : NULL;
        if (!err)
            err = steps_take(&plan->steps[at], &states[at], end - at, request->asker);
        if (err) {
            err = place(request, &plan->steps[at], err);
            CLEANUP(free) char *failures = go_back(request, states, at);
            return tell(err, failures);
        }
        at = end;
    }
    return NULL;
}
