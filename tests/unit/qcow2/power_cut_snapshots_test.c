/* The power may go at any moment: internal snapshots and dirty bitmaps that come and go. */
#include "tests/unit/qcow2/power_cut.h"

POWER_CUT(encrypted_with_snapshots, .create = "cluster_size=4096,encrypt.format=aes,encrypt.key-secret=s",
          .sectors = 2000, .backing = true, .encrypted = true, .snapshots = true)
POWER_CUT(snapshots_come_and_go, .create = "cluster_size=4096", .sectors = 2000, .snapshots = true)
POWER_CUT(snapshots_of_smallest_clusters, .create = "cluster_size=512,refcount_bits=64", .sectors = 700,
          .snapshots = true, .small_caches = true)
POWER_CUT(snapshots_on_a_backing_file, .create = "cluster_size=4096", .sectors = 2000, .backing = true,
          .snapshots = true, .pass_discard = true)
POWER_CUT(snapshots_of_compressed_content, .create = "cluster_size=4096", .sectors = 2000, .compressed = true,
          .snapshots = true)
POWER_CUT(snapshots_of_subclusters, .create = "cluster_size=16384,extended_l2=on", .sectors = 2000, .snapshots = true)
POWER_CUT(snapshots_and_lazy_refcounts, .create = "cluster_size=4096,lazy_refcounts=on", .sectors = 2000, .lazy = true,
          .snapshots = true)
POWER_CUT(snapshots_and_compressed_writes, .create = "cluster_size=4096", .sectors = 2000, .packed_sectors = 8,
          .snapshots = true)
POWER_CUT(snapshots_of_version_2, .create = "cluster_size=4096,compat=0.10", .sectors = 2000, .snapshots = true,
          .version_2 = true)
POWER_CUT(snapshots_of_smallest_clusters_of_version_2, .create = "cluster_size=512,compat=0.10", .sectors = 700,
          .snapshots = true, .version_2 = true, .small_caches = true)
POWER_CUT(snapshots_of_version_2_and_compressed_content, .create = "cluster_size=4096,compat=0.10", .sectors = 2000,
          .compressed = true, .packed_sectors = 8, .snapshots = true, .version_2 = true, .pass_discard = true)
POWER_CUT(snapshots_of_version_2_on_a_backing_file, .create = "cluster_size=4096,compat=0.10", .sectors = 1500,
          .snapshots = true, .version_2 = true, .backing = true)
POWER_CUT(bitmaps, .create = "cluster_size=4096", .sectors = 3000, .bitmaps = true)
POWER_CUT(bitmaps_of_a_disk_that_is_resized, .create = "cluster_size=4096", .sectors = 3000, .grown_sectors = 5000,
          .bitmaps = true)
POWER_CUT(bitmaps_on_a_backing_file, .create = "cluster_size=65536", .sectors = 3000, .backing = true, .bitmaps = true)
POWER_CUT(bitmaps_beside_snapshots, .create = "cluster_size=4096", .sectors = 1500, .snapshots = true, .bitmaps = true)
POWER_CUT(bitmaps_ahead, .create = "cluster_size=4096", .sectors = 3000, .bitmaps = true, .write_ahead = true)
POWER_CUT(bitmaps_ahead_of_smallest_clusters, .create = "cluster_size=512", .sectors = 3000, .bitmaps = true,
          .write_ahead = true)
POWER_CUT(bitmaps_ahead_of_a_disk_that_is_resized, .create = "cluster_size=512", .sectors = 3000, .grown_sectors = 9000,
          .bitmaps = true, .write_ahead = true)
POWER_CUT(bitmaps_ahead_beside_snapshots, .create = "cluster_size=4096", .sectors = 1500, .snapshots = true,
          .bitmaps = true, .write_ahead = true)
POWER_CUT(bitmaps_ahead_of_a_data_file, .create = "cluster_size=4096", .sectors = 3000, .bitmaps = true,
          .write_ahead = true, .data_file = true)
POWER_CUT(bitmaps_ahead_of_a_raw_data_file, .create = "cluster_size=4096", .sectors = 3000, .bitmaps = true,
          .write_ahead = true, .data_file = true, .raw = true)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encrypted_with_snapshots),
        cmocka_unit_test(snapshots_come_and_go),
        cmocka_unit_test(snapshots_of_smallest_clusters),
        cmocka_unit_test(snapshots_on_a_backing_file),
        cmocka_unit_test(snapshots_of_compressed_content),
        cmocka_unit_test(snapshots_of_subclusters),
        cmocka_unit_test(snapshots_and_lazy_refcounts),
        cmocka_unit_test(snapshots_and_compressed_writes),
        cmocka_unit_test(snapshots_of_version_2),
        cmocka_unit_test(snapshots_of_smallest_clusters_of_version_2),
        cmocka_unit_test(snapshots_of_version_2_and_compressed_content),
        cmocka_unit_test(snapshots_of_version_2_on_a_backing_file),
        cmocka_unit_test(bitmaps),
        cmocka_unit_test(bitmaps_of_a_disk_that_is_resized),
        cmocka_unit_test(bitmaps_on_a_backing_file),
        cmocka_unit_test(bitmaps_beside_snapshots),
        cmocka_unit_test(bitmaps_ahead),
        cmocka_unit_test(bitmaps_ahead_of_smallest_clusters),
        cmocka_unit_test(bitmaps_ahead_of_a_disk_that_is_resized),
        cmocka_unit_test(bitmaps_ahead_beside_snapshots),
        cmocka_unit_test(bitmaps_ahead_of_a_data_file),
        cmocka_unit_test(bitmaps_ahead_of_a_raw_data_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
