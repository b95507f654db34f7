/* vector - arrays that grow inside an arena
 *
 *     VECTOR(struct member *) members;        items, count, capacity; all zero is empty
 *     VECTOR_PUSH(arena, &members, member);
 *
 * What an array outgrows stays in the arena until its end: at most as much again as the array. */
#ifndef SCHEMAC_VECTOR_H
#define SCHEMAC_VECTOR_H

#include "blockcore/base/arena.h"

#include <string.h>

#define VECTOR(type)                                                                                                   \
    struct {                                                                                                           \
        type *items;                                                                                                   \
        size_t count;                                                                                                  \
        size_t capacity;                                                                                               \
    }

#define VECTOR_PUSH(arena, vector, item)                                                                               \
    do {                                                                                                               \
        if ((vector)->count == (vector)->capacity) {                                                                   \
            size_t larger = (vector)->capacity ? (vector)->capacity * 2 : 8;                                           \
            void *moved = arena_array((arena), larger, sizeof(*(vector)->items));                                      \
            if ((vector)->count)                                                                                       \
                memcpy(moved, (vector)->items, (vector)->count * sizeof(*(vector)->items));                            \
            (vector)->items = moved;                                                                                   \
            (vector)->capacity = larger;                                                                               \
        }                                                                                                              \
        (vector)->items[(vector)->count++] = (item);                                                                   \
    } while (0)

#endif
