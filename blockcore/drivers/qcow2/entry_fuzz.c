/* Any L2 entry in any kind of image: what it says is consistent, and taken apart and put together it is the same. */
#include "blockcore/drivers/qcow2/entry.h"

#include "blockcore/base/endian.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void demand(bool condition)
{
    if (!condition)
        abort();
}

/* Every unit is of one kind, and runs of units are what their units are. */
static void check_units(const struct geometry *geometry, const struct cluster *cluster)
{
    for (unsigned unit = 0; unit < unit_count(geometry);) {
        enum cluster_kind kind = cluster_unit_kind(cluster, unit);
        unsigned alike = cluster_units_alike(geometry, cluster, unit);
        demand(alike >= 1 && unit + alike <= unit_count(geometry));
        for (unsigned i = unit; i < unit + alike; i++)
            demand(cluster_unit_kind(cluster, i) == kind);
        unit += alike;
        demand(unit == unit_count(geometry) || cluster_unit_kind(cluster, unit) != kind);
        demand(cluster->valid || kind == CLUSTER_INVALID);
        demand(kind != CLUSTER_DATA || cluster->has_host);
    }
}

/* Bits that mean nothing are not kept. */
static void check_round_trip(const struct geometry *geometry, const struct cluster *cluster, uint64_t guest)
{
    struct l2_entry entry = entry_of_cluster(geometry, cluster);
    struct cluster again = cluster_of_entry(geometry, entry, guest);
    demand(again.valid && !again.compressed && again.has_host == cluster->has_host && again.own == cluster->own &&
           again.host == cluster->host && again.data == cluster->data && again.zero == cluster->zero);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 26)
        return 0;
    bool extended = data[0] & 1;
    unsigned smallest = extended ? QCOW2_EXTENDED_CLUSTER_BITS_MIN : QCOW2_CLUSTER_BITS_MIN;
    struct qcow2_header header = {
        .version = extended || (data[0] & 2) ? 3 : 2,
        .cluster_bits = smallest + data[1] % (QCOW2_CLUSTER_BITS_MAX - smallest + 1),
        .incompatible = (extended ? QCOW2_EXTENDED_L2 : 0) | (data[0] & 4 ? QCOW2_DATA_FILE : 0),
    };
    struct geometry geometry = geometry_of(&header);
    struct l2_entry entry = { .descriptor = load_be64(data + 2), .bitmap = extended ? load_be64(data + 10) : 0 };
    uint64_t guest = align_down(load_be64(data + 18) >> 8, cluster_bytes(&geometry));
    struct cluster cluster = cluster_of_entry(&geometry, entry, guest);
    check_units(&geometry, &cluster);
    if (cluster.valid && !cluster.compressed)
        check_round_trip(&geometry, &cluster, guest);
    if (cluster.valid && cluster.compressed)
        demand(range_inside(entry_compressed_range(&geometry, entry.descriptor), QCOW2_HOST_OFFSET_END));
    return 0;
}
