#include "clients/c/frame.h"

#include "blockcore/base/memory.h"

#include <ctype.h>
#include <string.h>

#define ROOM_MIN ((size_t)64 * 1024)

void frame_init(struct frame *frame)
{
    *frame = (struct frame){ 0 };
}

void frame_fini(struct frame *frame)
{
    free(frame->data);
}

char *frame_reserve(struct frame *frame, size_t max, size_t *bytes)
{
    if (frame->used >= max)
        return NULL;
    if (frame->capacity - frame->used < ROOM_MIN) {
        frame->capacity = frame->used * 2 + ROOM_MIN;
        frame->data = xrealloc_array(frame->data, frame->capacity, 1);
    }
    *bytes = frame->capacity - frame->used;
    return frame->data + frame->used;
}

void frame_received(struct frame *frame, size_t bytes)
{
    frame->used += bytes;
}

/* Returns true when @byte closes the outermost bracket. */
static bool scan_byte(struct frame *frame, char byte)
{
    if (frame->in_string) {
        if (frame->escaped)
            frame->escaped = false;
        else if (byte == '\\')
            frame->escaped = true;
        else if (byte == '"')
            frame->in_string = false;
        return false;
    }
    if (byte == '"')
        frame->in_string = true;
    else if (byte == '{' || byte == '[')
        frame->depth++;
    else if (byte == '}' || byte == ']')
        return --frame->depth == 0;
    return false;
}

struct error *frame_complete(struct frame *frame, size_t *bytes)
{
    *bytes = 0;
    while (frame->scanned < frame->used) {
        char byte = frame->data[frame->scanned++];

        if (frame->depth == 0 && byte != '{') {
            if (isspace((unsigned char)byte))
                continue;
            return error_new("the server does not speak QMP");
        }
        if (scan_byte(frame, byte)) {
            *bytes = frame->scanned;
            return NULL;
        }
    }
    return NULL;
}

void frame_take(struct frame *frame, size_t bytes)
{
    frame->used -= bytes;
    frame->scanned -= bytes;
    memmove(frame->data, frame->data + bytes, frame->used);
}
