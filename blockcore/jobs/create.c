#include "blockcore/jobs/create.h"

#include "blockcore/base/arena.h"
#include "blockcore/crypto/derive.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/node_policy.h"
#include "blockcore/jobs/job.h"
#include "schema/cairn_types.h"

struct create {
    const struct driver *driver;
    const struct blockdev_create_options *options;
    struct arena arena; /* holds the options */
    struct derive_waiter waiter;
};

static struct error *create_run(struct job *job)
{
    struct create *create = job_state(job);

    job_progress_add_total(job, 1);
    derive_waiter_begin(&create->waiter);
    struct error *err = create->driver->create(create->options);
    derive_waiter_end(&create->waiter);
    job_progress_add(job, 1);
    return err;
}

/* Whoever wants it very safe makes trying a password take very long. */
static void create_wake(struct job *job)
{
    struct create *create = job_state(job);
    if (job_is_cancelled(job))
        derive_cancel(&create->waiter);
}

static void create_fini(struct job *job)
{
    struct create *create = job_state(job);

    arena_fini(&create->arena);
}

static const struct job_driver create_driver = {
    .type = JOB_TYPE_CREATE,
    .state_size = sizeof(struct create),
    .run = create_run,
    .wake = create_wake,
    .fini = create_fini,
};

struct error *create_job_start(const char *id, const struct blockdev_create_options *options, struct arena *arena)
{
    const char *name = blockdev_driver_name(options->driver);
    const struct driver *driver = driver_find(name);
    struct job *job;

    if (!driver || !driver->create)
        return error_new("driver '%s' cannot create images", name);
    struct error *err = node_policy_check_driver(driver);
    if (err)
        return err;
    err = job_create(&create_driver, id, JOB_MANUAL_DISMISS, NULL, &job);
    if (err)
        return err;
    struct create *create = job_state(job);
    create->driver = driver;
    create->options = options;
    create->arena = *arena;
    arena_init(arena, arena->limit);
    job_start(job);
    return NULL;
}
