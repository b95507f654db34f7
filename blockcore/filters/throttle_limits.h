/* throttle_limits - how much I/O a group lets through: six rates, each with a burst
 *
 * Numbers and their rules only; throttle_bucket.h has the time. */
#ifndef CAIRN_FILTERS_THROTTLE_LIMITS_H
#define CAIRN_FILTERS_THROTTLE_LIMITS_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdint.h>

struct throttle_limits; /* of the schema */

/* What is limited: requests or bytes, of which kind of requests. */
enum throttle_rate {
    THROTTLE_IOPS_TOTAL,
    THROTTLE_IOPS_READ,
    THROTTLE_IOPS_WRITE,
    THROTTLE_BPS_TOTAL,
    THROTTLE_BPS_READ,
    THROTTLE_BPS_WRITE,
};

#define THROTTLE_RATES 6
#define THROTTLE_RATE_MAX 1000000000000000 /* a second */

struct throttle_rate_limit {
    int64_t average;       /* a second; 0: no limit */
    int64_t burst;         /* a second; 0: no bursts */
    int64_t burst_seconds; /* at least 1 */
};

struct throttle_config {
    struct throttle_rate_limit rates[THROTTLE_RATES];
    int64_t request_bytes; /* bytes that count as one request; 0: any number */
};

/* No limits. */
void throttle_config_init(struct throttle_config *config);

/* Takes over what is given; the rest stays. */
void throttle_config_take(struct throttle_config *config, const struct throttle_limits *given);

/* Do the limits go together? */
struct error *throttle_config_check(const struct throttle_config *config) MUST_CHECK;

/* All members present. */
void throttle_config_describe(const struct throttle_config *config, struct throttle_limits *limits);

#endif
