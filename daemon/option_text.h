/* option_text - an option of the command line as it may be shown
 *
 *     secret,id=s0,data=hunter2,format=raw     becomes     secret,id=s0,data=(secret) */
#ifndef CAIRN_DAEMON_OPTION_TEXT_H
#define CAIRN_DAEMON_OPTION_TEXT_H

#include "blockcore/base/arena.h"
#include "schema/codec/descriptor.h"

/* @text, an option of @type, key=value or JSON, up to its first member that the schema calls secret: @type's own ones
 * and those of its branches are looked for. @text itself where there is none. Works on text, so that it also does for
 * what cannot be decoded. */
const char *option_text_shown(const struct type_descriptor *type, const char *text, struct arena *arena);

#endif
