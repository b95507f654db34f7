#include "blockcore/base/hash.h"

#include "blockcore/base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUCKETS_AT_FIRST 16

/* Names come from clients: a seed of the process keeps a client from choosing names that collide. */
static uint64_t hash_seed(void)
{
    static uint64_t seed;
    uint64_t value = __atomic_load_n(&seed, __ATOMIC_RELAXED);
    if (value == 0) {
        if (getrandom(&value, sizeof(value), GRND_NONBLOCK) != (ssize_t)sizeof(value))
            value = (uint64_t)(uintptr_t)&seed;
        value |= 1;
        uint64_t expected = 0;
        if (!__atomic_compare_exchange_n(&seed, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            value = expected;
    }
    return value;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    return x;
}

static uint64_t hash_of_string(const char *key)
{
    uint64_t h = hash_seed();
    size_t left = strlen(key);
    while (left > 0) {
        uint64_t word = 0;
        size_t n = left < sizeof(word) ? left : sizeof(word);
        memcpy(&word, key, n);
        h = mix(h ^ word) + n;
        key += n;
        left -= n;
    }
    return h;
}

void hash_init(struct hash *hash)
{
    *hash = (struct hash){ 0 };
}

void hash_fini(struct hash *hash)
{
    free(hash->buckets);
    hash_init(hash);
}

static struct hash_link **bucket_of(const struct hash *hash, uint64_t h)
{
    return &hash->buckets[h & (hash->bucket_count - 1)];
}

static void grow(struct hash *hash)
{
    struct hash larger = { .bucket_count = hash->bucket_count ? hash->bucket_count * 2 : BUCKETS_AT_FIRST };
    larger.buckets = xcalloc(larger.bucket_count, sizeof(struct hash_link *));
    for (size_t i = 0; i < hash->bucket_count; i++) {
        struct hash_link *link = hash->buckets[i];
        while (link) {
            struct hash_link *next = link->next;
            struct hash_link **bucket = bucket_of(&larger, link->hash);
            link->next = *bucket;
            *bucket = link;
            link = next;
        }
    }
    larger.count = hash->count;
    free(hash->buckets);
    *hash = larger;
}

static void insert(struct hash *hash, struct hash_link *link, uint64_t h)
{
    if (hash->count >= hash->bucket_count)
        grow(hash);
    struct hash_link **bucket = bucket_of(hash, h);
    link->hash = h;
    link->next = *bucket;
    *bucket = link;
    hash->count++;
}

void hash_insert_string(struct hash *hash, struct hash_link *link, const char *key)
{
    link->key.string = key;
    insert(hash, link, hash_of_string(key));
}

void hash_insert_number(struct hash *hash, struct hash_link *link, uint64_t key)
{
    link->key.number = key;
    insert(hash, link, mix(key ^ hash_seed()));
}

struct hash_link *hash_find_string(const struct hash *hash, const char *key)
{
    if (hash->count == 0)
        return NULL;
    uint64_t h = hash_of_string(key);
    for (struct hash_link *link = *bucket_of(hash, h); link; link = link->next) {
        if (link->hash == h && strcmp(link->key.string, key) == 0)
            return link;
    }
    return NULL;
}

struct hash_link *hash_find_number(const struct hash *hash, uint64_t key)
{
    if (hash->count == 0)
        return NULL;
    uint64_t h = mix(key ^ hash_seed());
    for (struct hash_link *link = *bucket_of(hash, h); link; link = link->next) {
        if (link->hash == h && link->key.number == key)
            return link;
    }
    return NULL;
}

void hash_remove(struct hash *hash, struct hash_link *link)
{
    struct hash_link **at = bucket_of(hash, link->hash);
    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    link->next = NULL;
    hash->count--;
}

struct hash_link *hash_next(const struct hash *hash, const struct hash_link *after)
{
    if (after && after->next)
        return after->next;
    size_t i = after ? (after->hash & (hash->bucket_count - 1)) + 1 : 0;
    for (; i < hash->bucket_count; i++) {
        if (hash->buckets[i])
            return hash->buckets[i];
    }
    return NULL;
}
