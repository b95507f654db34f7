/* path_policy - where files may be that clients name
 *
 * Clients name files in many places: images, sockets, certificates, secrets. By default any file that the process may
 * open; with a policy only what lies at or below some paths, after links have been followed.
 *
 * Looking first and opening second would be a race: whoever may change a link in between gets around the policy. So
 * what a name leads to is *pinned* first (O_PATH: found, not opened), the kernel is asked where that is
 * (/proc/self/fd), and the very same file is opened through the pin. A link that is swapped meanwhile changes nothing
 * any more. (openat2(2) with RESOLVE_BENEATH would be as safe, but forbids each link that leads from one of several
 * allowed places to another.) What is moved out of the allowed places after that moment was there when it was opened.
 *
 *     "/srv/link/a.img" --pin--> inode --where?--> "/data/a.img" --allowed?--> opened through the pin
 *
 * A hard link is a name like any other: a file that has one in an allowed place is in an allowed place. Descriptors
 * that were passed ("/dev/fdset/N") are not looked at: who passed them could open them.
 *
 * All of it blocks, as open(2) does. Any thread; the policy is set before the others begin. */
#ifndef CAIRN_RUNTIME_PATH_POLICY_H
#define CAIRN_RUNTIME_PATH_POLICY_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Absolute paths without links. */
struct path_list {
    const char *const *paths;
    size_t count;
};

/* Is @real (absolute, without links) one of them, or below one? */
bool path_list_has(const struct path_list *list, const char *real);
/* The same of what @fd is open for, which may be a pin (see below). False for what has no name. */
bool path_list_has_open(const struct path_list *list, int fd);

/* NULL: any path. @allowed lives as long as the process. */
void path_policy_set(const struct path_list *allowed);
bool path_policy_is_set(void);

/* As open(2), with O_CLOEXEC and O_NOCTTY: a descriptor or -errno. -EACCES with *refusal, which the caller frees, when
 * it is the policy that does not allow it; the text names the path, where it leads, and what is allowed. Otherwise
 * *refusal is not touched. A file that O_CREAT makes is made where the path leads, never through a link that leads
 * to nothing. */
int path_open(const char *path, int flags, mode_t mode, struct error **refusal);

/* As stat(2): 0 or -errno, and *refusal as above. */
int path_stat(const char *path, struct stat *st, struct error **refusal);

/* The steps of path_open(), for who needs something between them. path_pin(): as open(2) with O_PATH and @flags. */
int path_pin(const char *path, int flags);
struct error *path_pin_check(int pin, const char *path) MUST_CHECK;
int path_pin_open(int pin, int flags);

/* May a socket be made at @path, by its directory? *pin, the caller's to close if it is not AT_FDCWD, and *last, which
 * points into @path, are for openat(2) and its like. What is made by its name has to be looked at once more afterwards:
 * the way to it may have been swapped. */
struct error *path_pin_directory(const char *path, int *pin, const char **last) MUST_CHECK;

#endif
