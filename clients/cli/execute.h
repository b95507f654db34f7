/* execute - one command as a person wrote it: its name, then JSON objects and key=value in any order */
#ifndef CAIRN_CLI_EXECUTE_H
#define CAIRN_CLI_EXECUTE_H

#include "clients/cli/introspection.h"

/* Executes words[0] with the arguments words[1..count). *@introspection is loaded when it is NULL and types are needed.
 * *@result is a new reference. */
struct error *execute_words(struct client *client, struct introspection **introspection, size_t count,
                            char *const *words, json_t **result) MUST_CHECK;

#endif
