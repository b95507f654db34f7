#include "schema/compiler/names.h"

#include <stdint.h>
#include <string.h>

static uint32_t name_hash(const char *name)
{
    uint32_t hash = 2166136261u;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return hash;
}

static struct name_slot *find_slot(const struct names *names, const char *name)
{
    size_t i = name_hash(name) & (names->capacity - 1);
    while (names->slots[i].name && strcmp(names->slots[i].name, name) != 0)
        i = (i + 1) & (names->capacity - 1);
    return &names->slots[i];
}

void *names_get(const struct names *names, const char *name)
{
    return names->capacity ? find_slot(names, name)->value : NULL;
}

static void grow(struct names *names, struct arena *arena)
{
    struct names larger = { .capacity = names->capacity ? names->capacity * 2 : 16, .count = names->count };
    larger.slots = arena_array(arena, larger.capacity, sizeof(*larger.slots));
    for (size_t i = 0; i < names->capacity; i++)
        if (names->slots[i].name)
            *find_slot(&larger, names->slots[i].name) = names->slots[i];
    *names = larger;
}

void *names_add(struct names *names, struct arena *arena, const char *name, void *value)
{
    if (names->count * 2 >= names->capacity)
        grow(names, arena);
    struct name_slot *slot = find_slot(names, name);
    if (slot->name)
        return slot->value;
    *slot = (struct name_slot){ .name = name, .value = value };
    names->count++;
    return NULL;
}
