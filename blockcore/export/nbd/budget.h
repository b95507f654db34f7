/* budget - bytes of request data that may be in memory
 *
 * Each connection may always have NBD_FREE_BYTES in flight, so that no other can bring it to a standstill. What the
 * connections of an export have beyond that is on the export's account: the first NBD_EXPORT_BYTES are its own, so that
 * it can always go on with a request of any length, and the rest is taken from one budget of the process. Of that, an
 * export has at most as much as it leaves to the others. So exports whose storage is dead, however many there are,
 * never use up what the next one needs. What cannot be had now is waited for, on each account first come first served:
 * much is not waited for in vain because others come again and again for little.
 *
 *     connection: [ 1 MiB free | beyond ]--.
 *     connection: [ 1 MiB free | beyond ]--+--> export: [ 32 MiB its own | beyond ]--.
 *                                               export: [ 32 MiB its own | beyond ]--+--> process: 1 GiB */
#ifndef CAIRN_EXPORT_NBD_BUDGET_H
#define CAIRN_EXPORT_NBD_BUDGET_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/list.h"

#include <stdbool.h>
#include <stdint.h>

#define NBD_BUDGET_BYTES (UINT64_C(1) << 30)          /* of the process */
#define NBD_EXPORT_BYTES (UINT64_C(32) << 20)         /* of each export, beside that */
#define NBD_FREE_BYTES (UINT64_C(1) << 20)            /* of each connection, beside both */
#define NBD_CONNECTION_BYTES_MAX (UINT64_C(64) << 20) /* of each connection, all together */

/* Of an export; begins zeroed. Nothing is taken when it ends. All in it is the budget's. */
struct nbd_account {
    uint64_t taken;
    struct list waiting; /* for their turn; zeroed: nobody ever has */
};

/* Of @in_flight bytes of one connection: what is on the account. */
static inline uint64_t nbd_budget_share(uint64_t in_flight)
{
    return in_flight > NBD_FREE_BYTES ? in_flight - NBD_FREE_BYTES : 0;
}

/* Waits until @bytes are there and takes them. False, with nothing taken, once *given_up, which is looked at whenever
 * nbd_budget_kick() was called. */
bool nbd_budget_take(struct nbd_account *account, uint64_t bytes, const bool *given_up) CO_FN;
void nbd_budget_give(struct nbd_account *account, uint64_t bytes);

/* Does somebody wait for what is on this account? Then those who hold bytes without making progress should let go. */
bool nbd_budget_is_short(const struct nbd_account *account);

void nbd_budget_kick(void);

#endif
