/* policy - what clients may name: the operator's word, handed to those who open and connect
 *
 *     paths      runtime/path_policy.h
 *     protocols  graph/node_policy.h
 *     hosts      net/host_policy.h */
#ifndef CAIRN_DAEMON_POLICY_H
#define CAIRN_DAEMON_POLICY_H

#include "blockcore/base/error.h"
#include "blockcore/runtime/path_policy.h"

struct limits_options;
struct policy_options;

/* Takes effect for all that follows; @options outlive the process's service. Paths must exist; links in them are
 * followed once, now. NULL: everything. Blocks: before the service begins. */
struct error *policy_begin(const struct policy_options *options, const struct limits_options *limits) MUST_CHECK;

/* Where the policy names none: @implied, which live as long as the process. */
void policy_imply_paths(const struct path_list *implied);

/* The paths, without links; NULL: all. */
const struct path_list *policy_paths(void);

/* @count paths, without links, for as long as the process lives. @what names the list in errors. */
struct error *policy_resolve_paths(const char *what, const char *const *given, size_t count,
                                   struct path_list *out) MUST_CHECK;

#endif
