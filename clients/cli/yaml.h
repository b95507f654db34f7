/* yaml - trees as YAML text that a daemon's --config reads */
#ifndef CAIRN_CLI_YAML_H
#define CAIRN_CLI_YAML_H

#include <jansson.h>
#include <stdio.h>

/* In block style. Texts are quoted where they could be read as something else, and so that no variable is put into
 * them. Texts are valid UTF-8. */
void yaml_print(FILE *out, const json_t *tree);

/* A line of its own, whatever is in @text. */
void yaml_print_comment(FILE *out, const char *text);

#endif
