/* job_rate - how fast jobs go, from looking at them again and again
 *
 * query-jobs tells progress, and no time. The rate of a job is a mean over what was seen, in which the last seconds
 * count most, so the remaining time neither jumps nor sticks. */
#ifndef CAIRN_CLI_JOB_RATE_H
#define CAIRN_CLI_JOB_RATE_H

#include <jansson.h>

/* What was seen last. Zeroed at first; job_rates_fini(). */
struct job_rates {
    json_t *seen; /* object: id -> [ time, progress, rate ] */
};

/* The answer of query-jobs, taken at @time_s (of any clock that only goes forward). */
void job_rates_add(struct job_rates *rates, const json_t *jobs, double time_s);
void job_rates_fini(struct job_rates *rates);
static inline void job_rates_fini_cleanup(struct job_rates *rates)
{
    job_rates_fini(rates);
}

/* Units of progress in a second; negative while it is not known. */
double job_rate(const struct job_rates *rates, const char *id);

/* Seconds to go for a JobInfo; negative while that is not known. */
double job_remaining(const struct job_rates *rates, const json_t *job);

#endif
