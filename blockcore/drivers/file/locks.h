/* locks - how processes that use one image tell each other what they do with it
 *
 * Each permission has two bytes in the file's lock space, outside of which nothing is locked. A shared OFD lock on the
 * first says "I hold it", one on the second says "I do not let others hold it". Anyone may lock both bytes; a conflict
 * is seen by testing the other byte for locks of others, after locking one's own, so that of two who start at the same
 * moment at least one sees the other. QEMU uses the same bytes (its block/file-posix.c), so a running VM and this
 * daemon respect each other.
 *
 *     byte 100 + bit   someone holds the permission          byte 200 + bit   someone does not share it */
#ifndef CAIRN_DRIVERS_FILE_LOCKS_H
#define CAIRN_DRIVERS_FILE_LOCKS_H

#include "blockcore/base/error.h"

#include <stdbool.h>

/* The bytes that one open file has locked, as bits of enum permission. Zeroed: none. */
struct locks {
    unsigned held;
    unsigned unshared;
};

/* Do the file system and the kernel know OFD locks? Blocks. */
bool locks_supported(int fd);

/* Are the locks for @perm and @shared those that are held already? */
bool locks_match(const struct locks *locks, unsigned perm, unsigned shared);

/* Brings the locks of @fd in line with @perm and @shared, taking what is new before dropping what is not needed. On
 * error (another process or node conflicts, or the file system fails) the old ones are held as before. Blocks.
 * @filename is for the message. */
struct error *locks_change(struct locks *locks, int fd, const char *filename, unsigned perm,
                           unsigned shared) MUST_CHECK;

/* Takes the same locks on @fd, without testing: for another descriptor of the same user. On error @fd is to be closed,
 * which ends its locks. Blocks. */
struct error *locks_copy(const struct locks *locks, int fd, const char *filename) MUST_CHECK;

/* Drops whatever @fd has locked. Blocks. */
void locks_drop_all(int fd);

#endif
