/* passed_fd - descriptors that somebody else opened and passed to us
 *
 * A manager may let us use files that we could not open ourselves. It puts descriptors into numbered *sets*, one for
 * each way of access; "/dev/fdset/N" as a name of a file then means a copy of the one that fits. Or it gives a
 * descriptor a *name*, for an address of a socket; that one is used once.
 *
 *     set 7:  fd 12 (read)         "/dev/fdset/7", read-only      --> copy of 12
 *             fd 15 (read, write)  "/dev/fdset/7", to be written  --> copy of 15
 *
 * Copies share the open file, its byte-range locks and its flags (as in QEMU).
 *
 * Nothing is closed here: that may hang (fd_close.h).
 *
 * Any thread. At most PASSED_FDS_MAX descriptors are kept. */
#ifndef CAIRN_RUNTIME_PASSED_FD_H
#define CAIRN_RUNTIME_PASSED_FD_H

#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PASSED_FDS_MAX 4096

#define FDSET_ANY (-1)

/* Is this the name of a set? It need not exist. */
bool fdset_is_name(const char *filename);

/* A copy (close-on-exec) of the descriptor of the set that is open for @access (O_RDONLY, O_WRONLY, O_RDWR), or a
 * negative errno: -ENOENT where there is no such set, -EACCES where none of its descriptors fits. */
int fdset_open(const char *filename, int access);

/* The same of any descriptor of the set, whatever it is open for. */
int fdset_open_any(const char *filename);

/* Puts @fd into set *id; FDSET_ANY: into a new one, whose number is returned. @opaque (may be NULL) is copied. With an
 * error @fd stays the caller's. */
struct error *fdset_add(int64_t *id, int fd, const char *opaque) MUST_CHECK;

/* Takes a descriptor out of a set, FDSET_ANY: all of them. They are the caller's, and so is the array *fds, in any
 * case. Error: there is none. */
struct error *fdset_remove(int64_t id, int64_t fd, int **fds, size_t *count) MUST_CHECK;

struct fdset_member {
    int64_t id;
    int fd;
    char *opaque; /* or NULL */
};

/* All members, those of one set together; the caller frees the array and each `opaque`. */
void fdset_list(struct fdset_member **out, size_t *count);

/* Gives @fd a name for as long as @owner stays. *replaced, the caller's also with an error: what had the name before,
 * or -1. With an error @fd stays the caller's. */
struct error *named_fd_put(const char *name, uint64_t owner, int fd, int *replaced) MUST_CHECK;

/* The descriptor of that name, the caller's from now on; -1: there is none. */
int named_fd_take(const char *name);
/* The same; *owner: whose it was. */
int named_fd_take_from(const char *name, uint64_t *owner);

/* Who has started the process passed these, as an owner; clients have other numbers. */
#define NAMED_FD_PARENT 0

bool named_fd_exists(const char *name);

/* Calls @fn for each name of @owner; it must not call functions of this header. */
void named_fds_each(uint64_t owner, void (*fn)(const char *name, void *arg), void *arg);

/* Takes a descriptor of @owner for which @fits says yes, whatever its name; -1: there is none. *name: its name, the
 * caller's. */
int named_fd_take_fitting(uint64_t owner, bool (*fits)(int fd, const void *arg), const void *arg, char **name);

/* @owner has left: its names are gone. @dispose gets each descriptor; it must not wait. */
void named_fds_forget(uint64_t owner, void (*dispose)(int fd));

#endif
