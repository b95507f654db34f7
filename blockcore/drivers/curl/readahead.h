/* readahead - what was read lately from far away, and what comes after it
 *
 * Each fetch brings more than was asked for, since asking costs more than transferring. A node keeps a few windows of
 * what came; the one that was used longest ago gives way to the next.
 *
 *     asked     |--64k--|
 *     fetched   |--64k--|........readahead........|     one window; who reads inside of it while it is on its way waits
 *
 * Who waits for a fetch that fails, fails with it: a server that is dead is not asked once more for each of them.
 *
 * Invariant: a window with users, or one that is loading, is not replaced and its memory does not move. */
#ifndef CAIRN_DRIVERS_CURL_READAHEAD_H
#define CAIRN_DRIVERS_CURL_READAHEAD_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/iov.h"
#include "blockcore/base/range.h"

#define READAHEAD_WINDOWS_MAX 8 /* of a node; as many fetches are under way at the same time */

struct readahead;

struct readahead_source {
    /* @range.bytes bytes to @data. 0 or -errno. Any loop. */
    int (*fetch)(void *arg, struct range range, char *data) CO_FN;
    void *arg;
    uint64_t length; /* nothing is fetched behind it */
};

/* @ahead_bytes: how much more than what was asked for; 0 is allowed. */
struct readahead *readahead_create(const struct readahead_source *source, uint64_t ahead_bytes);

/* No read is running. NULL is allowed. */
void readahead_destroy(struct readahead *ahead);

/* @range, inside the length, to @iov. Takes memory for @range and what comes after it. Any loop; 0 or -errno. */
int readahead_read(struct readahead *ahead, struct range range, const struct iov *iov) CO_FN;

#endif
