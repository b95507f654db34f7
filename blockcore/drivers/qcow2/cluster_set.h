/* cluster_set - which host clusters hold tables
 *
 * A set of host cluster numbers, so that a write that a damaged image sends to one of its own tables is recognised in
 * constant time, however many tables there are. Not locked: see struct qcow2. */
#ifndef CAIRN_QCOW2_CLUSTER_SET_H
#define CAIRN_QCOW2_CLUSTER_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cluster_set {
    uint64_t *slots; /* cluster + 1; 0 is empty. Open addressing: a power of two, at most half full */
    size_t slot_count;
    size_t count;
};

void cluster_set_fini(struct cluster_set *set);

/* Adding twice is once. False when there is no memory. */
bool cluster_set_add(struct cluster_set *set, uint64_t cluster);
void cluster_set_remove(struct cluster_set *set, uint64_t cluster);
bool cluster_set_has(const struct cluster_set *set, uint64_t cluster);

#endif
