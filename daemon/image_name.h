/* image_name - what an image's header calls another file, when that is more than a path
 *
 *     json:{"driver":"raw","file.driver":"file","file.filename":"/srv/a.img"}      a description of a node
 *     nbd://host:10809/export, nbd+unix:///export?socket=/run/nbd.sock             a node of driver 'nbd'
 *     nbd:host:10809:exportname=export, nbd:unix:/run/nbd.sock                     the same, as older images have it
 *     https://host/a.img, http:, ftp:, ftps:                                       a node of that driver
 *
 * The name was written by a stranger. What comes out is of a type of the schema, and nothing else; whether it is
 * allowed is for graph/image_name.h to decide. */
#ifndef CAIRN_DAEMON_IMAGE_NAME_H
#define CAIRN_DAEMON_IMAGE_NAME_H

#include "blockcore/base/arena.h"
#include "blockcore/base/error.h"

#define IMAGE_NAME_DEPTH_MAX 64 /* objects and arrays inside each other */

struct blockdev_options;

/* All of *@out lies in @arena. A pure function. Errors: the form is unknown, the text is malformed, the description
 * names nodes or secrets of the daemon, which are not for images to name. */
struct error *image_name_parse(const char *name, struct arena *arena, const struct blockdev_options **out) MUST_CHECK;

#endif
