#include "tests/unit/qcow2/recorder.h"

#include "tests/unit/qcow2/images.h"

struct recorder recorder;

size_t recorder_read_file(const char *path, uint8_t *bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    expect(fd >= 0);
    ssize_t got = read(fd, bytes, RECORDER_BYTES_MAX);
    expect(got > 0 && got < (ssize_t)RECORDER_BYTES_MAX);
    close(fd);
    return (size_t)got;
}

void recorder_load(const char *path)
{
    recorder_free();
    recorder.bytes = calloc(2, RECORDER_BYTES_MAX);
    expect(recorder.bytes);
    recorder.length = recorder_read_file(path, recorder.bytes);
}

void recorder_load_data(const char *path)
{
    snprintf(recorder.data_path, sizeof(recorder.data_path), "%s", path);
    recorder.data_length = recorder_read_file(path, recorder.bytes + RECORDER_DATA);
}

void recorder_free(void)
{
    for (size_t i = 0; i < recorder.write_count; i++)
        free(recorder.writes[i].data);
    free(recorder.writes);
    free(recorder.events);
    free(recorder.bytes);
    recorder = (struct recorder){ 0 };
}

/* Where a node's bytes lie in memory. */
static uint64_t base_of(const struct node *node)
{
    return strcmp(node_name(node), RECORDER_DATA_NODE) == 0 ? RECORDER_DATA : 0;
}

static size_t *length_of(const struct node *node)
{
    return base_of(node) ? &recorder.data_length : &recorder.length;
}

static void note_event(enum event_kind kind, size_t id, bool data)
{
    if (recorder.event_count == recorder.event_capacity) {
        recorder.event_capacity = recorder.event_capacity ? 2 * recorder.event_capacity : 1024;
        recorder.events = realloc(recorder.events, recorder.event_capacity * sizeof(struct event));
        expect(recorder.events);
    }
    recorder.events[recorder.event_count++] = (struct event){ kind, id, data };
}

size_t recorder_tick(void)
{
    note_event(TICK, 0, false);
    return recorder.event_count - 1;
}

static size_t note_write(uint64_t offset, size_t bytes, uint8_t *data)
{
    if (recorder.write_count == recorder.write_capacity) {
        recorder.write_capacity = recorder.write_capacity ? 2 * recorder.write_capacity : 1024;
        recorder.writes = realloc(recorder.writes, recorder.write_capacity * sizeof(struct recorded_write));
        expect(recorder.writes);
    }
    recorder.writes[recorder.write_count] = (struct recorded_write){ offset, bytes, data };
    return recorder.write_count++;
}

static void take_a_while(void)
{
    for (uint64_t i = random_below(4); i > 0; i--)
        co_yield ();
}

static int record_write(struct node *node, struct range range, uint8_t *data)
{
    expect(range_inside(range, RECORDER_BYTES_MAX));
    uint64_t place = base_of(node) + range.offset;
    size_t id = note_write(place, (size_t)range.bytes, data);
    note_event(WRITE_BEGIN, id, false);
    take_a_while();
    memcpy(recorder.bytes + place, data, (size_t)range.bytes);
    *length_of(node) = (size_t)max_u64(*length_of(node), range_end(range));
    take_a_while();
    note_event(WRITE_END, id, false);
    node_grow_length(node, *length_of(node));
    return 0;
}

static struct error *recorder_open(struct node *node, const struct blockdev_options *options,
                                   const struct open_context *context)
{
    (void)options;
    (void)context;
    node_set_length(node, *length_of(node));
    return NULL;
}

static int recorder_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    (void)flags;
    take_a_while();
    iov_copy_from(iov, recorder.bytes + base_of(node) + range.offset);
    take_a_while();
    return 0;
}

static int recorder_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    (void)flags;
    uint8_t *data = malloc((size_t)range.bytes);
    expect(data);
    iov_copy_to(iov, data);
    return record_write(node, range, data);
}

static int recorder_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    (void)flags;
    uint8_t *data = calloc(1, (size_t)range.bytes);
    expect(data);
    return record_write(node, range, data);
}

/* What is discarded is gone at once, as far as anybody can tell: the worst that a disk may do. */
static int recorder_pdiscard(struct node *node, struct range range)
{
    return recorder_pwrite_zeroes(node, range, 0);
}

static int recorder_flush(struct node *node)
{
    size_t id = recorder.flush_count++;
    note_event(FLUSH_BEGIN, id, base_of(node) != 0);
    take_a_while();
    note_event(FLUSH_END, id, base_of(node) != 0);
    return 0;
}

/* The first disk has a fixed length, beyond which it grows only by being written. */
static int recorder_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode)
{
    (void)mode;
    if (!base_of(node))
        return -ENOTSUP;
    uint64_t length = recorder.data_length;
    if (bytes < length)
        (void)recorder_pwrite_zeroes(node, range_between(bytes, length), 0);
    recorder.data_length = (size_t)bytes;
    node_set_length(node, bytes);
    return 0;
}

const struct driver recorder_driver = {
    .name = "null-co",
    .kind = DRIVER_PROTOCOL,
    .open = recorder_open,
    .preadv = recorder_preadv,
    .pwritev = recorder_pwritev,
    .pwrite_zeroes = recorder_pwrite_zeroes,
    .pdiscard = recorder_pdiscard,
    .flush = recorder_flush,
    .truncate = recorder_truncate,
};
