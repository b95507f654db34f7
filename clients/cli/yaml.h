/* yaml - trees as YAML text that a daemon's --config reads */
#ifndef CAIRN_CLI_YAML_H
#define CAIRN_CLI_YAML_H

#include <jansson.h>
#include <stdio.h>

/* In block style. Texts are quoted where they could be read as something else, and so that no variable is put into
 * them. */
void yaml_print(FILE *out, const json_t *tree);

#endif
