/* hash - intrusive hash table keyed by strings or 64-bit numbers
 *
 * Elements embed a struct hash_link; the table owns only its bucket array, doubles it as it fills, and never
 * allocates per element. One table uses one kind of key. Keys must not change while the element is in the table. */
#ifndef CAIRN_BASE_HASH_H
#define CAIRN_BASE_HASH_H

#include "blockcore/base/annotations.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hash_link {
    struct hash_link *next;
    uint64_t hash;
    union {
        const char *string; /* not owned: points into the element */
        uint64_t number;
    } key;
};

struct hash {
    struct hash_link **buckets;
    size_t bucket_count; /* a power of two, or 0 before the first insert */
    size_t count;
};

void hash_init(struct hash *hash);
void hash_fini(struct hash *hash); /* frees the buckets, not the elements */

/* The key must not be in the table yet. */
void hash_insert_string(struct hash *hash, struct hash_link *link, const char *key);
void hash_insert_number(struct hash *hash, struct hash_link *link, uint64_t key);

/* NULL when there is none. */
struct hash_link *hash_find_string(const struct hash *hash, const char *key);
struct hash_link *hash_find_number(const struct hash *hash, uint64_t key);

/* @link must be in the table. */
void hash_remove(struct hash *hash, struct hash_link *link);

/* All elements in no particular order: pass NULL first, then the last answer; NULL ends. No insert or remove between.
 */
struct hash_link *hash_next(const struct hash *hash, const struct hash_link *after);

#define hash_entry(link, type, member) CONTAINER_OF(link, type, member)

#endif
