/* Bytes of a server, whole and in pieces: both must be cut into the same messages. */
#include "clients/c/frame.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#define INPUT_MAX ((size_t)1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct cuts {
    size_t count;
    size_t last; /* where the last message ended */
    bool failed;
};

/* Takes all messages that are complete. */
static void cut(struct frame *frame, struct cuts *cuts)
{
    for (;;) {
        size_t bytes;
        struct error *err = frame_complete(frame, &bytes);
        cuts->failed = err != NULL;
        error_free(err);
        if (cuts->failed || bytes == 0)
            return;
        cuts->count++;
        cuts->last += bytes;
        frame_take(frame, bytes);
    }
}

static struct cuts feed(const uint8_t *data, size_t bytes, size_t piece)
{
    struct cuts cuts = { 0 };
    struct frame frame;

    frame_init(&frame);
    for (size_t done = 0; done < bytes && !cuts.failed;) {
        size_t room, now = bytes - done < piece ? bytes - done : piece;
        char *into = frame_reserve(&frame, INPUT_MAX, &room);
        if (!into)
            break;
        now = now < room ? now : room;
        memcpy(into, data + done, now);
        frame_received(&frame, now);
        done += now;
        cut(&frame, &cuts);
    }
    frame_fini(&frame);
    return cuts;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct cuts whole = feed(data, bytes, INPUT_MAX);
    struct cuts pieces = feed(data, bytes, bytes ? 1 + data[0] % 7 : 1);

    assert(whole.count == pieces.count && whole.last == pieces.last && whole.failed == pieces.failed);
    return 0;
}
