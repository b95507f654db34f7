/* full_path - relative names of files in options, made absolute
 *
 * Two descriptions mean the same file whether they name it in full or not, and a configuration that was saved means the
 * same wherever it is used. Options are kept as they were given, for messages; copies that are compared or shown have
 * full names. Where the daemon is about to leave its directory (--daemonize) what is kept has full names as well.
 *
 * Names of monitors stay as they are: they are what clients call them. */
#ifndef CAIRN_DAEMON_FULL_PATH_H
#define CAIRN_DAEMON_FULL_PATH_H

#include "blockcore/base/annotations.h"

struct arena;
struct type_descriptor;

/* value_copy() with full names, in the directory as it is now. Any thread that may use @arena. */
void *full_path_copy(const struct type_descriptor *type, const void *value, struct arena *arena) MUST_CHECK;

/* The same, if the daemon has left its directory or will. */
void *full_path_copy_for_later(const struct type_descriptor *type, const void *value, struct arena *arena) MUST_CHECK;

#endif
