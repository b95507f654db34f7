#include "blockcore/jobs/job.h"

#define BIT(status) (1u << JOB_STATUS_##status)

/* Where a job can go from each status (QMP, qapi/job.json, JobStatus). */
static const unsigned moves[JOB_STATUS__MAX] = {
    [JOB_STATUS_UNDEFINED] = BIT(CREATED),
    [JOB_STATUS_CREATED] = BIT(RUNNING) | BIT(ABORTING) | BIT(NULL),
    [JOB_STATUS_RUNNING] = BIT(PAUSED) | BIT(READY) | BIT(WAITING) | BIT(ABORTING),
    [JOB_STATUS_PAUSED] = BIT(RUNNING),
    [JOB_STATUS_READY] = BIT(STANDBY) | BIT(WAITING) | BIT(ABORTING),
    [JOB_STATUS_STANDBY] = BIT(READY),
    [JOB_STATUS_WAITING] = BIT(PENDING) | BIT(ABORTING),
    [JOB_STATUS_PENDING] = BIT(ABORTING) | BIT(CONCLUDED),
    [JOB_STATUS_ABORTING] = BIT(ABORTING) | BIT(CONCLUDED),
    [JOB_STATUS_CONCLUDED] = BIT(NULL),
    [JOB_STATUS_NULL] = 0,
};

#define WORKING (BIT(CREATED) | BIT(RUNNING) | BIT(PAUSED) | BIT(READY) | BIT(STANDBY))

/* In which statuses each verb is accepted (QMP, qapi/job.json, JobVerb). */
static const struct {
    const char *name;
    unsigned statuses;
} verbs[JOB_VERB_COUNT] = {
    [JOB_VERB_CANCEL] = { "cancel", WORKING | BIT(WAITING) | BIT(PENDING) },
    [JOB_VERB_PAUSE] = { "pause", WORKING },
    [JOB_VERB_RESUME] = { "resume", WORKING },
    [JOB_VERB_SET_SPEED] = { "set-speed", WORKING },
    [JOB_VERB_COMPLETE] = { "complete", BIT(READY) },
    [JOB_VERB_FINALIZE] = { "finalize", BIT(PENDING) },
    [JOB_VERB_DISMISS] = { "dismiss", BIT(CONCLUDED) },
    [JOB_VERB_CHANGE] = { "change", WORKING },
};

bool job_may_move(enum job_status from, enum job_status to)
{
    return moves[from] & (1u << to);
}

bool job_accepts(enum job_status status, enum job_verb verb)
{
    return verbs[verb].statuses & (1u << status);
}

const char *job_verb_name(enum job_verb verb)
{
    return verbs[verb].name;
}
