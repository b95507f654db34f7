/* blockdev-create: a new image, written table by table through the node that will hold it, as creation_plan() says.
 *
 * What may have been a header before goes first and the new one comes last, so that half an image is none. */
#include "blockcore/drivers/qcow2/create.h"
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/make_room.h"
#include "blockcore/drivers/qcow2/refcount_field.h"
#include "blockcore/graph/handle.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* Writes the cluster in memory as cluster @index of the file. */
static int put_cluster(struct creation *creation, uint64_t index)
{
    uint64_t bytes = cluster_bytes(&creation->geometry);
    struct iovec piece;
    struct iov iov = iov_of(&piece, creation->cluster, (size_t)bytes);
    return handle_pwritev(creation->handle, range_make(index * bytes, bytes), &iov, 0);
}

/* A table of @entries pointers in a row: to clusters @target, @target + 1 and so on, with @flags. */
static int put_pointers(struct creation *creation, uint64_t index, uint64_t entries, uint64_t target, uint64_t flags)
{
    uint64_t per_cluster = cluster_bytes(&creation->geometry) / sizeof(uint64_t);
    int ret = 0;
    for (uint64_t done = 0; done < entries && ret == 0; done += per_cluster) {
        memset(creation->cluster, 0, (size_t)cluster_bytes(&creation->geometry));
        for (uint64_t i = 0; i < per_cluster && done + i < entries; i++)
            store_be64(creation->cluster + i * sizeof(uint64_t),
                       (target + done + i) << creation->geometry.cluster_bits | flags);
        ret = put_cluster(creation, index + done / per_cluster);
    }
    return ret;
}

/* What the entry of a preallocated cluster says. Its bytes read as zeroes, so they are data, and writing them changes
 * no entry any more; unless a backing file is to show through until then, which only subclusters can say. Encrypted,
 * they would read as noise, so the entry says that they are zero. */
static struct l2_entry preallocated_entry(const struct creation *creation, uint64_t host)
{
    struct cluster cluster = { .valid = true, .has_host = true, .own = true, .host = host };
    if (!creation->header.backing_file && creation->luks > 0)
        cluster.zero = creation->geometry.units;
    else if (!creation->header.backing_file)
        cluster.data = creation->geometry.units;
    return entry_of_cluster(&creation->geometry, &cluster);
}

/* L2 tables in a row, for clusters in a row from @target on. */
static int put_l2_tables(struct creation *creation, uint64_t index, uint64_t target)
{
    const struct geometry *geometry = &creation->geometry;
    uint64_t per_table = UINT64_C(1) << geometry->l2_bits;
    int ret = 0;
    for (uint64_t done = 0; done < creation->data && ret == 0; done += per_table) {
        memset(creation->cluster, 0, (size_t)cluster_bytes(geometry));
        for (uint64_t i = 0; i < per_table && done + i < creation->data; i++) {
            uint8_t *at = creation->cluster + (i << geometry->l2_entry_bits);
            uint64_t host = target + done + i;
            struct l2_entry entry = preallocated_entry(creation, host << geometry->cluster_bits);
            store_be64(at, entry.descriptor);
            if (geometry_is_extended(geometry))
                store_be64(at + sizeof(uint64_t), entry.bitmap);
        }
        ret = put_cluster(creation, index + done / per_table);
    }
    return ret;
}

static int put_refblocks(struct creation *creation, uint64_t index)
{
    uint64_t entries = UINT64_C(1) << creation->geometry.refblock_bits;
    uint64_t left = creation_clusters(creation);
    int ret = 0;
    for (uint64_t i = 0; i < creation->refblocks && ret == 0; i++) {
        memset(creation->cluster, 0, (size_t)cluster_bytes(&creation->geometry));
        for (uint64_t k = 0; k < entries && left > 0; k++, left--)
            refcount_set(creation->cluster, creation->geometry.refcount_order, (size_t)k, 1);
        ret = put_cluster(creation, index + i);
    }
    return ret;
}

static int put_zeroes(struct creation *creation, uint64_t index, uint64_t clusters)
{
    uint64_t bytes = cluster_bytes(&creation->geometry);
    return clusters ? handle_pwrite_zeroes(creation->handle, range_make(index * bytes, clusters * bytes), 0) : 0;
}

/* Stable before anything else is written. One sector, which disks write as a whole: there is the old image, or none. */
static int put_no_header(struct creation *creation)
{
    int ret = handle_pwrite_zeroes(creation->handle, range_make(0, QCOW2_SECTOR_BYTES), 0);
    return ret < 0 ? ret : handle_flush(creation->handle);
}

/* Everything else is stable. The extensions and the name of the backing file may take more than one sector, so the
 * first one comes when the others are stable. */
static int put_header(struct creation *creation)
{
    size_t rest = (size_t)cluster_bytes(&creation->geometry) - QCOW2_SECTOR_BYTES;
    struct iovec piece;
    struct iov iov = iov_of(&piece, creation->cluster + QCOW2_SECTOR_BYTES, rest);
    int ret = 0;
    if (rest > 0)
        ret = handle_pwritev(creation->handle, range_make(QCOW2_SECTOR_BYTES, rest), &iov, 0);
    if (ret == 0 && rest > 0)
        ret = handle_flush(creation->handle);
    iov = iov_of(&piece, creation->cluster, QCOW2_SECTOR_BYTES);
    if (ret == 0)
        ret = handle_pwritev(creation->handle, range_make(0, QCOW2_SECTOR_BYTES), &iov, 0);
    return ret < 0 ? ret : handle_flush(creation->handle);
}

static int put_tables(struct creation *creation)
{
    uint64_t refblocks = 1 + creation->reftable;
    uint64_t l1 = refblocks + creation->refblocks;
    uint64_t l2 = l1 + creation->l1 + creation->luks;
    uint64_t data = creation->data_file ? 0 : l2 + creation->l2;
    int ret = put_pointers(creation, 1, creation->refblocks, refblocks, 0);
    if (ret == 0)
        ret = put_refblocks(creation, refblocks);
    if (ret == 0 && creation->l2 == 0)
        ret = put_zeroes(creation, l1, creation->l1);
    if (ret == 0)
        ret = put_pointers(creation, l1, creation->l2, l2, ENTRY_COPIED);
    if (ret == 0)
        ret = put_l2_tables(creation, l2, data);
    if (ret == 0 && !creation->reads_zero && !creation->data_file)
        ret = put_zeroes(creation, data, creation->data);
    return ret;
}

/* A raw data file is the disk already; it only has to be long enough. Another one reads as zeroes where clusters are
 * preallocated. */
static struct error *make_data(struct creation *creation)
{
    struct handle *handle = creation->data_file;
    enum truncate_mode mode = truncate_mode_of(creation->preallocation);
    uint64_t bytes = creation->header.size;
    int ret = 0;
    if (creation->raw_data) {
        if (node_length(handle_node(handle)) < bytes)
            ret = handle_truncate(handle, bytes, mode);
    } else {
        bool reads_zero;
        struct error *err = make_room(handle, bytes, mode, &reads_zero);
        if (err)
            return error_wrap(err, "data-file");
        if (!reads_zero && creation->data > 0)
            ret = handle_pwrite_zeroes(handle, range_make(0, bytes), 0);
    }
    if (ret == 0)
        ret = handle_flush(handle);
    return ret < 0 ? error_errno(-ret, "data-file: cannot make it %" PRIu64 " bytes long", bytes) : NULL;
}

static struct error *make_file(struct creation *creation)
{
    uint64_t bytes = creation_clusters(creation) << creation->geometry.cluster_bits;
    if (!creation->data_file)
        return make_room(creation->handle, bytes, truncate_mode_of(creation->preallocation), &creation->reads_zero);
    struct error *err = make_data(creation);
    return err ? err : make_room(creation->handle, bytes, TRUNCATE_SPARSE, &creation->reads_zero);
}

static struct error *write_image(struct creation *creation)
{
    uint64_t bytes = cluster_bytes(&creation->geometry);
    creation->cluster = buffer_get((size_t)bytes);
    if (!creation->cluster)
        return error_errno(ENOMEM, "cannot make the image");
    /* Before anything is written: does all of it fit into the header? */
    struct error *err = qcow2_header_format(&creation->header, creation->cluster, NULL);
    if (!err)
        err = make_file(creation);
    if (err)
        return err;
    int ret = put_no_header(creation);
    if (ret == 0)
        ret = put_tables(creation);
    if (ret == 0 && creation->luks > 0)
        err = crypt_creation_write(&creation->crypt, creation->handle, creation->header.crypto_offset);
    if (err)
        return err;
    if (ret == 0)
        ret = handle_flush(creation->handle);
    if (ret == 0) {
        err = qcow2_header_format(&creation->header, creation->cluster, NULL);
        ret = err ? 0 : put_header(creation);
    }
    return ret < 0 ? error_errno(-ret, "cannot write the image") : err;
}

/* The caller closes the handle, which keeps the node. */
static struct error *open_for_writing(const char *option, const struct blockdev_ref *ref, struct handle **out)
{
    struct node *node;
    struct error *err = node_open_ref(ref, &node);
    if (err)
        return error_wrap(err, "%s", option);
    err = handle_open_here(node, "blockdev-create", PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
                           PERM_CONSISTENT_READ, out);
    node_unref(node);
    return err;
}

/* The path of a file or device, for the header; a relative one would mean something else to each reader. NULL for what
 * is not a file: then the data file has to be given whenever the image is opened. */
static char *name_of_data_file(const struct node *node)
{
    const char *name = node_filename(node);
    const char *driver = node_driver(node)->name;
    if (strcmp(driver, "file") != 0 && strcmp(driver, "host_device") != 0)
        return NULL;
    CLEANUP(free) char *directory = name[0] == '/' ? NULL : getcwd(NULL, 0);
    return directory ? xasprintf("%s/%s", directory, name) : xstrdup(name);
}

static struct error *create_on(struct creation *creation, const struct blockdev_create_options_qcow2 *options)
{
    struct error *err = open_for_writing("file", options->file, &creation->handle);
    if (!err && options->data_file)
        err = open_for_writing("data-file", options->data_file, &creation->data_file);
    if (!err && creation->data_file)
        creation->header.data_file = name_of_data_file(handle_node(creation->data_file));
    if (!err)
        err = write_image(creation);
    if (creation->data_file)
        handle_close(creation->data_file);
    if (creation->handle)
        handle_close(creation->handle);
    return err;
}

struct error *qcow2_create(const struct blockdev_create_options *options)
{
    struct creation creation = { 0 };
    struct error *err = crypt_creation_plan(options->u.qcow2.encrypt, &creation.crypt);
    if (!err)
        err = creation_plan(&options->u.qcow2, &creation);
    if (!err)
        err = create_on(&creation, &options->u.qcow2);
    if (creation.cluster)
        buffer_put(creation.cluster, (size_t)cluster_bytes(&creation.geometry));
    key_bytes_free(creation.crypt.password);
    qcow2_header_fini(&creation.header);
    return err;
}
