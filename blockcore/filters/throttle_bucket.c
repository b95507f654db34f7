#include "blockcore/filters/throttle_bucket.h"

#include "blockcore/base/range.h"

#define NS_PER_SECOND 1e9
#define SLACK 10 /* a tenth of a second */

void throttle_buckets_init(struct throttle_buckets *buckets, const struct throttle_config *config, uint64_t now_ns)
{
    *buckets = (struct throttle_buckets){ .config = *config, .leaked_ns = now_ns };
}

bool throttle_config_limits(const struct throttle_config *config)
{
    for (unsigned i = 0; i < THROTTLE_RATES; i++) {
        if (config->rates[i].average)
            return true;
    }
    return false;
}

static double less(double level, double leak)
{
    return level > leak ? level - leak : 0;
}

static void leak(struct throttle_buckets *buckets, uint64_t now_ns)
{
    if (now_ns <= buckets->leaked_ns)
        return;
    double seconds = (double)(now_ns - buckets->leaked_ns) / NS_PER_SECOND;
    buckets->leaked_ns = now_ns;
    for (unsigned i = 0; i < THROTTLE_RATES; i++) {
        const struct throttle_rate_limit *rate = &buckets->config.rates[i];
        struct throttle_bucket *bucket = &buckets->buckets[i];
        bucket->level = less(bucket->level, (double)rate->average * seconds);
        bucket->burst_level = less(bucket->burst_level, (double)rate->burst * seconds);
    }
}

/* Until @excess has run out at @rate a second. */
static uint64_t time_for(double excess, int64_t rate)
{
    if (excess <= 0)
        return 0;
    double ns = excess / (double)rate * NS_PER_SECOND + 1;
    return ns < (double)THROTTLE_WAIT_MAX_NS ? (uint64_t)ns : THROTTLE_WAIT_MAX_NS;
}

static uint64_t bucket_wait(const struct throttle_rate_limit *rate, const struct throttle_bucket *bucket)
{
    if (!rate->average)
        return 0;
    double size = rate->burst ? (double)rate->burst * (double)rate->burst_seconds : (double)rate->average / SLACK;
    uint64_t wait = time_for(bucket->level - size, rate->average);
    if (wait == 0 && rate->burst_seconds > 1)
        wait = time_for(bucket->burst_level - (double)rate->burst / SLACK, rate->burst);
    return wait;
}

/* The rates that a request in @direction counts for: requests and bytes, together and of its kind. */
#define COUNTED_RATES 4

static enum throttle_rate counted_rate(enum throttle_direction direction, unsigned i)
{
    static const enum throttle_rate rates[THROTTLE_DIRECTIONS][COUNTED_RATES] = {
        [THROTTLE_READ] = { THROTTLE_IOPS_TOTAL, THROTTLE_IOPS_READ, THROTTLE_BPS_TOTAL, THROTTLE_BPS_READ },
        [THROTTLE_WRITE] = { THROTTLE_IOPS_TOTAL, THROTTLE_IOPS_WRITE, THROTTLE_BPS_TOTAL, THROTTLE_BPS_WRITE },
    };
    return rates[direction][i];
}

uint64_t throttle_buckets_wait(struct throttle_buckets *buckets, enum throttle_direction direction, uint64_t now_ns)
{
    leak(buckets, now_ns);
    uint64_t longest = 0;
    for (unsigned i = 0; i < COUNTED_RATES; i++) {
        enum throttle_rate rate = counted_rate(direction, i);
        longest = max_u64(longest, bucket_wait(&buckets->config.rates[rate], &buckets->buckets[rate]));
    }
    return longest;
}

void throttle_buckets_account(struct throttle_buckets *buckets, enum throttle_direction direction, uint64_t bytes)
{
    double unit = (double)buckets->config.request_bytes;
    double requests = unit > 0 && (double)bytes > unit ? (double)bytes / unit : 1;
    for (unsigned i = 0; i < COUNTED_RATES; i++) {
        enum throttle_rate rate = counted_rate(direction, i);
        double amount = rate >= THROTTLE_BPS_TOTAL ? (double)bytes : requests;
        buckets->buckets[rate].level += amount;
        buckets->buckets[rate].burst_level += amount;
    }
}
