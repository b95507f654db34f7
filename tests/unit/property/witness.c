/* qemu-img as a witness: it checks the images and reads the whole graph, as far as it has its drivers. */
#include "tests/unit/property/world.h"

#include "schema/codec/text.h"

#include <stdarg.h>

#define SECRET_OPTION "--object secret,id=sec0,data=opensesame"

static char output[65536];

void run_program(const char *format, ...)
{
    static char line[65536];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof(line) - 6, format, args);
    va_end(args);
    expect(length < (int)sizeof(line) - 6);
    strcat(line, " 2>&1");
    FILE *pipe = popen(line, "re");
    expect(pipe);
    output[fread(output, 1, sizeof(output) - 1, pipe)] = '\0';
    int status = pclose(pipe);
    if (status == 0)
        return;
    print_error("%s\n%s\n", line, output);
    abort();
}

static void append_part(struct text *text, const struct part *part);

static void append_member(struct text *text, const char *name, const struct part *part)
{
    text_append_string(text, ",\"");
    text_append_string(text, name);
    text_append_string(text, "\":");
    append_part(text, part);
}

static void append_image(struct text *text, const struct part *part)
{
    append_member(text, "file", part->below[0]);
    if (part->below[1])
        append_member(text, "data-file", part->below[1]);
    if (part->encrypted)
        text_append_string(text, ",\"encrypt\":{\"format\":\"luks\",\"key-secret\":\"sec0\"}");
    if (part->backing)
        append_member(text, "backing", part->backing);
    else
        text_append_string(text, ",\"backing\":null");
}

/* What a part looks like to QEMU. Filters and clients of ours are what they stand on, a quorum is its first child. */
static void append_part(struct text *text, const struct part *part)
{
    char members[200] = "";
    if (part_is_filter(part) || part->kind == PART_QUORUM || part->kind == PART_REMOTE) {
        append_part(text, part->below[0]);
        return;
    }
    if (part->kind == PART_FILE || part->kind == PART_HOST_DEVICE)
        snprintf(members, sizeof(members), "{\"driver\":\"%s\",\"filename\":\"%s\"",
                 part->kind == PART_FILE ? "file" : "host_device", part->path);
    else if (part->kind == PART_NULL || part->kind == PART_NULL_AIO)
        snprintf(members, sizeof(members), "{\"driver\":\"null-co\",\"read-zeroes\":true,\"size\":%llu",
                 (unsigned long long)part->size);
    else if (part->kind == PART_LUKS)
        snprintf(members, sizeof(members), "{\"driver\":\"luks\",\"key-secret\":\"sec0\"");
    else if (part->kind == PART_QCOW2)
        snprintf(members, sizeof(members), "{\"driver\":\"qcow2\"");
    else if (part->windowed)
        snprintf(members, sizeof(members), "{\"driver\":\"raw\",\"offset\":%llu,\"size\":%llu",
                 (unsigned long long)part->offset, (unsigned long long)part->size);
    else
        snprintf(members, sizeof(members), "{\"driver\":\"raw\"");
    text_append_string(text, members);
    if (part->kind == PART_QCOW2)
        append_image(text, part);
    else if (part->kind == PART_RAW || part->kind == PART_LUKS)
        append_member(text, "file", part->below[0]);
    text_append_string(text, "}");
}

/* QEMU counts in sectors. */
static bool witness_can_read(const struct part *part)
{
    if (!part)
        return true;
    if (part->windowed && (part->offset % 512 != 0 || part->size % 512 != 0))
        return false;
    for (int i = 0; i < BELOW_MAX; i++)
        if (!witness_can_read(part->below[i]))
            return false;
    return witness_can_read(part->backing);
}

/* After errors on the way: clusters may be lost, and entries may lack the flag that a cluster is theirs alone, since
 * what could not be undone stays undone. Both are harmless; no other line may say ERROR. */
#define HARMLESS_ONLY " 2>&1 | grep -E '^ERROR|^qemu-img:' | grep -vq 'OFLAG_COPIED .* refcount=1$'"

static void check_images(struct world *world)
{
    for (unsigned i = 0; i < world->count; i++) {
        struct part image = world->parts[i];
        if (image.kind != PART_QCOW2 || !image.made || !witness_can_read(image.below[0]))
            continue;
        CLEANUP(text_fini) struct text text = { 0 };
        image.backing = NULL;
        append_part(&text, &image);
        run_program("%sqemu-img check -q " SECRET_OPTION " 'json:%.*s'%s", world->leaks ? "! " : "", (int)text.length,
                    text.data, world->leaks ? HARMLESS_ONLY : "");
    }
}

/* dd reads all; compare and convert would believe what QEMU says of raw nodes on overlays, which is wrong. */
void ask_witness(struct world *world)
{
    check_images(world);
    if (!witness_can_read(world->top))
        return;
    char path[96];
    snprintf(path, sizeof(path), "%s/read", world->dir);
    CLEANUP(text_fini) struct text text = { 0 };
    append_part(&text, world->top);
    run_program("qemu-img dd " SECRET_OPTION " -O raw bs=65536 of=%s if='json:%.*s'", path, (int)text.length,
                text.data);
    unsigned char *bytes = xmalloc(world->length);
    FILE *file = fopen(path, "re");
    expect(file && fread(bytes, 1, world->length, file) == world->length && fclose(file) == 0);
    if (memcmp(bytes, world->bytes, world->length) != 0) {
        print_error("qemu-img reads something else\n");
        abort();
    }
    free(bytes);
}
