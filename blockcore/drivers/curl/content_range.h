/* content_range - what a server says that it sends (RFC 9110, 14.4)
 *
 *     Content-Range: bytes 0-511/4096      these bytes, of so many
 *     Content-Range: bytes 0-511/ *        of nobody knows how many (without the blank)
 *     Content-Range: bytes * /4096         there are no such bytes, only so many (without the blank) */
#ifndef CAIRN_DRIVERS_CURL_CONTENT_RANGE_H
#define CAIRN_DRIVERS_CURL_CONTENT_RANGE_H

#include "blockcore/base/range.h"

#include <stdbool.h>
#include <stddef.h>

enum content_range_state {
    CONTENT_RANGE_ABSENT,
    CONTENT_RANGE_MALFORMED,
    CONTENT_RANGE_TOLD,
};

struct content_range {
    enum content_range_state state;
    struct range range;  /* of 0 bytes: the server has none of what it was asked for */
    bool total_is_known; /* else total is 0 */
    uint64_t total;      /* length of the whole; range lies inside; at most INT64_MAX */
};

/* A line of a reply's header, with or without its end; any @bytes. One that is about something else changes nothing.
 * A second Content-Range makes it malformed. */
void content_range_read_line(struct content_range *told, const char *line, size_t bytes);

#endif
