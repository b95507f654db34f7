/* readahead - what was read lately from far away, and what comes after it
 *
 * Each fetch brings more than was asked for, since asking costs more than transferring. A node keeps a few windows of
 * what came; the one that was used longest ago gives way to the next.
 *
 *     asked     |--64k--|
 *     fetched   |--64k--|........readahead........|     one window
 *     there     |##########>                            who reads what is not there yet waits for that much
 *
 * Bytes are handed out as they come; nobody waits for those that only come along. Who waits for a fetch that fails,
 * fails with it: a server that is dead is not asked once more for each of them. What had come by then stays.
 *
 * Invariant: a window with users, or one that is loading, is not replaced and its memory does not move. */
#ifndef CAIRN_DRIVERS_CURL_READAHEAD_H
#define CAIRN_DRIVERS_CURL_READAHEAD_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/iov.h"
#include "blockcore/base/range.h"

#define READAHEAD_WINDOWS_MAX 8 /* of a node; as many fetches are under way at the same time */

struct readahead;

/* Told how much of a fetch has come, counted from its begin. Any thread, one call after the other. */
struct arrival {
    void (*arrived)(void *arg, uint64_t bytes);
    void *arg;
};

struct readahead_source {
    /* @range.bytes bytes to @data, from the first to the last; tells @arrival in between. 0 or -errno. Any loop. */
    int (*fetch)(void *arg, struct range range, char *data, const struct arrival *arrival) CO_FN;
    void *arg;
    uint64_t length; /* nothing is fetched behind it */
};

/* @ahead_bytes: how much more than what was asked for; 0 is allowed. */
struct readahead *readahead_create(const struct readahead_source *source, uint64_t ahead_bytes);

/* No read is running. Waits for the end of fetches, so the source is told before that nobody wants them. NULL is
 * allowed. */
void readahead_destroy(struct readahead *ahead) CO_FN;

/* @range, inside the length, to @iov. Takes memory for @range and what comes after it. Any loop; 0 or -errno. */
int readahead_read(struct readahead *ahead, struct range range, const struct iov *iov) CO_FN;

#endif
