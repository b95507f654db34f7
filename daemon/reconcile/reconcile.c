#include "daemon/reconcile/reconcile.h"

#include "blockcore/base/hash.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/pool.h"
#include "blockcore/runtime/sync.h"
#include "daemon/check.h"
#include "daemon/config.h"
#include "daemon/daemon.h"
#include "daemon/full_path.h"
#include "daemon/log.h"
#include "daemon/options.h"
#include "daemon/path.h"
#include "daemon/reconcile/apply.h"
#include "daemon/reconcile/inventory.h"
#include "daemon/reconcile/plan.h"
#include "daemon/service_manager.h"
#include "rpc/server.h"
#include "schema/cairn_descriptors.h"
#include "schema/cairn_events.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What configurations describe, by plan_key(). */
struct names {
    struct hash hash; /* of struct name */
    struct arena arena;
};

struct name {
    struct hash_link by_key;
};

static struct {
    struct cairn_config settings;
    const char **paths; /* of --config */
    size_t paths_count;
    struct names *described;
    struct names at_start; /* the settings among them, which count until the end */
    bool busy;             /* one at a time */
    struct co_queue others;
    struct apply_wish wish; /* of the one by SIGHUP */
    bool started;
    struct co_queue starting; /* who waits for it */
    bool ends;
    bool running; /* the coroutine that reads files again */
    bool again;
    struct co_queue idle;
} reconcile;

/* Names ------------------------------------------------------------------------------------------------------------ */

static void names_init(struct names *names)
{
    hash_init(&names->hash);
    arena_init(&names->arena, SIZE_MAX);
}

static void names_fini(struct names *names)
{
    hash_fini(&names->hash);
    arena_fini(&names->arena);
}

static struct names *names_create(void)
{
    struct names *names = xcalloc(1, sizeof(*names));
    names_init(names);
    return names;
}

static void names_destroy(struct names *names)
{
    if (names)
        names_fini(names);
    free(names);
}

static void names_add(struct names *names, const char *key)
{
    if (hash_find_string(&names->hash, key))
        return;
    struct name *name = arena_alloc(&names->arena, sizeof(*name));
    hash_insert_string(&names->hash, &name->by_key, arena_strdup(&names->arena, key));
}

static void describe(enum config_item item, const char *name, void *arg)
{
    struct names *names = arg;
    if (item != CONFIG_ITEM_SETTING)
        names_add(names, plan_key(&names->arena, item, name));
}

static void describe_setting(enum config_item item, const char *name, void *arg)
{
    struct names *names = arg;
    if (item == CONFIG_ITEM_SETTING)
        names_add(names, plan_key(&names->arena, item, name));
}

/* Settings of the start belong to all. */
static struct names *names_of(const struct cairn_config *values)
{
    struct names *names = names_create();
    const struct names *at_start = &reconcile.at_start;
    for (struct hash_link *link = hash_next(&at_start->hash, NULL); link; link = hash_next(&at_start->hash, link))
        names_add(names, link->key.string);
    plan_for_each(values, &names->arena, describe, names);
    return names;
}

/* The beginning and the end ---------------------------------------------------------------------------------------- */

static void take_config(const struct option_item *item)
{
    const struct cairn_config *values = config_values(item->config);
    config_take_settings(values, &reconcile.settings, &reconcile.at_start.arena);
    reconcile.paths = xrealloc_array(reconcile.paths, reconcile.paths_count + 1, sizeof(*reconcile.paths));
    reconcile.paths[reconcile.paths_count++] = path_for_later(item->text);
    plan_for_each(values, &reconcile.at_start.arena, describe_setting, &reconcile.at_start);
    plan_for_each(values, &reconcile.described->arena, describe, reconcile.described);
}

/* Settings are among what is described. */
static void describe_settings_of_start(void)
{
    const struct names *at_start = &reconcile.at_start;
    for (struct hash_link *link = hash_next(&at_start->hash, NULL); link; link = hash_next(&at_start->hash, link))
        names_add(reconcile.described, link->key.string);
}

void reconcile_begin(const struct options *options)
{
    names_init(&reconcile.at_start);
    reconcile.described = names_create();
    co_queue_init(&reconcile.others);
    co_queue_init(&reconcile.starting);
    co_queue_init(&reconcile.idle);
    for (size_t i = 0; i < options->count; i++) {
        if (options->items[i].config)
            take_config(&options->items[i]);
    }
    describe_settings_of_start();
    if (options->image_policy)
        reconcile.settings.image_policy = options->image_policy;
    if (options->pidfile)
        reconcile.settings.pidfile = options->pidfile;
    const struct cairn_config *full =
        full_path_copy(&cairn_config_descriptor, &reconcile.settings, &reconcile.at_start.arena);
    if (full)
        reconcile.settings = *full;
}

void reconcile_allow(void)
{
    reconcile.started = true;
    co_queue_wake_all(&reconcile.starting);
}

const struct cairn_config *reconcile_settings(void)
{
    return &reconcile.settings;
}

void reconcile_end(void)
{
    reconcile.ends = true;
    apply_cancel(&reconcile.wish);
    co_queue_wake_all(&reconcile.starting);
}

void reconcile_wait_end(void)
{
    while (reconcile.running)
        co_queue_wait(&reconcile.idle, NULL, "a configuration that is applied");
    for (size_t i = 0; i < reconcile.paths_count; i++)
        free((char *)(uintptr_t)reconcile.paths[i]);
    free(reconcile.paths);
    names_destroy(reconcile.described);
    names_fini(&reconcile.at_start);
    co_queue_fini(&reconcile.idle);
    co_queue_fini(&reconcile.starting);
    co_queue_fini(&reconcile.others);
}

/* Comparing -------------------------------------------------------------------------------------------------------- */

/* For the pool: nothing of this touches what runs. */
struct comparison {
    const struct config *config;
    struct plan_request request;
    struct arena *arena;
    struct plan plan;
    struct arena *told_in;
    struct config_plan told;
    struct names *names; /* described from now on */
    struct error *err;
};

struct knowing {
    struct check *check;
    const struct comparison *comparison;
    struct arena arena;
};

/* What stays, though it is not described, may be referred to. */
static void know_if_it_stays(enum config_item item, const char *name, void *arg)
{
    struct knowing *knowing = arg;
    const char *key = plan_key(&knowing->arena, item, name);
    if (!hash_find_string(knowing->comparison->request.described, key) &&
        !hash_find_string(&knowing->comparison->names->hash, key))
        check_know(knowing->check, item, name);
}

/* Is it right in itself, and beside what stays? */
static struct error *check_wanted(const struct comparison *comparison)
{
    struct knowing knowing = { .check = check_create(), .comparison = comparison };
    arena_init(&knowing.arena, SIZE_MAX);
    if (!comparison->request.prune)
        plan_for_each(comparison->request.now, &knowing.arena, know_if_it_stays, &knowing);
    struct error *err = check_config(knowing.check, comparison->config);
    arena_fini(&knowing.arena);
    check_destroy(knowing.check);
    return err;
}

static void tell_steps(const struct plan *plan, struct arena *arena, struct config_plan *result)
{
    struct config_step *steps = arena_array(arena, plan->count, sizeof(*steps));
    size_t count = 0;
    for (size_t i = 0; i < plan->count; i++) {
        const struct plan_step *step = &plan->steps[i];
        if (!step->untold)
            steps[count++] = (struct config_step){
                .action = step->action,
                .item = step->item,
                .name = arena_strdup(arena, step->name),
                .text = arena_strdup(arena, step->text),
            };
    }
    result->steps = steps;
    result->steps_count = count;
}

static int compare(void *arg)
{
    struct comparison *comparison = arg;
    comparison->request.wanted =
        full_path_copy(&cairn_config_descriptor, comparison->request.wanted, comparison->arena);
    if (!comparison->request.wanted) {
        comparison->err = error_errno(ENOMEM, "comparing configurations");
        return 0;
    }
    comparison->names = names_of(comparison->request.wanted);
    comparison->err = check_wanted(comparison);
    if (!comparison->err)
        comparison->err = plan_make(&comparison->request, comparison->arena, &comparison->plan);
    if (!comparison->err)
        tell_steps(&comparison->plan, comparison->told_in, &comparison->told);
    return 0;
}

/* Described, compared and told. Names are the caller's. */
static struct error *make_plan(const struct reconcile_request *request, struct comparison *comparison) CO_FN;

static struct error *make_plan(const struct reconcile_request *request, struct comparison *comparison)
{
    struct inventory *inventory = arena_alloc(comparison->arena, sizeof(*inventory));
    inventory_take(inventory, &reconcile.settings, comparison->arena);
    if (inventory->incomplete)
        return error_errno(ENOMEM, "describing what runs");
    comparison->request = (struct plan_request){
        .now = &inventory->values,
        .wanted = config_values(request->config),
        .described = &reconcile.described->hash,
        .prune = request->prune,
    };
    if (co_blocking(NULL, compare, comparison) < 0)
        return error_errno(ENOMEM, "comparing configurations");
    return comparison->err;
}

static struct error *run(const struct reconcile_request *request, struct comparison *comparison) CO_FN;

static struct error *run(const struct reconcile_request *request, struct comparison *comparison)
{
    if (reconcile.ends)
        return error_new("the daemon ends");
    struct error *err = make_plan(request, comparison);
    const struct apply_request steps = {
        .config = request->config,
        .plan = &comparison->plan,
        .now = comparison->request.now,
        .asker = request->asker,
        .wish = request->wish,
        .ends = &reconcile.ends,
    };
    if (!err)
        err = apply_check(&steps);
    if (!err && !request->dry_run)
        err = apply_plan(&steps);
    if (err || request->dry_run)
        return err;
    names_destroy(reconcile.described);
    reconcile.described = steal(&comparison->names);
    comparison->told.applied = true;
    return NULL;
}

static void tell_everybody(const struct error *err, size_t steps)
{
    event_config_applied(rpc_server_events(daemon_rpc_server()), &(struct config_applied_event){
                                                                     .steps = err ? 0 : steps,
                                                                     .error = err ? error_message(err) : NULL,
                                                                 });
}

/* False: whoever asked has lost interest while others had their turn. */
static bool take_turn(void) CO_FN;

static bool take_turn(void)
{
    bool wanted = true;
    while (wanted && !reconcile.started && !reconcile.ends)
        wanted = co_queue_wait_unless_cancelled(&reconcile.starting, "what the command line asks for");
    while (wanted && reconcile.busy)
        wanted = co_queue_wait_unless_cancelled(&reconcile.others, "another configuration that is being applied");
    reconcile.busy = reconcile.busy || wanted;
    return wanted;
}

static void end_turn(void)
{
    reconcile.busy = false;
    co_queue_wake_all(&reconcile.others);
}

struct error *reconcile_run(const struct reconcile_request *request, struct arena *arena, struct config_plan *result)
{
    if (!take_turn())
        return error_errno(ECANCELED, "applying a configuration");
    struct arena memory;
    arena_init(&memory, SIZE_MAX);
    struct comparison comparison = { .config = request->config, .arena = &memory, .told_in = arena };
    struct error *err = run(request, &comparison);
    end_turn();
    if (!err)
        *result = comparison.told;
    if (!request->dry_run)
        tell_everybody(err, comparison.told.steps_count);
    names_destroy(comparison.names);
    arena_fini(&memory);
    return err;
}

/* Files ------------------------------------------------------------------------------------------------------------ */

struct loading {
    const char *const *paths;
    size_t count;
    bool by_client;
    struct config *config;
    struct error *err;
};

static int load(void *arg)
{
    struct loading *loading = arg;
    loading->err = config_load(loading->paths, loading->count, loading->by_client, &loading->config);
    return 0;
}

struct error *reconcile_load(const char *const *paths, size_t count, bool by_client, struct config **out)
{
    struct loading loading = { .paths = paths, .count = count, .by_client = by_client };
    struct pool_domain *domain = pool_domain_create("configuration", 1);
    int ret = co_blocking(domain, load, &loading);
    pool_domain_unref(domain);
    if (ret < 0)
        return error_errno(-ret, "reading a configuration");
    *out = loading.config;
    return loading.err;
}

static struct error *read_and_apply(struct arena *arena, struct config_plan *plan) CO_FN;

static struct error *read_and_apply(struct arena *arena, struct config_plan *plan)
{
    struct config *config = NULL;
    struct error *err = reconcile_load(reconcile.paths, reconcile.paths_count, false, &config);
    if (err)
        tell_everybody(err, 0);
    else
        err = reconcile_run(&(struct reconcile_request){ .config = config, .wish = &reconcile.wish }, arena, plan);
    config_destroy(config);
    return err;
}

static void read_again(void *arg)
{
    (void)arg;
    while (reconcile.again && !reconcile.ends) {
        struct arena arena;
        struct config_plan plan = { 0 };
        arena_init(&arena, SIZE_MAX);
        reconcile.again = false;
        service_reloading();
        struct error *err = read_and_apply(&arena, &plan);
        if (err)
            log_warning("the configuration was not applied: %s", error_message(err));
        error_free(err);
        for (size_t i = 0; i < plan.steps_count; i++)
            log_info("%s", plan.steps[i].text);
        if (!err)
            log_info("the configuration was applied: %zu steps", plan.steps_count);
        arena_fini(&arena);
        if (!reconcile.ends)
            service_ready();
    }
    reconcile.running = false;
    co_queue_wake_all(&reconcile.idle);
}

bool reconcile_again(void)
{
    if (reconcile.paths_count == 0)
        return false;
    reconcile.again = true;
    if (!reconcile.running) {
        reconcile.running = true;
        co_start("configuration", read_again, NULL);
    }
    return true;
}
