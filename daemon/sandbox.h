/* sandbox - what the process gives up before it serves anybody
 *
 *  - Landlock: which paths can be opened, made, removed at all; also by io_uring, whose requests seccomp does not see;
 *  - seccomp: which system calls there are, none that starts a program or a process, mounts, traces, loads code into
 *    the kernel. A list of what is allowed, which libseccomp (loaded late) compiles;
 *  - no_new_privs: no program gains rights by being started, and both of the above need it.
 *
 * The policies of runtime/path_policy.h and others are the daemon's word and have good messages; this is the kernel's,
 * and holds also where the daemon has a mistake. All threads are made afterwards, and inherit it.
 *
 * What it cannot hold: descriptors that are open already or are passed to us; what can be asked and changed about files
 * by their path without opening them (stat, chmod, chown); connecting to a Unix socket that has a path (the kernel does
 * not ask Landlock); networks, beyond the families of sockets. */
#ifndef CAIRN_DAEMON_SANDBOX_H
#define CAIRN_DAEMON_SANDBOX_H

#include "blockcore/base/error.h"
#include "blockcore/runtime/path_policy.h"

#include <stdbool.h>
#include <stddef.h>

struct sandbox_options;

/* What the daemon itself needs, besides. */
struct sandbox_needs {
    const char *const *files; /* made, written and removed later: their directories are opened up; NULL is skipped */
    size_t files_count;
    const char *const *readable; /* NULL, and what does not exist, is skipped */
    size_t readable_count;
    const char *socket; /* one of the files, where the daemon listens for its own sake; NULL: none */
};

/* Confines the process, which has one thread. @policy: the paths where @options name none; NULL: there are none either,
 * an error with Landlock; those that @options name hold for what clients name, too, then (policy.h). Blocks: before the
 * service begins. Errors say what this kernel lacks; with mode `auto`, *missing (to be freed) does instead, and the
 * rest takes effect. */
struct error *sandbox_begin(const struct sandbox_options *options, const struct path_list *policy,
                            const struct sandbox_needs *needs, struct error **missing) MUST_CHECK;

/* The two halves. 0: as of the kernel that is here. */
struct error *sandbox_confine_paths(const struct path_list *paths, const struct sandbox_needs *needs) MUST_CHECK;
struct error *sandbox_confine_calls(void) MUST_CHECK;

#endif
