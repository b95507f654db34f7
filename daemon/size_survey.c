#include "daemon/size_survey.h"

#include "blockcore/base/hash.h"
#include "blockcore/base/memory.h"
#include "blockcore/graph/node.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/sync.h"

#include <stdbool.h>
#include <stdlib.h>

#define ASKERS_MAX 16 /* coroutines of one survey */

struct survey {
    unsigned askers; /* those that run; the last one frees when the survey is over */
    bool over;       /* the arrays are gone */
    bool patience_over;
    const char *const *names;
    int64_t *sizes;
    size_t count;
    size_t next;
    struct timer *patience;
    struct co_event *waiter;
};

/* A node that owes an answer. */
struct debtor {
    struct hash_link by_node;
    struct node *node;
};

static struct hash debtors; /* empty before the first insert; the control thread's */

/* Of all surveys, those that are over included: a node may answer late. */
static struct {
    unsigned running;
    struct co_queue ended;
} askers = { .ended = { .guard = { ATOMIC_FLAG_INIT }, .waiters = LIST_INIT(askers.ended.waiters) } };

static void wake_waiter(struct survey *survey)
{
    struct co_event *waiter = survey->waiter;
    survey->waiter = NULL;
    if (waiter)
        co_event_set(waiter);
}

static void lose_patience(void *arg)
{
    struct survey *survey = arg;
    survey->patience_over = true;
    wake_waiter(survey);
}

static int64_t CO_FN ask_node(struct node *node)
{
    struct debtor debtor = { .node = node_ref(node) };
    hash_insert_number(&debtors, &debtor.by_node, (uintptr_t)node);
    int64_t bytes = node_allocated_bytes(node);
    hash_remove(&debtors, &debtor.by_node);
    node_unref(node);
    return bytes;
}

static void CO_FN ask_one(struct survey *survey, size_t index)
{
    struct node *node = node_find(survey->names[index]);
    if (!node || hash_find_number(&debtors, (uintptr_t)node))
        return;
    int64_t bytes = ask_node(node);
    if (survey->over)
        return;
    if (bytes >= 0)
        survey->sizes[index] = bytes;
    timer_start(survey->patience, SURVEY_PATIENCE_MS);
}

static void CO_FN run_asker(void *arg)
{
    struct survey *survey = arg;
    while (!survey->over && survey->next < survey->count)
        ask_one(survey, survey->next++);
    survey->askers--;
    if (--askers.running == 0)
        co_queue_wake_all(&askers.ended);
    if (survey->askers == 0 && survey->over)
        free(survey);
    else if (survey->askers == 0)
        wake_waiter(survey);
}

static void CO_FN wait_for_answers(struct survey *survey)
{
    while (survey->askers > 0 && !survey->patience_over) {
        struct co_event event;
        co_event_init(&event);
        survey->waiter = &event;
        co_event_wait(&event, "sizes of nodes");
    }
}

void size_survey(const char *const *names, int64_t *sizes, size_t count)
{
    struct survey *survey = xcalloc(1, sizeof(*survey));
    *survey = (struct survey){ .names = names, .sizes = sizes, .count = count };
    for (size_t i = 0; i < count; i++)
        sizes[i] = SIZE_UNKNOWN;
    survey->patience = timer_create_on_loop(lose_patience, survey);
    timer_start(survey->patience, SURVEY_PATIENCE_MS);
    for (unsigned i = 0; i < ASKERS_MAX && survey->next < count; i++) {
        survey->askers++;
        askers.running++;
        co_start("size of a node", run_asker, survey);
    }
    wait_for_answers(survey);
    timer_destroy(survey->patience);
    survey->over = true;
    if (survey->askers == 0)
        free(survey);
}

void size_survey_wait_end(void)
{
    while (askers.running > 0)
        co_queue_wait(&askers.ended, NULL, "sizes of nodes");
}
