/* moment - what may be on the recorded disk when the power goes
 *
 *     struct moment moment = moment_begin(path);           the disk as it was before the first recorded event
 *     for (...; moment_advance(&moment)) {                 one more event has happened
 *         struct trial trial = { .moment = &moment };
 *         trial_begin(&trial, SOME_WRITES);                moment.bytes is one of the disks that may be left,
 *         look at moment.bytes, trial.length bytes
 *         trial_end(&trial);                               and this puts it back
 *     }
 *
 * Writes that had ended when a flush began that has ended are on the disk for sure. Of the others any may be, in whole
 * or in sectors. */
#ifndef CAIRN_TESTS_QCOW2_MOMENT_H
#define CAIRN_TESTS_QCOW2_MOMENT_H

#include "tests/unit/qcow2/recorder.h"

#define SECTOR 512

/* The disk at some moment: what is on it for sure, and which writes may be. */
struct moment {
    size_t time;    /* events that have happened */
    uint8_t *bytes; /* of both disks: the second one at RECORDER_DATA */
    size_t length;  /* of the first */
    bool *stable;   /* writes that are in @bytes already */
    size_t *begun_flush;
};

/* A disk that may be left is made by applying writes to @bytes; this takes them back. */
struct undo {
    uint64_t offset;
    uint8_t sector[SECTOR];
};

struct trial {
    struct moment *moment;
    struct undo *undo;
    size_t undo_count;
    size_t length;
};

enum survivors {
    NONE,
    ALL,
    SOME_WRITES,
    SOME_SECTORS,
    ONLY_LATE, /* of the writes that may be lost, the last few */
    SURVIVORS_COUNT,
};

struct moment moment_begin(const char *path);
void moment_end(struct moment *moment);

/* The next event of the recorder happens. */
void moment_advance(struct moment *moment);

/* Applies those of the writes that may be lost that survive. */
void trial_begin(struct trial *trial, enum survivors survivors);
void trial_end(struct trial *trial);

#endif
