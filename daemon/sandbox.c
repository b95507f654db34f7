#include "daemon/sandbox.h"

#include "daemon/policy.h"
#include "schema/cairn_types.h"

#include <errno.h>
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
    if (!policy)
        return error_new("it is not said which paths shall remain reachable: give 'paths' here or in the policy, or "
                         "landlock=off");
    *out = *policy;
    return NULL;
}

struct error *sandbox_begin(const struct sandbox_options *options, const struct path_list *policy,
                            const struct sandbox_needs *needs, struct error **missing)
{
    static struct path_list paths;
    *missing = NULL;
    if (options->mode == SANDBOX_MODE_OFF)
        return NULL;
    struct error *err = options->landlock ? find_paths(options, policy, &paths) : NULL;
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
