/* Which definitions refer to a type, for the way back from it to the commands. */
#include "schema/compiler/docs.h"

static bool type_uses(const struct type *type, const struct type *other)
{
    const struct type *element = type;
    while (element && element->kind == TYPE_ARRAY)
        element = element->element;
    if (!element || element == other)
        return element == other && element;
    if (!element->implicit)
        return false;
    for (size_t i = 0; i < element->members.count; i++)
        if (type_uses(element->members.items[i].type, other))
            return true;
    for (size_t i = 0; i < element->branches.count; i++)
        if (type_uses(element->branches.items[i].type, other))
            return true;
    return false;
}

static bool definition_uses(const struct type *type, const struct type *other)
{
    if (type == other || type->kind == TYPE_BUILTIN)
        return false;
    for (size_t i = type->base ? type->base->members.count : 0; i < type->members.count; i++)
        if (type_uses(type->members.items[i].type, other))
            return true;
    for (size_t i = 0; i < type->branches.count; i++)
        if (type_uses(type->branches.items[i].type, other))
            return true;
    return type->base == other;
}

bool docs_uses(const struct entity *entity, const struct type *type)
{
    if (entity->command)
        return (entity->command->arguments && type_uses(entity->command->arguments, type)) ||
               (entity->command->returns && type_uses(entity->command->returns, type));
    if (entity->event)
        return entity->event->data && type_uses(entity->event->data, type);
    return definition_uses(entity->type, type);
}
