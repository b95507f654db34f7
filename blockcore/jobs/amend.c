#include "blockcore/jobs/amend.h"

#include "blockcore/base/arena.h"
#include "blockcore/crypto/derive.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/handle.h"
#include "blockcore/jobs/job.h"

#include <string.h>

struct amend {
    const char *node_name;
    const struct blockdev_amend_options *options;
    bool force;
    struct arena arena; /* holds name and options */
    struct derive_waiter waiter;
};

static struct error *find(const char *node_name, const struct blockdev_amend_options *options, struct node **out)
{
    const char *wanted = blockdev_driver_name(options->driver);
    struct node *node = node_find(node_name);
    if (!node)
        return node_not_found(node_name);
    const char *name = node_driver(node)->name;
    if (strcmp(name, wanted) != 0)
        return error_new("node '%s' has driver '%s', not '%s'", node_name, name, wanted);
    if (!node_driver(node)->amend)
        return error_new("driver '%s' cannot amend images", name);
    if (node_is_read_only(node))
        return error_new("node '%s' is read-only", node_name);
    *out = node;
    return NULL;
}

/* The content of the node stays, so others may go on reading and writing it. */
static struct error *amend_run(struct job *job)
{
    struct amend *amend = job_state(job);
    struct node *node;
    struct handle *handle;
    struct error *err = find(amend->node_name, amend->options, &node);
    if (err)
        return err;
    job_progress_add_total(job, 1);
    node_ref(node);
    err = handle_open_here(node, "x-blockdev-amend", PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED, PERM_ALL, &handle);
    if (!err) {
        derive_waiter_begin(&amend->waiter);
        err = node_driver(node)->amend(node, handle, amend->options, amend->force);
        derive_waiter_end(&amend->waiter);
        handle_close(handle);
    }
    node_unref(node);
    job_progress_add(job, 1);
    return err;
}

/* A header may say that trying a password takes for ever. */
static void amend_wake(struct job *job)
{
    struct amend *amend = job_state(job);
    if (job_is_cancelled(job))
        derive_cancel(&amend->waiter);
}

static void amend_fini(struct job *job)
{
    struct amend *amend = job_state(job);

    arena_fini(&amend->arena);
}

static const struct job_driver amend_driver = {
    .type = JOB_TYPE_AMEND,
    .state_size = sizeof(struct amend),
    .run = amend_run,
    .wake = amend_wake,
    .fini = amend_fini,
};

struct error *amend_job_start(const char *id, const char *node_name, const struct blockdev_amend_options *options,
                              bool force, struct arena *arena)
{
    struct node *node;
    struct job *job;
    struct error *err = find(node_name, options, &node);
    if (!err)
        err = job_create(&amend_driver, id, JOB_MANUAL_DISMISS, NULL, &job);
    if (err)
        return err;
    struct amend *amend = job_state(job);
    *amend = (struct amend){ .node_name = node_name, .options = options, .force = force, .arena = *arena };
    arena_init(arena, arena->limit);
    job_start(job);
    return NULL;
}
