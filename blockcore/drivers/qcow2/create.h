/* create - what a new image shall be: from options to a header and a plan of the file
 *
 *     | header | refcount table | refcount blocks | L1 table | LUKS header | L2 tables | data |
 *                                                             encrypted      `- if preallocated -'
 * Every cluster has one reference. */
#ifndef CAIRN_QCOW2_CREATE_H
#define CAIRN_QCOW2_CREATE_H

#include "blockcore/drivers/qcow2/crypt.h"
#include "blockcore/drivers/qcow2/entry.h"
#include "schema/cairn_types.h"

struct handle;

struct creation {
    struct qcow2_header header;
    struct geometry geometry;
    struct handle *handle;
    struct handle *data_file;    /* NULL: the image holds its data itself */
    uint8_t *cluster;            /* one cluster of memory */
    struct crypt_creation crypt; /* filled in before the rest is planned */
    enum prealloc_mode preallocation;
    bool raw_data;   /* the data file stays as it is, and is the disk */
    bool reads_zero; /* what is not written reads as zeroes */
    /* Clusters of each part, in the order of the file. */
    uint64_t reftable;
    uint64_t refblocks;
    uint64_t l1;
    uint64_t luks;
    uint64_t l2;
    uint64_t data; /* with a data file they are there, not here */
};

/* Fills in header, geometry, preallocation and the clusters of each part. The caller calls qcow2_header_fini. Errors
 * name the option. */
struct error *creation_plan(const struct blockdev_create_options_qcow2 *options, struct creation *creation) MUST_CHECK;

/* Clusters of the file. */
uint64_t creation_clusters(const struct creation *creation);

#endif
