/* The power may go at any moment: requests and resizes. */
#include "tests/unit/qcow2/power_cut.h"

POWER_CUT(usual_clusters, .create = "cluster_size=65536", .sectors = 8000)
POWER_CUT(smallest_clusters, .create = "cluster_size=512", .sectors = 2000)
POWER_CUT(small_clusters, .create = "cluster_size=4096", .sectors = 4000)
POWER_CUT(version_2, .create = "cluster_size=4096,compat=0.10", .sectors = 4000)
POWER_CUT(a_refcount_table_that_grows, .create = "cluster_size=512,refcount_bits=64", .sectors = 6000)
POWER_CUT(refcounts_of_one_bit, .create = "cluster_size=512,refcount_bits=1", .sectors = 3000)
POWER_CUT(on_a_backing_file, .create = "cluster_size=4096", .sectors = 4000, .backing = true)
POWER_CUT(version_2_on_a_backing_file, .create = "cluster_size=4096,compat=0.10", .sectors = 3000, .backing = true)
POWER_CUT(with_a_snapshot, .create = "cluster_size=4096", .sectors = 4000, .snapshot = true)
POWER_CUT(with_a_snapshot_and_smallest_clusters, .create = "cluster_size=512", .sectors = 1500, .snapshot = true)
POWER_CUT(with_small_caches, .create = "cluster_size=4096", .sectors = 8000, .small_caches = true)
POWER_CUT(with_small_caches_and_a_snapshot, .create = "cluster_size=512", .sectors = 2000, .small_caches = true,
          .snapshot = true)
POWER_CUT(compressed_content, .create = "cluster_size=4096", .sectors = 4000, .compressed = true)
POWER_CUT(compressed_content_in_a_snapshot, .create = "cluster_size=16384", .sectors = 4000, .compressed = true,
          .snapshot = true)
POWER_CUT(compressed_writes, .create = "cluster_size=4096", .sectors = 4000, .packed_sectors = 8)
POWER_CUT(compressed_writes_to_smallest_clusters, .create = "cluster_size=512", .sectors = 1000, .packed_sectors = 1)
POWER_CUT(compressed_writes_with_a_snapshot, .create = "cluster_size=16384", .sectors = 4000, .compressed = true,
          .packed_sectors = 32, .snapshot = true)
POWER_CUT(compressed_writes_on_a_backing_file, .create = "cluster_size=4096", .sectors = 2000, .backing = true,
          .packed_sectors = 8)
POWER_CUT(compressed_writes_and_discards, .create = "cluster_size=4096", .sectors = 2000, .packed_sectors = 8,
          .pass_discard = true)
POWER_CUT(lazy_refcounts, .create = "cluster_size=4096,lazy_refcounts=on", .sectors = 4000, .lazy = true)
POWER_CUT(lazy_refcounts_and_a_refcount_table_that_grows,
          .create = "cluster_size=512,refcount_bits=64,lazy_refcounts=on", .sectors = 3000, .lazy = true)
POWER_CUT(lazy_refcounts_and_compressed_writes, .create = "cluster_size=4096,lazy_refcounts=on", .sectors = 2000,
          .lazy = true, .packed_sectors = 8)
POWER_CUT(discards_reach_the_file, .create = "cluster_size=4096", .sectors = 3000, .pass_discard = true)
POWER_CUT(resized, .create = "cluster_size=512", .sectors = 1000, .grown_sectors = 6000)
POWER_CUT(resized_on_a_backing_file, .create = "cluster_size=4096", .sectors = 3000, .grown_sectors = 5000,
          .backing = true)
POWER_CUT(encrypted, .create = "cluster_size=4096,encrypt.format=aes,encrypt.key-secret=s", .sectors = 4000,
          .backing = true, .encrypted = true)
POWER_CUT(encrypted_and_resized, .create = "cluster_size=16384,encrypt.format=aes,encrypt.key-secret=s",
          .sectors = 3000, .grown_sectors = 5000, .backing = true, .encrypted = true)
POWER_CUT(subclusters, .create = "cluster_size=16384,extended_l2=on", .sectors = 4000)
POWER_CUT(subclusters_on_a_backing_file, .create = "cluster_size=16384,extended_l2=on", .sectors = 4000,
          .backing = true)
POWER_CUT(subclusters_with_a_snapshot, .create = "cluster_size=16384,extended_l2=on", .sectors = 4000, .snapshot = true,
          .small_caches = true)
POWER_CUT(discards_of_subclusters_reach_the_file, .create = "cluster_size=16384,extended_l2=on", .sectors = 3000,
          .pass_discard = true)
POWER_CUT(compressed_subclusters, .create = "cluster_size=16384,extended_l2=on", .sectors = 4000, .compressed = true,
          .packed_sectors = 32)
POWER_CUT(resized_subclusters_on_a_backing_file, .create = "cluster_size=16384,extended_l2=on", .sectors = 3000,
          .grown_sectors = 5000, .backing = true)
POWER_CUT(a_data_file, .create = "cluster_size=4096", .sectors = 4000, .data_file = true)
POWER_CUT(a_data_file_on_a_backing_file, .create = "cluster_size=4096", .sectors = 4000, .data_file = true,
          .backing = true, .pass_discard = true)
POWER_CUT(a_data_file_with_subclusters, .create = "cluster_size=16384,extended_l2=on", .sectors = 4000,
          .data_file = true, .pass_discard = true)
POWER_CUT(a_raw_data_file, .create = "cluster_size=4096", .sectors = 4000, .data_file = true, .raw = true,
          .pass_discard = true)
POWER_CUT(resized_with_a_data_file, .create = "cluster_size=512", .sectors = 1000, .grown_sectors = 6000,
          .data_file = true)
POWER_CUT(resized_with_a_raw_data_file, .create = "cluster_size=4096", .sectors = 3000, .grown_sectors = 5000,
          .data_file = true, .raw = true)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usual_clusters),
        cmocka_unit_test(smallest_clusters),
        cmocka_unit_test(small_clusters),
        cmocka_unit_test(version_2),
        cmocka_unit_test(a_refcount_table_that_grows),
        cmocka_unit_test(refcounts_of_one_bit),
        cmocka_unit_test(on_a_backing_file),
        cmocka_unit_test(version_2_on_a_backing_file),
        cmocka_unit_test(with_a_snapshot),
        cmocka_unit_test(with_a_snapshot_and_smallest_clusters),
        cmocka_unit_test(with_small_caches),
        cmocka_unit_test(with_small_caches_and_a_snapshot),
        cmocka_unit_test(compressed_content),
        cmocka_unit_test(compressed_content_in_a_snapshot),
        cmocka_unit_test(compressed_writes),
        cmocka_unit_test(compressed_writes_to_smallest_clusters),
        cmocka_unit_test(compressed_writes_with_a_snapshot),
        cmocka_unit_test(compressed_writes_on_a_backing_file),
        cmocka_unit_test(compressed_writes_and_discards),
        cmocka_unit_test(lazy_refcounts),
        cmocka_unit_test(lazy_refcounts_and_a_refcount_table_that_grows),
        cmocka_unit_test(lazy_refcounts_and_compressed_writes),
        cmocka_unit_test(discards_reach_the_file),
        cmocka_unit_test(resized),
        cmocka_unit_test(resized_on_a_backing_file),
        cmocka_unit_test(encrypted),
        cmocka_unit_test(encrypted_and_resized),
        cmocka_unit_test(subclusters),
        cmocka_unit_test(subclusters_on_a_backing_file),
        cmocka_unit_test(subclusters_with_a_snapshot),
        cmocka_unit_test(discards_of_subclusters_reach_the_file),
        cmocka_unit_test(compressed_subclusters),
        cmocka_unit_test(resized_subclusters_on_a_backing_file),
        cmocka_unit_test(a_data_file),
        cmocka_unit_test(a_data_file_on_a_backing_file),
        cmocka_unit_test(a_data_file_with_subclusters),
        cmocka_unit_test(a_raw_data_file),
        cmocka_unit_test(resized_with_a_data_file),
        cmocka_unit_test(resized_with_a_raw_data_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
