/* budget - bytes of request data that may be in memory
 *
 * Each connection may always have NBD_FREE_BYTES in flight, so that no other can bring it to a standstill. What it has
 * beyond that is taken from one budget of the process, and is waited for when that is used up. */
#ifndef CAIRN_EXPORT_NBD_BUDGET_H
#define CAIRN_EXPORT_NBD_BUDGET_H

#include "blockcore/base/annotations.h"

#include <stdbool.h>
#include <stdint.h>

#define NBD_BUDGET_BYTES (UINT64_C(1) << 30)          /* of the process, beyond what is free */
#define NBD_FREE_BYTES (UINT64_C(1) << 20)            /* of each connection */
#define NBD_CONNECTION_BYTES_MAX (UINT64_C(64) << 20) /* of each connection, all together */

/* Of @in_flight bytes of one connection: what the budget has to cover. */
static inline uint64_t nbd_budget_share(uint64_t in_flight)
{
    return in_flight > NBD_FREE_BYTES ? in_flight - NBD_FREE_BYTES : 0;
}

/* Waits until @bytes are there and takes them. False, with nothing taken, once *given_up, which is looked at whenever
 * nbd_budget_kick() was called. */
bool nbd_budget_take(uint64_t bytes, const bool *given_up) CO_FN;
void nbd_budget_give(uint64_t bytes);

/* Does somebody wait? Then those who hold bytes without making progress should let go. */
bool nbd_budget_is_short(void);

void nbd_budget_kick(void);

#endif
