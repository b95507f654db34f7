/* cluster_set - which host clusters hold tables
 *
 * Host cluster numbers with the kinds of tables that lie there, so that a write that a damaged image sends to one of
 * its own tables is recognised in constant time, however many tables there are. Not locked: see struct qcow2. */
#ifndef CAIRN_QCOW2_CLUSTER_SET_H
#define CAIRN_QCOW2_CLUSTER_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cluster_set {
    uint64_t *slots; /* kinds << 48 | cluster; 0 is empty. Open addressing: a power of two, at most half full */
    size_t slot_count;
    size_t count;
};

void cluster_set_fini(struct cluster_set *set);

/* @kinds (not 0, at most 16 bits, see overlap.h) are added to those that the cluster has. False when there is no
 * memory. Clusters have numbers below 2^48. */
bool cluster_set_add(struct cluster_set *set, uint64_t cluster, unsigned kinds);
/* The cluster loses these kinds, and with the last one its place in the set. */
void cluster_set_remove(struct cluster_set *set, uint64_t cluster, unsigned kinds);
/* All clusters lose these kinds. Those that are left without one keep their memory, so adding them again cannot fail.
 */
void cluster_set_remove_kinds(struct cluster_set *set, unsigned kinds);
/* 0: not in the set. */
unsigned cluster_set_get(const struct cluster_set *set, uint64_t cluster);

#endif
