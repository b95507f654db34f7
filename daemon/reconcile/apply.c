#include "daemon/reconcile/apply.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/node.h"
#include "blockcore/runtime/coroutine.h"
#include "daemon/bitmap.h"
#include "daemon/config.h"
#include "daemon/reconcile/steps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_AT_ONCE 16 /* taken, before others get a turn */

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

/* Forwards in one coroutine and back in another: once the first one is cancelled, whatever it asks for is refused. */
struct applying {
    const struct apply_request *request;
    struct step_state *states;
    struct co_note note; /* of who asked: the step that is taken, and its coroutine */
    char *doing;
    size_t taken; /* steps */
    struct error *err;
    bool lost;      /* what the step that failed was to replace */
    char *failures; /* on the way back */
    struct co_event over;
};

/* To those who ask what the command waits for. */
static void tell_step(struct applying *applying, const char *prefix, const struct plan_step *step)
{
    free(applying->doing);
    applying->doing =
        xasprintf("%s%s %s '%s'", prefix, config_action_name(step->action), plan_item_text(step->item), step->name);
    applying->note.doing = applying->doing;
}

/* Back from before step @end to the beginning. What cannot be undone is told; the rest is undone all the same. NULL:
 * all of it. The caller frees the text. */
static char *go_back(struct applying *applying, size_t end) CO_FN;

static char *go_back(struct applying *applying, size_t end)
{
    const struct plan *plan = applying->request->plan;
    struct command_context *asker = applying->request->asker;
    char *failures = NULL;
    while (end > 0) {
        size_t first = begin_of_unit(plan, end);
        tell_step(applying, "undo: ", &plan->steps[first]);
        CLEANUP(error_free)
        struct error *err = steps_undo(&plan->steps[first], &applying->states[first], end - first, asker);
        if (err) {
            char *more = xasprintf("%s%s%s: %s", failures ? failures : "", failures ? "; " : "",
                                   plan->steps[first].text, error_message(err));
            free(failures);
            failures = more;
        }
        end = first;
        if (end % STEPS_AT_ONCE == 0)
            co_yield ();
    }
    return failures;
}

/* @lost: the message says so already. */
static struct error *tell(struct error *err, const char *failures, bool lost)
{
    struct error *all;
    if (failures)
        all = error_new("%s; what was done before could not be undone: %s", error_message(err), failures);
    else
        all = error_new("%s; all %sis as it was before", error_message(err), lost ? "else " : "");
    error_free(err);
    return all;
}

/* Where it is described, and what was to be done. */
static struct error *place(const struct apply_request *request, const struct plan_step *step, struct error *err)
{
    err = error_wrap(err, "%s", step->text);
    return step->path ? config_error(request->config, step->path, err) : err;
}

void apply_cancel(struct apply_wish *wish)
{
    wish->over = true;
    if (wish->step)
        co_cancel(wish->step);
}

struct part {
    struct apply_wish *wish;
    struct error *(*fn)(void *arg);
    void *arg;
    struct error *err;
    struct co_note note;
    struct co_event over;
};

static void run_part(void *arg)
{
    struct part *part = arg;
    struct apply_wish *wish = part->wish;
    if (wish)
        wish->step = co_self();
    part->note.worker = co_self();
    part->err = part->fn(part->arg);
    part->note.worker = NULL;
    if (wish)
        wish->step = NULL;
    co_event_set(&part->over);
}

struct error *apply_run(struct apply_wish *wish, const char *name, struct error *(*fn)(void *arg), void *arg)
{
    struct part part = { .wish = wish, .fn = fn, .arg = arg };
    if (wish && wish->over)
        return error_errno(ECANCELED, "%s", name);
    co_event_init(&part.over);
    co_note_begin(&part.note, name, NULL);
    co_start(name, run_part, &part);
    co_event_wait(&part.over, name);
    co_note_end(&part.note);
    return part.err;
}

static bool is_unwanted(const struct apply_request *request)
{
    return *request->ends || (request->wish && request->wish->over);
}

static struct error *take(struct applying *applying, size_t first, size_t end) CO_FN;

static struct error *take(struct applying *applying, size_t first, size_t end)
{
    const struct apply_request *request = applying->request;
    const struct plan_step *steps = &request->plan->steps[first];
    /* All of it or nothing, also then. */
    bool may_end_early = request->wish && (steps->action == CONFIG_ACTION_ADD || steps->action == CONFIG_ACTION_REOPEN);
    if (is_unwanted(request))
        return error_errno(ECANCELED, "applying a configuration");
    applying->states[first].wish = request->wish;
    tell_step(applying, "", steps);
    if (may_end_early)
        request->wish->step = co_self();
    struct error *err = steps_take(steps, &applying->states[first], end - first, request->asker);
    if (may_end_early)
        request->wish->step = NULL;
    return err;
}

static void go_forward(void *arg)
{
    struct applying *applying = arg;
    const struct plan *plan = applying->request->plan;
    applying->note.worker = co_self();
    while (applying->taken < plan->count && !applying->err) {
        size_t end = end_of_unit(plan, applying->taken);
        struct error *err = take(applying, applying->taken, end);
        if (err) {
            applying->lost = applying->states[applying->taken].lost;
            applying->err = place(applying->request, &plan->steps[applying->taken], err);
        } else {
            applying->taken = end;
        }
        if (end % STEPS_AT_ONCE == 0)
            co_yield ();
    }
    applying->note.worker = NULL;
    co_event_set(&applying->over);
}

/* Nodes that were closed and opened again have the bitmaps of their images, which an image that cannot be written may
 * have kept otherwise than the daemon did. */
static void put_bitmaps_back(const struct cairn_config *now) CO_FN;

static void put_bitmaps_back(const struct cairn_config *now)
{
    for (size_t i = 0; i < now->bitmaps_count; i++) {
        const struct node *node = node_find(now->bitmaps[i].node);
        if (node && dirty_bitmap_find(node, now->bitmaps[i].name))
            error_free(bitmap_ensure(&now->bitmaps[i])); /* one in use stays as it is */
    }
}

static void go_backward(void *arg)
{
    struct applying *applying = arg;
    applying->note.worker = co_self();
    applying->failures = go_back(applying, applying->taken);
    put_bitmaps_back(applying->request->now);
    applying->note.worker = NULL;
    co_event_set(&applying->over);
}

static void run(struct applying *applying, coroutine_entry *way) CO_FN;

static void run(struct applying *applying, coroutine_entry *way)
{
    co_event_init(&applying->over);
    co_note_begin(&applying->note, "applying a configuration", NULL);
    co_start("applying a configuration", way, applying);
    co_event_wait(&applying->over, "steps of a configuration");
    co_note_end(&applying->note);
}

struct error *apply_plan(const struct apply_request *request)
{
    CLEANUP(free) struct step_state *states = xcalloc(request->plan->count + 1, sizeof(*states));
    struct applying applying = { .request = request, .states = states };
    run(&applying, go_forward);
    if (applying.err)
        run(&applying, go_backward);
    free(applying.doing);
    if (!applying.err)
        return NULL;
    struct error *err = tell(applying.err, applying.failures, applying.lost);
    free(applying.failures);
    return err;
}
