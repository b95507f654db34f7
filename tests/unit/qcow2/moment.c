#include "tests/unit/qcow2/moment.h"

#include "tests/unit/qcow2/images.h"

static void apply_part(struct trial *trial, uint64_t offset, const uint8_t *data, size_t bytes)
{
    trial->undo = realloc(trial->undo, (trial->undo_count + 1) * sizeof(struct undo));
    expect(trial->undo && bytes <= SECTOR);
    struct undo *undo = &trial->undo[trial->undo_count++];
    undo->offset = offset;
    memcpy(undo->sector, trial->moment->bytes + offset, SECTOR);
    memcpy(trial->moment->bytes + offset, data, bytes);
    if (offset < RECORDER_DATA)
        trial->length = max_u64(trial->length, offset + bytes);
}

void trial_end(struct trial *trial)
{
    while (trial->undo_count > 0) {
        const struct undo *undo = &trial->undo[--trial->undo_count];
        memcpy(trial->moment->bytes + undo->offset, undo->sector, SECTOR);
    }
    free(trial->undo);
}

static void apply_write(struct trial *trial, const struct recorded_write *write, bool whole)
{
    for (size_t at = 0; at < write->bytes;) {
        size_t bytes = min_u64(SECTOR - (write->offset + at) % SECTOR, write->bytes - at);
        if (whole || random_below(2))
            apply_part(trial, write->offset + at, write->data + at, bytes);
        at += bytes;
    }
}

/* @after: how many writes began later. */
static bool survives(enum survivors survivors, size_t after, bool *whole)
{
    *whole = survivors != SOME_SECTORS;
    switch (survivors) {
    case NONE:
        return false;
    case SOME_WRITES:
        return random_below(2);
    case ONLY_LATE:
        return after < 6 || random_below(8) == 0;
    default:
        return true;
    }
}

void trial_begin(struct trial *trial, enum survivors survivors)
{
    const struct moment *moment = trial->moment;
    size_t begun = 0;
    for (size_t i = 0; i < moment->time; i++)
        begun += recorder.events[i].kind == WRITE_BEGIN;
    for (size_t i = 0; i < moment->time; i++) {
        const struct event *event = &recorder.events[i];
        bool whole;
        if (event->kind == WRITE_BEGIN && !moment->stable[event->id] &&
            survives(survivors, begun - 1 - event->id, &whole))
            apply_write(trial, &recorder.writes[event->id], whole);
    }
}

struct moment moment_begin(const char *path)
{
    struct moment moment = { .bytes = calloc(1, 2 * RECORDER_BYTES_MAX + SECTOR) };
    expect(moment.bytes);
    moment.length = recorder_read_file(path, moment.bytes);
    if (recorder.data_path[0])
        recorder_read_file(recorder.data_path, moment.bytes + RECORDER_DATA);
    moment.stable = calloc(recorder.write_count, sizeof(bool));
    moment.begun_flush = calloc(recorder.flush_count, sizeof(size_t));
    expect(moment.stable && moment.begun_flush);
    return moment;
}

void moment_end(struct moment *moment)
{
    free(moment->bytes);
    free(moment->stable);
    free(moment->begun_flush);
}

/* Writes to the same disk that had ended when this flush began are on it for good. */
static void flush_ended(struct moment *moment, size_t flush, bool data)
{
    for (size_t i = 0; i < moment->time; i++) {
        const struct event *event = &recorder.events[i];
        if (event->kind != WRITE_END || moment->stable[event->id] || i > moment->begun_flush[flush])
            continue;
        const struct recorded_write *write = &recorder.writes[event->id];
        if ((write->offset >= RECORDER_DATA) != data)
            continue;
        memcpy(moment->bytes + write->offset, write->data, write->bytes);
        if (!data)
            moment->length = max_u64(moment->length, write->offset + write->bytes);
        moment->stable[event->id] = true;
    }
}

void moment_advance(struct moment *moment)
{
    const struct event *event = &recorder.events[moment->time++];
    if (event->kind == FLUSH_BEGIN)
        moment->begun_flush[event->id] = moment->time - 1;
    else if (event->kind == FLUSH_END)
        flush_ended(moment, event->id, event->data);
}
