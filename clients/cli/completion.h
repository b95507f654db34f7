/* completion - what can come next in a line that calls a command */
#ifndef CAIRN_CLI_COMPLETION_H
#define CAIRN_CLI_COMPLETION_H

#include "clients/cli/introspection.h"

/* All words that the unfinished last word of @line may become; a new array of strings. The members of unions follow
 * from the tags that stand in the line already: after "driver=file" there is "filename=". Words that name an object
 * end in '.', those that want a value in '='. */
json_t *completion_candidates(const struct introspection *introspection, const char *line);

#endif
