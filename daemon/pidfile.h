/* pidfile - one daemon for one path
 *
 * The file holds the process id and a lock for as long as the process lives, in the way that qemu-storage-daemon does
 * it, so the two refuse each other as well. */
#ifndef CAIRN_DAEMON_PIDFILE_H
#define CAIRN_DAEMON_PIDFILE_H

#include "blockcore/base/error.h"

struct pidfile;

/* Writes this process's id, mode 0600. An error if another process holds the file. Blocks: before the service begins,
 * or on the pool. */
struct error *pidfile_create(const char *path, struct pidfile **out) MUST_CHECK;

/* Removes the file, if it is still the same, and frees. NULL is allowed. */
void pidfile_remove(struct pidfile *pidfile);

#endif
