/* image_policy - what images may name: the operator's word, from the command line or the configuration */
#ifndef CAIRN_DAEMON_IMAGE_POLICY_H
#define CAIRN_DAEMON_IMAGE_POLICY_H

#include "blockcore/base/error.h"

struct image_policy_options;

/* Takes effect for all nodes opened from now on; @options are copied. Directories must exist; links in them are
 * followed once, now. Blocks: before the service begins. */
struct error *image_policy_begin(const struct image_policy_options *options) MUST_CHECK;

#endif
