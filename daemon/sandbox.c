#include "daemon/sandbox.h"

#include "blockcore/base/memory.h"
#include "daemon/policy.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/prctl.h>

/* With mode `auto` what fails is told and left out. */
static struct error *tolerate(const struct sandbox_options *options, struct error *err, struct error **missing)
{
    if (!err || options->mode == SANDBOX_MODE_ON)
        return err;
    *missing = *missing ? error_wrap(*missing, "%s", error_message(err)) : err;
    if (*missing != err)
        error_free(err);
    return NULL;
}

static struct error *find_paths(const struct sandbox_options *options, const struct path_list *policy,
                                struct path_list *out)
{
    if (options->has_paths)
        return policy_resolve_paths("paths", options->paths, options->paths_count, out);
    if (!policy && options->landlock)
        return error_new("it is not said which paths shall remain reachable: give 'paths' here or in the policy, or "
                         "landlock=off");
    if (policy)
        *out = *policy;
    return NULL;
}

/* What the process can read for itself (libraries, /etc, /proc) is not for clients. */
static struct error *imply_policy(const struct path_list *paths, const struct sandbox_needs *needs)
{
    CLEANUP(free) char *copy = needs->socket ? xstrdup(needs->socket) : NULL;
    const char **all = xcalloc(paths->count + 1, sizeof(*all));
    struct path_list implied = { .paths = all, .count = paths->count };
    for (size_t i = 0; i < paths->count; i++)
        all[i] = paths->paths[i];
    if (copy) {
        const char *directory = dirname(copy);
        all[implied.count] = realpath(directory, NULL);
        if (!all[implied.count])
            return error_errno(errno, "cannot look up '%s'", directory);
        implied.count++;
    }
    policy_imply_paths(&implied);
    return NULL;
}

struct error *sandbox_begin(const struct sandbox_options *options, const struct path_list *policy,
                            const struct sandbox_needs *needs, struct error **missing)
{
    static struct path_list paths;
    *missing = NULL;
    if (options->mode == SANDBOX_MODE_OFF)
        return NULL;
    struct error *err = find_paths(options, policy, &paths);
    if (!err && options->has_paths && !policy)
        err = imply_policy(&paths, needs);
    if (err)
        return err;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_errno(errno, "cannot give up new privileges");
    if (options->landlock)
        err = tolerate(options, sandbox_confine_paths(&paths, needs), missing);
    if (!err && options->seccomp)
        err = tolerate(options, sandbox_confine_calls(), missing);
    return err;
}
