#include "blockcore/filters/throttle_limits.h"

#include "schema/cairn_types.h"

void throttle_config_init(struct throttle_config *config)
{
    *config = (struct throttle_config){ 0 };
    for (unsigned i = 0; i < THROTTLE_RATES; i++)
        config->rates[i].burst_seconds = 1;
}

static void take(int64_t *to, bool given, int64_t value)
{
    if (given)
        *to = value;
}

#define TAKE(rate, name)                                                                                               \
    do {                                                                                                               \
        take(&config->rates[rate].average, given->has_##name, given->name);                                            \
        take(&config->rates[rate].burst, given->has_##name##_max, given->name##_max);                                  \
        take(&config->rates[rate].burst_seconds, given->has_##name##_max_length, given->name##_max_length);            \
    } while (0)

void throttle_config_take(struct throttle_config *config, const struct throttle_limits *given)
{
    TAKE(THROTTLE_IOPS_TOTAL, iops_total);
    TAKE(THROTTLE_IOPS_READ, iops_read);
    TAKE(THROTTLE_IOPS_WRITE, iops_write);
    TAKE(THROTTLE_BPS_TOTAL, bps_total);
    TAKE(THROTTLE_BPS_READ, bps_read);
    TAKE(THROTTLE_BPS_WRITE, bps_write);
    take(&config->request_bytes, given->has_iops_size, given->iops_size);
}

#define DESCRIBE(rate, name)                                                                                           \
    do {                                                                                                               \
        limits->has_##name = limits->has_##name##_max = limits->has_##name##_max_length = true;                        \
        limits->name = config->rates[rate].average;                                                                    \
        limits->name##_max = config->rates[rate].burst;                                                                \
        limits->name##_max_length = config->rates[rate].burst_seconds;                                                 \
    } while (0)

void throttle_config_describe(const struct throttle_config *config, struct throttle_limits *limits)
{
    DESCRIBE(THROTTLE_IOPS_TOTAL, iops_total);
    DESCRIBE(THROTTLE_IOPS_READ, iops_read);
    DESCRIBE(THROTTLE_IOPS_WRITE, iops_write);
    DESCRIBE(THROTTLE_BPS_TOTAL, bps_total);
    DESCRIBE(THROTTLE_BPS_READ, bps_read);
    DESCRIBE(THROTTLE_BPS_WRITE, bps_write);
    limits->has_iops_size = true;
    limits->iops_size = config->request_bytes;
}

static const char *const rate_names[THROTTLE_RATES] = {
    [THROTTLE_IOPS_TOTAL] = "iops-total", [THROTTLE_IOPS_READ] = "iops-read", [THROTTLE_IOPS_WRITE] = "iops-write",
    [THROTTLE_BPS_TOTAL] = "bps-total",   [THROTTLE_BPS_READ] = "bps-read",   [THROTTLE_BPS_WRITE] = "bps-write",
};

static struct error *check_rate(const struct throttle_rate_limit *rate, const char *name)
{
    if (rate->burst_seconds > 1 && !rate->burst)
        return error_new("burst length set without burst rate: '%s-max-length' needs '%s-max'", name, name);
    if (rate->burst && rate->burst_seconds > THROTTLE_RATE_MAX / rate->burst)
        return error_new("burst length too high for this burst rate: '%s-max' times '%s-max-length' is more than %lld",
                         name, name, (long long)THROTTLE_RATE_MAX);
    if (rate->burst && !rate->average)
        return error_new("bps_max/iops_max require corresponding bps/iops values: '%s-max' needs '%s'", name, name);
    if (rate->burst && rate->burst < rate->average)
        return error_new("bps_max/iops_max cannot be lower than bps/iops: '%s-max' is lower than '%s'", name, name);
    return NULL;
}

/* Is one limit given for both kinds together, and for one of them too? */
static bool contradicts(const struct throttle_rate_limit *total)
{
    const struct throttle_rate_limit *read = total + 1;
    const struct throttle_rate_limit *write = total + 2;
    return (total->average && (read->average || write->average)) || (total->burst && (read->burst || write->burst));
}

struct error *throttle_config_check(const struct throttle_config *config)
{
    const struct throttle_rate_limit *rates = config->rates;
    if (contradicts(&rates[THROTTLE_IOPS_TOTAL]) || contradicts(&rates[THROTTLE_BPS_TOTAL]))
        return error_new("bps/iops/max total values and read/write values cannot be used at the same time");
    bool limits_requests =
        rates[THROTTLE_IOPS_TOTAL].average || rates[THROTTLE_IOPS_READ].average || rates[THROTTLE_IOPS_WRITE].average;
    if (config->request_bytes && !limits_requests)
        return error_new("iops size requires an iops value to be set");
    struct error *err = NULL;
    for (unsigned i = 0; i < THROTTLE_RATES && !err; i++)
        err = check_rate(&rates[i], rate_names[i]);
    return err;
}
