/* image_name - files that an image names in its header: backing files, data files
 *
 * The name was written by somebody else, perhaps long ago, perhaps by a guest. So
 *
 *  - an image may name only what the policy allows: by default any plain path, as in QEMU, but nothing
 *    remote and no description ("json:"), which could reach whatever the daemon can;
 *  - what an image names may be an image that names others: the policy holds for all that follows from a name;
 *  - a format is never guessed: a guest that can write to a raw image could make it look like one that names any file.
 *
 * A relative path begins at the directory of the file that the image lies in. */
#ifndef CAIRN_GRAPH_IMAGE_NAME_H
#define CAIRN_GRAPH_IMAGE_NAME_H

#include "blockcore/graph/node.h"
#include "blockcore/runtime/path_policy.h"

#include <stddef.h>

/* What images may name. */
struct image_policy {
    bool any_directory;           /* paths may lead anywhere */
    struct path_list directories; /* otherwise: only below one of these */
    const char *const *schemes;   /* "nbd", "nbd+unix", "https": what may stand before "://" */
    size_t schemes_count;
    bool json; /* descriptions are taken; all that they describe must be allowed as well */
};

/* Before the first node is opened; @policy lives as long as the process. Without it: any directory, nothing else. */
void image_policy_set(const struct image_policy *policy) CONTROL_FN;

/* Opens what @parent's header calls @file, as child @name. @format: name of the driver that the header gives for its
 * content; NULL: the file's bytes themselves are wanted. @child is the one whose file relative paths begin at. Errors
 * say what the image names, and what would allow it. */
struct error *child_open_image_name(struct node *parent, const char *name, unsigned role, const char *file,
                                    const char *format, const struct child *child, const struct open_context *context,
                                    struct child **out) CO_FN CONTROL_FN MUST_CHECK;

#endif
