/* path - names of files that shall still mean the same when the daemon has left its first directory */
#ifndef CAIRN_DAEMON_PATH_H
#define CAIRN_DAEMON_PATH_H

#include <stdbool.h>

/* The process will change its directory (--daemonize): from now on relative paths are made absolute. */
void path_will_move(void);

bool path_moves(void);

/* @path, made absolute if need be. The caller frees it. */
char *path_for_later(const char *path);

#endif
