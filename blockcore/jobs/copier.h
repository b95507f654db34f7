/* copier - the engine under mirror, backup, commit and stream
 *
 *     left   [1 1 1 . . 1 1 1 1 1 1 1 . . 1]     granules that have still to be looked at
 *             '---'     '-----------'             a run of them is planned: its bits are taken off, then the job
 *                       copy zero skip            says what of it is data, known to be zero, or none of its business
 *                       '--'                      a piece: what one request copies, at most a chunk
 *
 * What a piece is copied from and to, and how, is the job's: two children of a filter, usually. The copier decides what
 * is copied next, how many pieces of which size are on their way, how fast, and what becomes of errors. It runs on an
 * I/O loop of its own; a job is a coroutine on the control thread that runs it again and again.
 *
 * Bits may be added only while it does not run. A piece that failed and is to be tried again gets its bits back. So
 * whoever takes bits out of a dirty bitmap and adds them here before the copier runs loses no write: what is planned is
 * asked, and what is copied is read, after the bits were taken; a later write sets the bitmap's bits again. */
#ifndef CAIRN_JOBS_COPIER_H
#define CAIRN_JOBS_COPIER_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/base/range.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct copier;
struct extents;
struct handle;
struct job;

struct copier_piece {
    struct range range;
    bool zero;         /* reads as zero, for sure */
    bool write_failed; /* for copy to say: not the source but the target failed */
};

/* What becomes of a piece that failed. */
enum copier_answer {
    COPIER_TRY_AGAIN, /* after a while */
    COPIER_LEAVE_OUT, /* as if it had been copied */
    COPIER_GIVE_UP,   /* copier_run() fails with this error; the piece is left */
};

/* On the copier's loop; @arg is the maker's. */
struct copier_ops {
    /* The begin of @range, as much as can be told: extents with EXTENT_ALLOCATED are to be copied, those with
     * EXTENT_ZERO besides are zeroes, others need nothing. Inside of the handle. 0 or -errno. */
    int (*plan)(void *arg, struct range range, struct extents *plan) CO_FN;
    /* Inside of the handle. 0 or -errno. */
    int (*copy)(void *arg, struct copier_piece *piece) CO_FN;
    /* @ret: -errno of plan or copy. May await. Not called any more once the copier has been abandoned. */
    enum copier_answer (*failed)(void *arg, const struct copier_piece *piece, int ret) CO_FN;
};

struct copier_options {
    const struct copier_ops *ops;
    void *arg;
    struct job *job;       /* its progress; NULL: nobody's */
    struct handle *handle; /* entered for each plan and each piece */
    uint64_t bytes;        /* of all that may be copied */
    uint64_t granule;      /* a power of two */
    uint64_t chunk_max;    /* longest piece of data; 0: a default */
    uint64_t bytes_max;    /* of data on their way; 0: a default */
    unsigned pieces_max;   /* on their way; 0: a default */
    uint64_t speed;        /* bytes of data per second; 0: no limit */
};

/* Nothing is left at first. */
struct error *copier_create(const struct copier_options *options, struct copier **out) CONTROL_FN MUST_CHECK;

/* @released(@arg) is called on the control thread when the last piece has ended: perhaps later, when pieces were
 * abandoned; perhaps before this returns. NULL copier: at once. */
void copier_destroy(struct copier *copier, void (*released)(void *arg), void *arg) CONTROL_FN;

/* While it does not run: what touches @range is left to be copied. */
void copier_add(struct copier *copier, struct range range) CONTROL_FN;
/* While it does not run: the next run from @offset on that is left; empty when there is none. */
struct range copier_next_left(const struct copier *copier, uint64_t offset) CONTROL_FN;
/* Bytes of all granules that are left; any thread, exact only while it does not run. */
uint64_t copier_left(const struct copier *copier);

/* Copies until nothing is left (0), a piece gave up (-errno), or it is interrupted (-EINTR). No piece is on its way
 * afterwards, unless it was abandoned. */
int copier_run(struct copier *copier) CO_FN CONTROL_FN;

/* copier_run() shall end, as soon as the pieces on their way have ended. If it does not run, the next run ends at once.
 */
void copier_interrupt(struct copier *copier) CONTROL_FN;
/* The same for good, and after a short grace pieces that hang are left behind; they do not tell of errors. */
void copier_abandon(struct copier *copier) CONTROL_FN;

/* Takes effect at once. */
void copier_set_speed(struct copier *copier, uint64_t bytes_per_second) CONTROL_FN;

#endif
