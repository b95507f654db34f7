/* in_the_way - users who are no part of a plan, and would keep a step of it from being taken */
#ifndef CAIRN_DAEMON_IN_THE_WAY_H
#define CAIRN_DAEMON_IN_THE_WAY_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

struct node;

/* Is there anybody whom another node in the place of @node would harm: a job, who knows this one; bits of a bitmap;
 * users of nodes inside of it? Does not wait. */
struct error *in_the_way_of_renewal(const struct node *node) CONTROL_FN MUST_CHECK;

/* Is @node a filter that a job has put on top of another one? Who stands on it must not come to stand below it, where
 * the job sees nothing of what he does. */
struct error *in_the_way_of_others(const struct node *node) CONTROL_FN MUST_CHECK;

#endif
