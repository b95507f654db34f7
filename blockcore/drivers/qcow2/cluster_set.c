#include "blockcore/drivers/qcow2/cluster_set.h"

#include "blockcore/base/memory.h"

#include <stdlib.h>

#define SLOTS_MIN 64
#define KIND_SHIFT 48

static uint64_t cluster_in(uint64_t slot)
{
    return slot & ((UINT64_C(1) << KIND_SHIFT) - 1);
}

void cluster_set_fini(struct cluster_set *set)
{
    free(set->slots);
    *set = (struct cluster_set){ 0 };
}

static size_t home_of(const struct cluster_set *set, uint64_t cluster)
{
    return (size_t)((cluster * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (set->slot_count - 1);
}

/* The slot that holds the cluster, or the empty one where it would go. */
static size_t slot_of(const struct cluster_set *set, uint64_t cluster)
{
    size_t slot = home_of(set, cluster);
    while (set->slots[slot] && cluster_in(set->slots[slot]) != cluster)
        slot = (slot + 1) & (set->slot_count - 1);
    return slot;
}

static bool grow(struct cluster_set *set)
{
    struct cluster_set larger = { .slot_count = set->slot_count ? 2 * set->slot_count : SLOTS_MIN };
    larger.slots = try_calloc(larger.slot_count, sizeof(*larger.slots));
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < set->slot_count; i++) {
        if (set->slots[i] >> KIND_SHIFT == 0)
            continue;
        larger.slots[slot_of(&larger, cluster_in(set->slots[i]))] = set->slots[i];
        larger.count++;
    }
    free(set->slots);
    *set = larger;
    return true;
}

bool cluster_set_add(struct cluster_set *set, uint64_t cluster, unsigned kinds)
{
    if (2 * (set->count + 1) > set->slot_count && !grow(set))
        return false;
    size_t slot = slot_of(set, cluster);
    set->count += set->slots[slot] == 0;
    set->slots[slot] |= (uint64_t)kinds << KIND_SHIFT | cluster;
    return true;
}

void cluster_set_remove(struct cluster_set *set, uint64_t cluster, unsigned kinds)
{
    if (set->slot_count == 0)
        return;
    size_t hole = slot_of(set, cluster);
    uint64_t left = set->slots[hole] & ~((uint64_t)kinds << KIND_SHIFT);
    if (left >> KIND_SHIFT) {
        set->slots[hole] = left;
        return;
    }
    if (!set->slots[hole])
        return;
    set->count--;
    /* Whoever was pushed past the hole moves up, so that searches need no tombstones. */
    for (size_t next = hole;;) {
        next = (next + 1) & (set->slot_count - 1);
        if (!set->slots[next])
            break;
        size_t home = home_of(set, cluster_in(set->slots[next]));
        size_t from_home = (next - home) & (set->slot_count - 1);
        size_t from_hole = (next - hole) & (set->slot_count - 1);
        if (from_home >= from_hole) {
            set->slots[hole] = set->slots[next];
            hole = next;
        }
    }
    set->slots[hole] = 0;
}

unsigned cluster_set_get(const struct cluster_set *set, uint64_t cluster)
{
    return set->slot_count > 0 ? (unsigned)(set->slots[slot_of(set, cluster)] >> KIND_SHIFT) : 0;
}

void cluster_set_remove_kinds(struct cluster_set *set, unsigned kinds)
{
    for (size_t i = 0; i < set->slot_count; i++)
        set->slots[i] &= ~((uint64_t)kinds << KIND_SHIFT);
}
