/* What the codec costs, in CPU time of this thread: decoding the arguments of a nested blockdev-add (qcow2 over file
 * with cache options, 241 bytes of JSON) from the tree that the parser made, and encoding a large reply.
 *
 * Prints one line per measurement: name, microseconds. The best of several rounds counts, since whatever else the
 * machine does only adds. */
#include "blockcore/base/error.h"
#include "schema/cairn_descriptors.h"
#include "schema/cairn_types.h"
#include "schema/codec/decode.h"
#include "schema/codec/encode.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS 15
#define DECODES_PER_ROUND 100000
#define ENCODES_PER_ROUND 20
#define NODES 10000
#define ARENA_BYTES_MAX (1 << 20)

static const char arguments[] =
    "{\"driver\":\"qcow2\",\"node-name\":\"disk-01\",\"read-only\":false,\"discard\":\"unmap\","
    "\"cache\":{\"direct\":true,\"no-flush\":false},\"file\":{\"driver\":\"file\","
    "\"filename\":\"/srv/images/disk-0001.qcow2\",\"aio\":\"io_uring\","
    "\"cache\":{\"direct\":true,\"no-flush\":false}}}";

static double cpu_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void give_up(struct error *err)
{
    fprintf(stderr, "codec_bench: %s\n", error_message(err));
    exit(EXIT_FAILURE);
}

static void decode_often(const json_t *tree)
{
    for (int i = 0; i < DECODES_PER_ROUND; i++) {
        struct arena arena;
        void *value;
        arena_init(&arena, ARENA_BYTES_MAX);
        struct error *err =
            decode_value(&blockdev_options_descriptor, tree, DECODE_JSON, "arguments", &arena, &value, NULL);
        if (err)
            give_up(err);
        arena_fini(&arena);
    }
}

static double best_decode(const json_t *tree)
{
    double best = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        double begin = cpu_seconds();
        decode_often(tree);
        double taken = (cpu_seconds() - begin) / DECODES_PER_ROUND * 1e6;
        best = taken < best ? taken : best;
    }
    return best;
}

static void encode_often(const void *nodes, struct text *text)
{
    for (int i = 0; i < ENCODES_PER_ROUND; i++) {
        text->length = 0;
        struct error *err = encode_value(text, &block_device_info_list_descriptor, nodes, 0, 0);
        if (err)
            give_up(err);
    }
}

static double best_encode(const struct block_device_info_list *nodes, struct text *text)
{
    double best = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        double begin = cpu_seconds();
        encode_often(nodes, text);
        double taken = (cpu_seconds() - begin) / ENCODES_PER_ROUND / NODES * 1e6;
        best = taken < best ? taken : best;
    }
    return best;
}

int main(void)
{
    struct blockdev_cache_info cache = { .writeback = true };
    struct image_info image = { .filename = "/srv/images/disk-0001.qcow2", .format = "qcow2", .virtual_size = 1 << 30 };
    struct block_device_info *infos = calloc(NODES, sizeof(*infos));
    CLEANUP(text_fini) struct text text = { 0 };
    json_t *tree = json_loads(arguments, 0, NULL);
    if (!infos || !tree)
        return EXIT_FAILURE;
    for (size_t i = 0; i < NODES; i++)
        infos[i] = (struct block_device_info){
            .file = "disk", .node_name = "disk0001", .drv = "qcow2", .image = &image, .cache = &cache
        };
    struct block_device_info_list nodes = { .items = infos, .count = NODES };

    printf("decode_blockdev_add_%zu_bytes_us %.3f\n", sizeof(arguments) - 1, best_decode(tree));
    double encoding = best_encode(&nodes, &text);
    printf("encode_one_of_%d_nodes_us %.3f (%zu bytes each)\n", NODES, encoding, text.length / NODES);
    json_decref(tree);
    free(infos);
    return EXIT_SUCCESS;
}
