/* reconcile - what runs becomes what a configuration describes
 *
 *     described (config.h) --\
 *                             plan.h --steps--> apply.h: one after the other, or back again
 *     what runs (inventory.h)-/
 *
 * One configuration is applied at a time. The names that it describes are remembered: what is not described by the next
 * one is removed then. What clients made besides is theirs. */
#ifndef CAIRN_DAEMON_RECONCILE_H
#define CAIRN_DAEMON_RECONCILE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/arena.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stdbool.h>
#include <stddef.h>

struct apply_wish;
struct command_context;
struct config;
struct options;

struct reconcile_request {
    const struct config *config;
    bool dry_run;                  /* only say what would be done */
    bool prune;                    /* remove what is not described, whoever made it */
    struct command_context *asker; /* whose monitor must not go; NULL: nobody's */
    struct apply_wish *wish;       /* apply.h; NULL: it is wanted until the daemon ends */
};

/* Of @options, which live as long as the process, before anything is made. */
void reconcile_begin(const struct options *options) CONTROL_FN;
/* All of that has been made: until then reconcile_run() waits. */
void reconcile_allow(void) CONTROL_FN;

/* What was said once at the start: the lists are empty. */
const struct cairn_config *reconcile_settings(void) CONTROL_FN;

/* @result, in @arena: what has been done, or would be. */
struct error *reconcile_run(const struct reconcile_request *request, struct arena *arena, struct config_plan *result)
    CO_FN CONTROL_FN MUST_CHECK;

/* config_load(), on the pool. */
struct error *reconcile_load(const char *const *paths, size_t count, bool by_client, struct config **out)
    CO_FN CONTROL_FN MUST_CHECK;

/* Reads the files of --config again and reconciles; the log tells what became of it. False: there are none. Does not
 * wait; asked again while it is at work, it begins again afterwards. */
bool reconcile_again(void) CONTROL_FN;

/* The daemon ends: the step that runs is the last one. */
void reconcile_end(void) CONTROL_FN;
/* Waits for it; nobody calls any of these afterwards. */
void reconcile_wait_end(void) CO_FN CONTROL_FN;

#endif
