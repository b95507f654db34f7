/* recorder - a disk in memory that remembers in which order things happened, and a second one for data files
 *
 * It takes the place of the driver "null-co" in the power-cut test. Requests take a while (the coroutine gives way a
 * random number of times), so that those in flight overtake each other. What is recorded is when each write and each
 * flush began and ended: that decides what a disk with a volatile cache has kept when the power goes. */
#ifndef CAIRN_TESTS_QCOW2_RECORDER_H
#define CAIRN_TESTS_QCOW2_RECORDER_H

#include "blockcore/graph/driver.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORDER_BYTES_MAX (16u * 1024 * 1024) /* of each disk */
#define RECORDER_DATA RECORDER_BYTES_MAX       /* the second one lies behind the first in memory */
#define RECORDER_DATA_NODE "recorder-data"     /* the node with this name */

enum event_kind {
    WRITE_BEGIN,
    WRITE_END,
    FLUSH_BEGIN,
    FLUSH_END,
    TICK, /* something that the test wants to have a place in the order */
};

struct event {
    enum event_kind kind;
    size_t id; /* of the write, or of the flush */
    bool data; /* a flush of the second disk */
};

struct recorded_write {
    uint64_t offset; /* in memory */
    size_t bytes;
    uint8_t *data;
};

/* There is one. */
struct recorder {
    uint8_t *bytes; /* as they are now */
    size_t length;
    size_t data_length; /* of the second disk */
    char data_path[128];
    struct event *events;
    size_t event_count;
    size_t event_capacity;
    struct recorded_write *writes;
    size_t write_count;
    size_t write_capacity;
    size_t flush_count;
};

extern struct recorder recorder;
extern const struct driver recorder_driver;

/* Begins anew with the content of this file. */
void recorder_load(const char *path);
/* And with this one on the second disk. */
void recorder_load_data(const char *path);
void recorder_free(void);

/* The bytes of a file that is not empty, at most RECORDER_BYTES_MAX; returns how many. */
size_t recorder_read_file(const char *path, uint8_t *bytes);

/* Adds a TICK; returns its number among the events. */
size_t recorder_tick(void);

#endif
