/* pattern - what strings may look like
 *
 * A pattern is a sequence of items, each a character, '.' or a [class], followed by '?', '*', '+', '{n}', '{n,}' or
 * '{n,m}' if it may stand another number of times than once. It is meant for the whole string. There are no groups and
 * no alternatives, so a pattern is a short table and matching takes time proportional to string and pattern.
 *
 *     [A-Za-z][A-Za-z0-9._-]*         names of nodes
 *
 * The same text means the same to POSIX EREs and ECMAScript, between ^ and $. */
#ifndef SCHEMAC_PATTERN_H
#define SCHEMAC_PATTERN_H

#include "schema/compiler/model.h"

enum {
    PATTERN_ITEMS_MAX = 64,
    PATTERN_TEXT_MAX = 1024,
    PATTERN_REPEAT_MAX = 255, /* in braces, as POSIX guarantees */
};

/* NULL if @text is no pattern; *wrong then says why. */
const struct pattern *pattern_parse(struct arena *arena, const char *text, const char **wrong);

/* False for what is longer than PATTERN_TEXT_MAX. */
bool pattern_matches(const struct pattern *pattern, const char *text);

#endif
