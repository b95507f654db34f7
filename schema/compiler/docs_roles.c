/* The manual's table of who may use which command. */
#include "schema/compiler/docs.h"

static const char *const names[] = { [ROLE_READ] = "read", [ROLE_OPERATE] = "operate", [ROLE_ADMIN] = "admin" };

bool docs_has_roles(const struct docs *docs)
{
    for (size_t i = 0; i < docs->model->entities.count; i++) {
        const struct command *command = docs->model->entities.items[i].command;
        if (command && command->role != ROLE_ADMIN)
            return true;
    }
    return false;
}

static void put_row(struct docs *docs, unsigned role, const struct entity *const *commands, size_t count)
{
    const char *gap = " ";
    docs->format->row_name(docs, names[role]);
    docs->format->row_text(docs);
    for (size_t i = 0; i < count; i++) {
        if (commands[i]->command->role != role)
            continue;
        docs->format->piece(docs, DOCS_PLAIN, gap, NULL);
        docs->format->piece(docs, DOCS_LINK, docs_name(commands[i]), docs_anchor(docs->output->arena, commands[i]));
        gap = ", ";
    }
    docs->format->row_end(docs);
}

void docs_put_roles(struct docs *docs)
{
    size_t count;
    const struct entity **commands = docs_sorted(docs, DOCS_COMMAND, &count);
    if (!docs_has_roles(docs))
        return;
    docs->format->chapter(docs, "Roles");
    docs->format->paragraph_begin(docs);
    docs->format->piece(docs, DOCS_PLAIN, "Which role allows which commands. A role includes those above it.", NULL);
    docs->format->paragraph_end(docs);
    docs->format->table_begin(docs);
    for (unsigned role = ROLE_READ; role <= ROLE_ADMIN; role++)
        put_row(docs, role, commands, count);
    docs->format->table_end(docs);
}
