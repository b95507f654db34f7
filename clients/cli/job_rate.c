#include "clients/cli/job_rate.h"

#include "clients/cli/json_get.h"

#define MEMORY_S 5.0 /* what is that old counts for half as much as what is new, or less */

static double seen_number(const json_t *seen, size_t index)
{
    return json_real_value(json_array_get(seen, index));
}

double job_rate(const struct job_rates *rates, const char *id)
{
    const json_t *seen = json_object_get(rates->seen, id);
    return seen ? seen_number(seen, 2) : -1;
}

/* The longer ago the last look, the less it counts. */
static double mean_rate(double before, double now, double seconds)
{
    double weight = seconds / (seconds + MEMORY_S);
    return before < 0 ? now : before + (now - before) * weight;
}

static json_t *look(const json_t *seen, double progress, double time_s)
{
    double rate = -1;
    if (seen) {
        double seconds = time_s - seen_number(seen, 0);
        double more = progress - seen_number(seen, 1);
        rate = seen_number(seen, 2);
        if (seconds > 0 && more >= 0)
            rate = mean_rate(rate, more / seconds, seconds);
        else if (more < 0)
            rate = -1; /* another job of the same name */
    }
    json_t *now = json_array();
    json_array_append_new(now, json_real(time_s));
    json_array_append_new(now, json_real(progress));
    json_array_append_new(now, json_real(rate));
    return now;
}

void job_rates_add(struct job_rates *rates, const json_t *jobs, double time_s)
{
    json_t *seen = json_object();
    size_t i;
    const json_t *job;

    json_array_foreach(jobs, i, job)
    {
        const char *id = get_text(job, "id");
        double progress = (double)get_number(job, "current-progress");
        json_object_set_new(seen, id, look(json_object_get(rates->seen, id), progress, time_s));
    }
    json_decref(rates->seen);
    rates->seen = seen;
}

void job_rates_fini(struct job_rates *rates)
{
    json_decref(rates->seen);
    rates->seen = NULL;
}

double job_remaining(const struct job_rates *rates, const json_t *job)
{
    double rate = job_rate(rates, get_text(job, "id"));
    double left = (double)get_number(job, "total-progress") - (double)get_number(job, "current-progress");
    if (left <= 0)
        return 0;
    return rate > 0 ? left / rate : -1;
}
