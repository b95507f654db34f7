/* job_events - what clients hear of the lives of jobs */
#ifndef CAIRN_DAEMON_JOB_EVENTS_H
#define CAIRN_DAEMON_JOB_EVENTS_H

#include "blockcore/jobs/job.h"

/* A job_listener; @sink is a struct event_sink. */
void job_events_send(const struct job *job, const struct job_event *event, void *sink) CONTROL_FN;

#endif
