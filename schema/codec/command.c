#include "schema/codec/command.h"

#include <stdlib.h>
#include <string.h>

const char *command_role_name(enum command_role role)
{
    static const char *const names[] = {
        [COMMAND_READ] = "read",
        [COMMAND_OPERATE] = "operate",
        [COMMAND_ADMIN] = "admin",
    };
    return names[role];
}

static int compare_name(const void *key, const void *element)
{
    const struct command_descriptor *command = element;
    return strcmp(key, command->name);
}

const struct command_descriptor *command_find(const struct command_table *table, const char *name)
{
    return bsearch(name, table->commands, table->count, sizeof(*table->commands), compare_name);
}
