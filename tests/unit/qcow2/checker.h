/* checker - reads a qcow2 image on its own, sharing no code with the driver
 *
 * Written from the specification: walks the tables of an image in memory, counts who refers to which cluster, compares
 * that with the refcounts, and reads guest sectors. */
#ifndef CAIRN_TESTS_QCOW2_CHECKER_H
#define CAIRN_TESTS_QCOW2_CHECKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct image {
    const uint8_t *bytes;
    size_t length;
    const uint8_t *data_file; /* of images that have one */
    size_t data_file_length;
    void (*decrypt)(uint64_t sector, uint8_t data[512]); /* what clusters of data hold; NULL: it is not encrypted */
};

struct findings {
    bool late;           /* given by the caller: while an image is marked as dirty its refcounts may be anything */
    bool flags_may_lack; /* given by the caller: a COPIED flag may be missing */
    unsigned leaks;
    unsigned corruptions;
    char first[160]; /* corruption, in words */
};

void check(struct image image, struct findings *findings);

uint64_t image_guest_bytes(struct image image);

/* Is it marked as dirty? */
bool image_is_dirty(struct image image);

/* The index of the snapshot of this name; -1 when there is none. */
int image_find_snapshot(struct image image, const char *name);

/* A dirty bitmap in the image. */
struct stored_bitmap {
    bool in_use;
    uint64_t table; /* offset */
    uint64_t table_entries;
    uint64_t granularity;
};

/* False when there is none of this name, or the header does not promise that bitmaps are kept up. */
bool image_find_bitmap(struct image image, const char *name, struct stored_bitmap *bitmap);
bool stored_bitmap_has(struct image image, const struct stored_bitmap *bitmap, uint64_t bit);

/* The 512 bytes of a guest sector. @snapshot: -1 for the active state, or the index of one. Returns false where the
 * image has nothing of its own (the backing file shows through). Compressed clusters are unpacked. */
bool read_sector(struct image image, int snapshot, uint64_t sector, uint8_t out[512]);

#endif
