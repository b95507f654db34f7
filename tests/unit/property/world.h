/* world - a random graph, and what its disk should hold
 *
 *     parts      what the graph is made of: nodes with all that is needed to open them again
 *     model      the bytes of the disk, the node that requests go to
 *     history    each step as a line; when something fails, it is printed with the seed and a drawing of the graph
 *
 * All randomness comes from the seed of the graph. Only the order in which requests of several threads run does not. */
#ifndef CAIRN_TESTS_PROPERTY_WORLD_H
#define CAIRN_TESTS_PROPERTY_WORLD_H

#include "blockcore/base/memory.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/export/export.h"
#include "blockcore/export/nbd/server.h"
#include "tests/unit/drivers/nodes.h"

#include <stdatomic.h>

#define LENGTH_MAX (640 * KIB)
#define PARTS_MAX 64
#define BELOW_MAX 3
#define MOMENTS_MAX 4

enum part_kind {
    PART_FILE,
    PART_HOST_DEVICE, /* where we may make one */
    PART_NULL,
    PART_NULL_AIO,
    PART_RAW,
    PART_QCOW2,
    PART_LUKS,
    PART_QUORUM,
    PART_REMOTE, /* an NBD client, of our own server */
    /* Filters */
    PART_GATE,
    PART_BLKDEBUG,
    PART_THROTTLE,
    PART_COPY_ON_READ,
    PART_COMPRESS,
    PART_PREALLOCATE,
    PART_LOG_WRITES,
    PART_COPY_BEFORE_WRITE,
    PART_VERIFY,
    PART_KINDS,
};

/* One node, in the order of their making. */
struct part {
    enum part_kind kind;
    char name[16];
    struct part *below[BELOW_MAX]; /* file or first child; data file, log, target,
                                      more children */
    struct part *backing;
    char path[96];
    bool windowed; /* a window has offset and size */
    uint64_t offset;
    uint64_t size;
    uint32_t align;
    bool encrypted;
    bool made; /* the image is there */
    bool small_caches;
    bool rewrites; /* a quorum: what is outvoted */
    enum blockdev_detect_zeroes_options detect_zeroes;
    char about[120]; /* for the drawing */

    /* What its options point to. */
    struct blockdev_ref refs[BELOW_MAX];
    struct blockdev_ref_or_null backing_ref;
    struct socket_address server;
    struct blockdev_qcow2_encryption encryption;
};

/* The content at one moment. */
struct moment {
    char name[16];
    struct part *image; /* that has it as an internal snapshot; NULL: the place is free */
    unsigned char *bytes;
    uint64_t length;
};

/* A set of them. */
struct byte_values {
    uint64_t bits[256 / 64];
};

struct world {
    uint64_t seed;
    uint64_t random;
    char dir[64];
    struct part parts[PARTS_MAX];
    unsigned count;
    int loop; /* the descriptor of a loop device, of a graph that stands on one */
    struct part *top;
    struct handle *disk; /* on top */
    unsigned char *bytes;
    uint64_t length;
    bool grown; /* it has been resized */
    /* Requests may fail now. What one of them was to change is unsure then: it has one of the values. */
    bool errors;
    _Atomic unsigned failures;
    bool *unsure;
    struct byte_values *values;
    bool watched; /* all values of each byte are collected: */
    struct byte_values *seen;
    uint64_t length_tried; /* by a resize that failed */
    bool leaks;            /* errors may have lost clusters */
    struct moment moments[MOMENTS_MAX];
    struct part *before_write; /* the filter that keeps a moment; NULL: there is none */
    struct moment kept;
    struct handle *snapshot; /* on the node "snapshot", which shows it */
};

/* What was done and how often it was refused, over all graphs. */
struct tally {
    const char *name;
    unsigned done;
    unsigned refused;
};

/* 0 to @limit - 1. */
uint64_t choose(struct world *world, uint64_t limit);
bool chance(struct world *world, unsigned one_in);

/* Adds a line to the history. */
__attribute__((format(printf, 1, 2))) void tell(const char *format, ...);
/* From now on a crash or a failed expectation prints history and graph; NULL: no more. */
void history_begin(const struct world *world);
void draw(const struct world *world);

/* parts.c --------------------------------------------------------------------------------------------------------- */

struct part *part_new(struct world *world, enum part_kind kind);
struct blockdev_options part_options(struct part *part);
bool part_is_filter(const struct part *part);
/* blockdev-add of what is not there yet, from the bottom up. */
struct error *part_open(struct part *part) CO_FN;
void close_nodes(struct world *world) CO_FN;
/* A file of @length bytes, open. */
struct part *make_file_part(struct world *world, uint64_t length) CO_FN;
/* A new qcow2 image with all kinds of options, not open yet. @file: what it lies in; NULL: a file of its own. NULL:
 * the image could not be made there. */
struct part *make_image(struct world *world, struct part *file, uint64_t length, bool overlay) CO_FN;
/* The first thing in the graph. */
struct part *make_bottom(struct world *world) CO_FN;
/* A filter that fits on @part, not open yet. */
struct part *make_filter(struct world *world, struct part *part) CO_FN;

/* requests.c ------------------------------------------------------------------------------------------------------ */

/* A request of a random kind; the model follows. */
void do_request(struct world *world) CO_FN;
void check_content(struct world *world) CO_FN;
/* Runs @change while requests to the first @length bytes come from all loops; the model follows them. */
void with_requests(struct world *world, uint64_t length, void (*change)(struct world *world)) CO_FN;
/* After errors: each byte has one of the values it may have, and the model knows which. */
void make_sure(struct world *world) CO_FN;
/* From now on, until it is not watched any more: which values did each byte have? */
void watch_begin(struct world *world);
/* Each of @bytes, as many as the disk has, is a value that was there at some time. */
void expect_was(struct world *world, const unsigned char *bytes);

/* proof.c: what block status says of the disk, and of all that lies below, is true. ------------------------------- */

void prove_status(struct world *world) CO_FN;

/* changes.c ------------------------------------------------------------------------------------------------------- */

/* Everything but the graph; then the disk is what it begins with. */
void world_prepare(struct world *world, const char *dir) CO_FN;
void world_begin(struct world *world, struct part *bottom) CO_FN;
void set_length(struct world *world, uint64_t length);
/* What the disk shows through filters, if it is of that kind. */
struct part *image_below(struct world *world, enum part_kind kind);
/* Closes all and opens it again, after errors that left the image without a header that anybody knows. What was not
 * flushed may be lost. */
void come_back(struct world *world) CO_FN;
bool can_open_again(const struct world *world);
/* Something that is used at the moment. */
struct part *choose_part(struct world *world);
/* Something else than a request. */
void do_change(struct world *world) CO_FN;
void world_end(struct world *world) CO_FN;
extern struct tally change_tallies[];
extern const unsigned change_tally_count;

/* storm.c --------------------------------------------------------------------------------------------------------- */

/* Somewhere below the disk requests fail for a while. */
struct error *storm(struct world *world) CO_FN;
/* The same with these rules, from @place on down, for @requests requests and a snapshot; 0: from all loops. */
struct error *storm_at(struct world *world, const struct part *place, const struct blkdebug_inject_error_options *rules,
                       size_t count, unsigned requests) CO_FN;

/* witness.c: what qemu-img says of the images when all is closed. ------------------------------------------------ */

void ask_witness(struct world *world) CO_FN;
/* Runs a command that must succeed. */
__attribute__((format(printf, 1, 2))) void run_program(const char *format, ...);

#endif
