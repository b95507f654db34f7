/* make_room - the files that blockdev-create writes to, for the formats that lie in one */
#ifndef CAIRN_DRIVERS_MAKE_ROOM_H
#define CAIRN_DRIVERS_MAKE_ROOM_H

#include "blockcore/graph/driver.h"
#include "schema/cairn_types.h"

struct handle;

/* How a file grows for an image with this preallocation: tables ("metadata") are written by the format. */
enum truncate_mode truncate_mode_of(enum prealloc_mode preallocation);

/* Empties the file and makes it @bytes long. What has a fixed length must be long enough as it is.
 * @reads_zero: whether it could be emptied, and so reads as zeroes; NULL: that is of no interest. */
struct error *make_room(struct handle *handle, uint64_t bytes, enum truncate_mode mode, bool *reads_zero)
    CO_FN MUST_CHECK;

#endif
