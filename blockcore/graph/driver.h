/* driver - the code of a kind of node: one table of functions and one option struct
 *
 * A driver gets requests that are inside the node (or end past it on an edge that may resize), aligned to its limits
 * and not longer than them; io/ has done the rest. Where the node ends inside a unit of its alignment, a read may reach
 * to the end of that unit, while a write or discard ends with the node (or where one that makes it longer is to end).
 * A driver may be called from any loop, several requests at once, and guards its own state; for plain data it holds no
 * lock. It reaches its children through child_preadv() and friends (io/request.h).
 *
 * What a driver leaves out has one meaning each, given beside the entry. For a filter, what is left out passes to
 * the filtered child. Requests return 0 or -errno.
 *
 * Source of the table's shape: docs/architecture.md, "A driver". */
#ifndef CAIRN_GRAPH_DRIVER_H
#define CAIRN_GRAPH_DRIVER_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/base/iov.h"
#include "blockcore/base/range.h"

#include <stdbool.h>
#include <stddef.h>

struct block_stats_specific;
struct blockdev_amend_options;
struct blockdev_create_options;
struct blockdev_options;
struct child;
struct copy_source;
struct extents;
struct handle;
struct image_check;
struct image_info;
struct arena;
struct node;
struct open_context;
struct reopen;
struct snapshot_info;

enum driver_kind {
    DRIVER_PROTOCOL, /* stands on storage */
    DRIVER_FORMAT,   /* computes its content from its children */
    DRIVER_FILTER,   /* shows its filtered child */
};

enum request_flags {
    REQ_FUA = 0x1,         /* on stable storage before the request ends */
    REQ_MAY_UNMAP = 0x2,   /* write zeroes: storage may be given back */
    REQ_NO_FALLBACK = 0x4, /* write zeroes: -ENOTSUP rather than writing zeroes the slow way */
    /* Write data: store it compressed, as far as that makes it smaller. -ENOTSUP unless write_flags has it. Reaches the
     * driver as a whole, whatever max_transfer says; what is no multiple of the driver's clusters, the end of the node
     * excepted, is -EINVAL. */
    REQ_COMPRESSED = 0x8,
    /* Whoever writes also brings the data to those who copy what is written to the node: their bitmaps leave it out
     * (dirty_bitmap_set_copier()). Does not reach the driver. */
    REQ_COPIED = 0x10,
    /* What the node shows stays the same: no bitmap notes it. Does not reach the driver. */
    REQ_UNCHANGED = 0x20,
};

/* Flags that are for io/ alone. */
#define REQ_NOT_FOR_DRIVERS (REQ_COPIED | REQ_UNCHANGED)

/* What a check may change. */
enum check_fix {
    FIX_LEAKS = 0x1,  /* space that is lost is given back */
    FIX_ERRORS = 0x2, /* corruptions are repaired */
};

/* How a resize fills what it adds. */
enum truncate_mode {
    TRUNCATE_SPARSE,
    TRUNCATE_FALLOC,
    TRUNCATE_FULL,
};

/* The events that a test may order an error at, passed by formats to node_debug_event(): only their name matters. */
struct driver {
    const char *name; /* as on the wire */
    enum driver_kind kind;
    size_t state_size;
    bool supports_backing; /* may have a child "backing", which comes and goes */
    unsigned write_flags;  /* the request_flags that pwritev and pwrite_zeroes honour; io/ emulates FUA with a flush */
    bool stays;            /* its children are these very nodes: it stays when their other users get a replacement */
    bool flushes_children; /* flush sees to the children itself: where one of them may fail */

    /* Setting up: control thread, may await. After an error close is not called: open cleans up after itself, children
     * attached so far are let go by the graph. Sets length, limits, filename. */
    struct error *(*open)(struct node *node, const struct blockdev_options *options,
                          const struct open_context *context)CO_FN;
    /* Everything cached has been flushed before (see flush). Children are still attached. Absent: nothing to do. */
    void (*close)(struct node *node) CO_FN;

    int (*preadv)(struct node *node, struct range range, const struct iov *iov, unsigned flags) CO_FN;
    int (*pwritev)(struct node *node, struct range range, const struct iov *iov, unsigned flags) CO_FN;
    /* The range reads as zero afterwards. -ENOTSUP (or absent): io/ writes zeroes, unless REQ_NO_FALLBACK. */
    int (*pwrite_zeroes)(struct node *node, struct range range, unsigned flags) CO_FN;
    /* Copies that storage does itself (io/offload.h). reads_from: the child that holds the bytes of @range as they are,
     * and in @range their place there; does not wait. copy_in: the range gets the bytes of @source. 0, or for whatever
     * reason -ENOTSUP, and for what no other request of the kind can do either -EOPNOTSUPP: then the bytes are written
     * instead. Absent: a filter without preadv, or without pwritev, passes on; others cannot. */
    struct child *(*reads_from)(const struct node *node, struct range *range);
    int (*copy_in)(struct node *node, struct range range, const struct copy_source *source) CO_FN;
    /* A hint. Afterwards the range reads as zero or as before. Not called unless the node's options say discard=unmap;
     * without that REQ_MAY_UNMAP does not come either. Absent: ignored. */
    int (*pdiscard)(struct node *node, struct range range) CO_FN;
    /* Hands everything that the node itself caches to its children, in the right order; io/ then flushes data, metadata
     * and filtered children, unless flushes_children. A protocol makes completed writes stable. Absent: nothing
     * cached. */
    int (*flush)(struct node *node) CO_FN;
    /* Changes the length; what is added reads as zero. Calls node_set_length. Absent: -ENOTSUP. */
    int (*truncate)(struct node *node, uint64_t bytes, enum truncate_mode mode) CO_FN;

    /* What the node itself knows of the range: see io/block_status.h. Absent: a protocol has data everywhere, mapped
     * one to one; a format has data of its own everywhere, without a mapping. A filter always shows its child: its
     * entry is only told of the question (@extents is NULL) and may hold it up or fail it. */
    int (*block_status)(struct node *node, struct range range, unsigned ask, struct extents *extents) CO_FN;

    /* Looks for what is wrong with the image and repairs it as far as @fix says (enum check_fix); fills in the numbers
     * of @result. Runs on an I/O loop while nobody writes the node, and for a repair while nobody else uses it. Looks
     * at
     * *@stop (may be NULL) every few milliseconds, and ends with -ECANCELED when it is set. 0 or -errno. Absent:
     * cannot. */
    int (*check)(struct node *node, unsigned fix, const _Atomic bool *stop, struct image_check *result) CO_FN;

    /* Storage that the node occupies, in bytes, or -errno. Absent: the sum over data and metadata children. */
    int64_t (*allocated_bytes)(struct node *node) CO_FN;
    /* Adds what it knows to the answer of query-named-block-nodes; strings from @arena. Does not wait. Absent: nothing.
     */
    void (*describe)(struct node *node, struct image_info *info, struct arena *arena) CONTROL_FN;

    /* Which permissions @child needs, and lets others have, when the node's parents together need @perm and share
     * @shared. Absent: the rule of the child's role. On a node with force-share the child is shared whatever is said
     * here. While the node is being reopened this is asked for the node as it is and as it will be, see
     * node_is_read_only_for(); @child may be a claim, so it is known by its name. Does not wait. */
    void (*child_permissions)(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                              unsigned *child_perm, unsigned *child_shared) CONTROL_FN;
    /* A protocol brings its locks in line with what its users now need together; with force-share @shared is PERM_ALL.
     * On error the old ones still hold. Not called twice at the same time for one node. Absent: no locks. */
    struct error *(*set_permissions)(struct node *node, unsigned perm, unsigned shared)CO_FN CONTROL_FN;

    /* blockdev-reopen (reopen.h), all of it on the control thread. Other nodes may be reopened with this one, all of
     * them or none.
     *
     * prepare: requests are running. Says of each child what @options say (reopen_child, reopen_backing), makes what is
     * new and keeps it with reopen_set_state(); changes nothing that a request or a question sees. May await. An option
     * that cannot change is none of its business: see reopenable. Absent: the node cannot be reopened.
     *
     * leave: drained, children and settings are the old ones still; a node that will be read-only has been flushed. For
     * what must be done before. May await, send requests to children, fail. Absent: nothing to do.
     *
     * enter: drained, children and settings are the new ones already. For what must be done to storage before the new
     * options count (a header that promises something, another descriptor). May await, send requests to children, fail;
     * then commit is not called but abort is, with the old graph in place again. Absent: nothing to do.
     *
     * undo: enter has succeeded, but that of another node has not; children and settings are the new ones still, and
     * parents are undone before their children. For what abort cannot do, since the old settings forbid it. May await
     * and send requests to children. Absent: nothing to do.
     *
     * commit: drained; cannot fail and does not wait. Absent: nothing to do. A node that becomes read-only was flushed.
     *
     * abort: undoes prepare, leave and enter. Called whenever prepare was, unless commit is. May await. Absent: nothing
     * to do.
     *
     * end: after commit, when requests run again: may await, cannot fail. Frees what commit left. Absent: nothing. */
    struct error *(*reopen_prepare)(struct node *node, const struct blockdev_options *options,
                                    struct reopen *reopen)CO_FN CONTROL_FN;
    struct error *(*reopen_leave)(struct node *node, struct reopen *reopen)CO_FN CONTROL_FN;
    struct error *(*reopen_enter)(struct node *node, struct reopen *reopen)CO_FN CONTROL_FN;
    void (*reopen_undo)(struct node *node, struct reopen *reopen) CO_FN CONTROL_FN;
    void (*reopen_commit)(struct node *node, struct reopen *reopen) CONTROL_FN;
    void (*reopen_abort)(struct node *node, struct reopen *reopen) CO_FN CONTROL_FN;
    void (*reopen_end)(struct node *node, struct reopen *reopen) CO_FN CONTROL_FN;
    /* The driver's own options that prepare can change, as on the wire, the list ending with NULL; children do not
     * count. Any other that differs is an error: "Cannot change the option 'x'". Absent: none. */
    const char *const *reopenable;

    /* A child more, or less, while the node is at work (graph/child.h has the parts). They drain the node themselves,
     * and may be called again while they wait. Absent: the node does not do that. */
    struct error *(*add_child)(struct node *node, struct node *child)CO_FN CONTROL_FN;
    struct error *(*remove_child)(struct node *node, const char *name)CO_FN CONTROL_FN;

    /* change-backing-file, blockdev-snapshot-sync: writes into the image's header which file is its backing file, and
     * which format that has; the graph stays as it is. @file NULL: none. Requests may be running. Control thread.
     * Absent: "does not support". */
    struct error *(*change_backing_file)(struct node *node, const char *file, const char *format)CO_FN CONTROL_FN;

    /* blockdev-set-active (active.h). Another host is to use the image, or has used it: the node, which nobody writes
     * to any more and which has been flushed, stops writing (inactivate), or reads again what it remembers of the
     * content (activate). Drained; may await and send requests to children. After an error everything is as before,
     * also of those that had none. Absent: nothing is remembered. */
    struct error *(*inactivate)(struct node *node)CO_FN CONTROL_FN;
    struct error *(*activate)(struct node *node)CO_FN CONTROL_FN;

    /* Fills in its own part of query-blockstats; strings from @arena. Does not wait. Absent: it has none. False:
     * nothing to tell. */
    bool (*describe_stats)(struct node *node, struct block_stats_specific *specific, struct arena *arena) CONTROL_FN;

    /* Internal snapshots: states of the content that the node keeps inside of itself. The node is drained. A snapshot
     * is found by @id and @name, of which one may be NULL. Absent: "does not support internal snapshots". */
    struct error *(*snapshot_create)(struct node *node, const char *name)CO_FN CONTROL_FN;
    struct error *(*snapshot_delete)(struct node *node, const char *id, const char *name, struct arena *arena,
                                     struct snapshot_info *deleted)CO_FN CONTROL_FN;
    struct error *(*snapshot_apply)(struct node *node, const char *id, const char *name)CO_FN CONTROL_FN;

    /* Dirty bitmaps that the node keeps in its image (dirty_bitmap.h). Those that it has are loaded by open and stored
     * by close, and by whatever else ends or begins the writing of the image, without being told. Control thread.
     *
     * check: could it keep one more, of this name and granularity? Absent: it keeps none. remove: it keeps that one no
     * longer, if it did; requests may be running. keep: those that are to be kept are in the image, and stay right
     * there at every moment (write_ahead.h), if the image was opened so; requests may be running. ahead: was it? */
    struct error *(*bitmap_check)(struct node *node, const char *name, uint32_t granularity)CONTROL_FN;
    struct error *(*bitmap_remove)(struct node *node, const char *name)CO_FN CONTROL_FN;
    struct error *(*bitmap_keep)(struct node *node)CO_FN CONTROL_FN;
    bool (*bitmaps_are_ahead)(const struct node *node) CONTROL_FN;

    /* blockdev-create. Control thread. Absent: "driver 'x' cannot create images". */
    struct error *(*create)(const struct blockdev_create_options *options)CO_FN;
    /* x-blockdev-amend: other options of the format, while the node is in use; the job holds @handle, with permission
     * to write what can be read already. Control thread. Absent: "driver 'x' cannot amend images". */
    struct error *(*amend)(struct node *node, struct handle *handle, const struct blockdev_amend_options *options,
                           bool force)CO_FN;

    /* For a driver that holds requests back for a time of their own: somebody waits for the end of requests (a drain,
     * the end of an export, of a node), so all that wait go on, and until this is called with @hasty false none begins
     * to. Does not wait. Absent: no request waits here. */
    void (*hasten)(struct node *node, bool hasty) CONTROL_FN;

    /* For a driver whose storage may be away, or hang: nobody wants the requests of @owner (co_owner()) any more. Those
     * that wait for storage fail soon, with -EIO; so do those that come, until this is called with @abandoned false.
     * Requests of others are served as ever. Does not wait. Absent: they wait as long as it takes. */
    void (*abandon)(struct node *node, uint64_t owner, bool abandoned) CONTROL_FN;

    /* For a driver whose requests leave the process: the name of an export of this very process that they may come back
     * by (handle_set_entrance()), whether there is one or not; NULL: they do not come back. Absent: never. */
    const char *(*comes_back_by)(struct node *node)CONTROL_FN;

    /* A filter that listens to events of the formats above it (blkdebug): @event as in BlkdebugEvent. Absent: passes
     * on. */
    void (*debug_event)(struct node *node, const char *event) CO_FN;
};

/* NULL when there is none. The list is in drivers/drivers.c. */
const struct driver *driver_find(const char *name);

#endif
