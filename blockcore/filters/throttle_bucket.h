/* throttle_bucket - the time in the limits: six buckets that leak
 *
 * What passes goes into the bucket of each rate that it counts for; what the rate allows runs out all the time. While a
 * bucket holds more than its size, nothing more passes. So a request is never too large, but those after it wait the
 * longer.
 *
 *     without bursts    size: a tenth of a second at the rate, so that not every other request waits
 *     with bursts       size: the burst's rate times its length. If that is longer than a second, a second bucket with
 *                       a tenth of a second at the burst's rate keeps the burst to its rate.
 *
 * Pure: time is given. The caller has the lock. Source: QEMU, docs/throttle.txt, "The Leaky Bucket algorithm". */
#ifndef CAIRN_FILTERS_THROTTLE_BUCKET_H
#define CAIRN_FILTERS_THROTTLE_BUCKET_H

#include "blockcore/filters/throttle_limits.h"

#include <stdbool.h>

/* The longest wait that is told at once, in nanoseconds: an hour. */
#define THROTTLE_WAIT_MAX_NS UINT64_C(3600000000000)

enum throttle_direction {
    THROTTLE_READ,
    THROTTLE_WRITE,
};

#define THROTTLE_DIRECTIONS 2

/* What a bucket holds, in requests or bytes. */
struct throttle_bucket {
    double level;
    double burst_level;
};

struct throttle_buckets {
    struct throttle_config config;
    struct throttle_bucket buckets[THROTTLE_RATES];
    uint64_t leaked_ns; /* up to when */
};

/* New limits, empty buckets. */
void throttle_buckets_init(struct throttle_buckets *buckets, const struct throttle_config *config, uint64_t now_ns);

/* Is anything limited? */
bool throttle_config_limits(const struct throttle_config *config);

/* How long until the next request in @direction may pass, if nothing else does; 0: now. At most THROTTLE_WAIT_MAX_NS.
 */
uint64_t throttle_buckets_wait(struct throttle_buckets *buckets, enum throttle_direction direction, uint64_t now_ns);

/* A request passes, allowed or not. */
void throttle_buckets_account(struct throttle_buckets *buckets, enum throttle_direction direction, uint64_t bytes);

#endif
