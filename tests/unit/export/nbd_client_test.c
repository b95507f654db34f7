/* The NBD server as a client library sees it that we did not write: libnbd. */
#include "blockcore/runtime/pool.h"
#include "tests/unit/export/nbd_test.h"

#include <libnbd.h>

#define CLIENTS 4

/* libnbd's calls block: each of these runs on a thread of the pool, while the test waits. */
struct on_thread {
    struct pool_domain *domain;
    void (*body)(struct nbd_handle *nbd);
    unsigned number;
};

static _Thread_local unsigned client_number;

static void check(int ret, const char *what)
{
    if (ret < 0) {
        print_error("%s: %s\n", what, nbd_get_error());
        abort();
    }
}

#define must(call) check((int)(call), #call)

static int run_body(void *arg)
{
    struct on_thread *client = arg;
    char path[128];
    client_number = client->number;
    snprintf(path, sizeof(path), "%s/nbd.sock", test_dir);
    struct nbd_handle *nbd = nbd_create();
    expect(nbd);
    must(nbd_set_export_name(nbd, "disk"));
    must(nbd_set_full_info(nbd, true));
    must(nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION));
    must(nbd_add_meta_context(nbd, "qemu:allocation-depth"));
    must(nbd_connect_unix(nbd, path));
    client->body(nbd);
    must(nbd_shutdown(nbd, 0));
    nbd_close(nbd);
    return 0;
}

static void run_one(void *arg)
{
    struct on_thread *client = arg;
    co_blocking(client->domain, run_body, client);
}

static void run_clients(unsigned count, void (*body)(struct nbd_handle *nbd))
{
    struct on_thread clients[CLIENTS];
    struct pool_domain *domain = pool_domain_create("clients", CLIENTS);
    struct co_group group;
    co_group_init(&group);
    for (unsigned i = 0; i < count; i++) {
        clients[i] = (struct on_thread){ .domain = domain, .body = body, .number = i };
        co_group_start(&group, "client", run_one, &clients[i]);
    }
    co_group_join(&group);
    pool_domain_unref(domain);
}

/* What the export is ---------------------------------------------------------------------------------------------- */

static void look_around(struct nbd_handle *nbd)
{
    expect_int(nbd_get_size(nbd), 3 * MIB + 1);
    expect_int(nbd_is_read_only(nbd), 0);
    expect_int(nbd_can_flush(nbd), 1);
    expect_int(nbd_can_fua(nbd), 1);
    expect_int(nbd_can_trim(nbd), 1);
    expect_int(nbd_can_zero(nbd), 1);
    expect_int(nbd_can_fast_zero(nbd), 1);
    expect_int(nbd_can_cache(nbd), 1);
    expect_int(nbd_can_df(nbd), 1);
    expect_int(nbd_can_multi_conn(nbd), 1);
    expect_int(nbd_get_structured_replies_negotiated(nbd), 1);
    expect_int(nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM), 1);
    expect_int(nbd_get_block_size(nbd, LIBNBD_SIZE_PREFERRED), 4096);
    expect_int(nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM), 32 * MIB);
    expect_int(nbd_can_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION), 1);
    expect_int(nbd_can_meta_context(nbd, "qemu:allocation-depth"), 1);
    char *description = nbd_get_export_description(nbd);
    char *name = nbd_get_canonical_export_name(nbd);
    expect_text(description, "a disk of the test");
    expect_text(name, "disk");
    free(description);
    free(name);
}

NBD_TEST(a_client_learns_what_the_export_is)
{
    make_file("disk.img", 3 * MIB + 1);
    add(file_options("disk", in_dir("disk.img")));
    struct block_export_options options = export_options("disk", "disk");
    options.u.nbd.description = "a disk of the test";
    options.u.nbd.has_allocation_depth = options.u.nbd.allocation_depth = true;
    expect_success(export_add(&options));
    run_clients(1, look_around);
}

/* Commands -------------------------------------------------------------------------------------------------------- */

static bool all_bytes_are(const char *data, size_t bytes, char value)
{
    for (size_t i = 0; i < bytes; i++) {
        if (data[i] != value)
            return false;
    }
    return true;
}

static void use_every_command(struct nbd_handle *nbd)
{
    static char data[MIB];
    memset(data, 'w', sizeof(data));
    must(nbd_pwrite(nbd, data, sizeof(data), 1000, 0));
    must(nbd_pwrite(nbd, data, 512, 0, LIBNBD_CMD_FLAG_FUA));
    must(nbd_flush(nbd, 0));
    must(nbd_cache(nbd, MIB, 0, 0));
    must(nbd_zero(nbd, 65536, 100000, LIBNBD_CMD_FLAG_NO_HOLE | LIBNBD_CMD_FLAG_FUA));
    must(nbd_zero(nbd, 65536, 200000, 0));
    must(nbd_trim(nbd, 65536, 300000, 0));
    must(nbd_pread(nbd, data, sizeof(data), 1000, 0));
    expect(all_bytes_are(data, 99000, 'w'));
    expect(all_bytes_are(data + 99000, 65536, 0));
    expect(all_bytes_are(data + 199000, 65536, 0));
    expect(data[198999] == 'w' && data[264536] == 'w');
}

NBD_TEST(every_command_does_what_it_says)
{
    export_file("disk", 4 * MIB);
    run_clients(1, use_every_command);
}

/* The status of blocks ----------------------------------------------------------------------------------------------
 */

/* Answers as text, in KiB: "0+64:3" is hole and zero. One text per context. */
struct status_text {
    char allocation[65536];
    char depth[65536];
    uint64_t covered; /* by the answer about allocation */
    unsigned extents;
};

static int collect_status(void *user_data, const char *context, uint64_t offset, uint32_t *entries, size_t count,
                          int *error)
{
    struct status_text *text = user_data;
    bool allocation = strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0;
    char *at = allocation ? text->allocation : text->depth;
    char *end = at + sizeof(text->depth);
    expect_int(*error, 0);
    *at = '\0';
    for (size_t i = 0; i < count; i += 2) {
        at += snprintf(at, (size_t)(end - at), "%s%llu+%u:%u", i ? " " : "", (unsigned long long)offset / KIB,
                       entries[i] / KIB, entries[i + 1]);
        offset += entries[i];
        if (allocation) {
            text->covered += entries[i];
            text->extents++;
        }
    }
    return 0;
}

static void ask_status(struct nbd_handle *nbd, uint64_t offset, uint64_t bytes, uint32_t flags,
                       struct status_text *text)
{
    memset(text, 0, sizeof(*text));
    nbd_extent_callback callback = { .callback = collect_status, .user_data = text };
    must(nbd_block_status(nbd, bytes, offset, callback, flags));
}

static void ask_about_holes(struct nbd_handle *nbd)
{
    static char data[65536];
    static struct status_text text;
    ask_status(nbd, 0, MIB, 0, &text);
    expect_text(text.allocation, "0+1024:3");
    expect_text(text.depth, "0+1024:1");
    memset(data, 'w', sizeof(data));
    must(nbd_pwrite(nbd, data, 65536, 65536, 0));
    ask_status(nbd, 0, MIB, 0, &text);
    expect_text(text.allocation, "0+64:3 64+64:0 128+896:3");
    ask_status(nbd, 65536 + 32768, 65536, 0, &text);
    expect_text(text.allocation, "96+32:0 128+32:3");
    ask_status(nbd, 0, MIB, LIBNBD_CMD_FLAG_REQ_ONE, &text);
    expect_text(text.allocation, "0+64:3");
    expect_text(text.depth, "0+1024:1");
}

NBD_TEST(status_tells_holes_and_data)
{
    export_file("disk", MIB);
    run_clients(1, ask_about_holes);
}

static void ask_about_layers(struct nbd_handle *nbd)
{
    static char data[65536];
    static struct status_text text;
    memset(data, 'w', sizeof(data));
    must(nbd_pwrite(nbd, data, 65536, 131072, 0));
    ask_status(nbd, 0, MIB, 0, &text);
    expect_text(text.depth, "0+128:2 128+64:1 192+832:2");
    expect_text(text.allocation, "0+128:3 128+64:0 192+832:3");
}

/* disk (qcow2) --backing--> base, which is empty: a file without a backing file of its own decides all of its bytes. */
NBD_TEST(status_tells_which_layer_decides)
{
    make_file("disk.img", 0);
    make_file("base.img", MIB);
    add(file_options("file", in_dir("disk.img")));
    add(file_options("base", in_dir("base.img")));
    struct blockdev_create_options image = { .driver = BLOCKDEV_DRIVER_QCOW2 };
    image.u.qcow2.file = by_name("file");
    image.u.qcow2.size = MIB;
    expect_success(driver_find("qcow2")->create(&image));
    struct blockdev_options disk = { .driver = BLOCKDEV_DRIVER_QCOW2, .node_name = "disk" };
    struct blockdev_ref_or_null backing = { .kind = BLOCKDEV_REF_OR_NULL_KIND_REFERENCE, .u.reference = "base" };
    disk.u.qcow2.file = by_name("file");
    disk.u.qcow2.backing = &backing;
    add(disk);
    export_as("disk", "disk");
    run_clients(1, ask_about_layers);
}

/* More extents than are asked for at a time below, in one answer; and many that look alike are one. */
static void ask_about_fragments(struct nbd_handle *nbd)
{
    static char data[4096];
    static struct status_text text;
    memset(data, 'w', sizeof(data));
    for (uint64_t offset = 0; offset < 24 * MIB; offset += 8192)
        must(nbd_pwrite(nbd, data, sizeof(data), offset, 0));
    ask_status(nbd, 0, 24 * MIB, 0, &text);
    expect_int(text.covered, 24 * MIB);
    expect_int(text.extents, 24 * MIB / 4096);
    ask_status(nbd, 8 * MIB, MIB, LIBNBD_CMD_FLAG_REQ_ONE, &text);
    expect_text(text.allocation, "8192+4:0");
}

NBD_TEST(status_of_a_fragmented_file_comes_in_one_answer)
{
    export_file("disk", 24 * MIB);
    run_clients(1, ask_about_fragments);
}

/* Several connections ------------------------------------------------------------------------------------------------
 */

#define AREA (256 * KIB) /* of each client */

static void random_step(struct nbd_handle *nbd, uint64_t *random, char *model, char *scratch)
{
    uint64_t area = (uint64_t)client_number * AREA;
    uint64_t offset = next_random(random) % AREA;
    uint64_t bytes = 1 + next_random(random) % min_u64(AREA - offset, 70000);
    switch (next_random(random) % 8) {
    case 0:
        must(nbd_zero(nbd, bytes, area + offset, 0));
        memset(model + offset, 0, bytes);
        break;
    case 1:
        must(nbd_flush(nbd, 0));
        break;
    case 2:
    case 3:
    case 4:
        memset(model + offset, (int)next_random(random), bytes);
        must(nbd_pwrite(nbd, model + offset, bytes, area + offset, 0));
        break;
    default:
        must(nbd_pread(nbd, scratch, bytes, area + offset, 0));
        expect(memcmp(scratch, model + offset, bytes) == 0);
    }
}

static void random_io(struct nbd_handle *nbd)
{
    char *model = xcalloc(1, AREA);
    char *scratch = xmalloc(AREA);
    uint64_t random = client_number;
    for (int i = 0; i < 1000; i++)
        random_step(nbd, &random, model, scratch);
    must(nbd_pread(nbd, scratch, AREA, (uint64_t)client_number * AREA, 0));
    expect(memcmp(scratch, model, AREA) == 0);
    free(model);
    free(scratch);
}

NBD_TEST(random_io_of_several_clients_agrees_with_a_model)
{
    export_file("disk", CLIENTS * AREA);
    run_clients(CLIENTS, random_io);
}

static void write_all(struct nbd_handle *nbd)
{
    static const char data[512] = "what one connection writes";
    must(nbd_pwrite(nbd, data, sizeof(data), 0, 0));
}

static void flush_and_read_all(struct nbd_handle *nbd)
{
    char data[512];
    must(nbd_flush(nbd, 0));
    must(nbd_pread(nbd, data, sizeof(data), 0, 0));
    expect_text(data, "what one connection writes");
}

NBD_TEST(connections_see_each_others_writes)
{
    export_file("disk", MIB);
    run_clients(1, write_all);
    run_clients(CLIENTS, flush_and_read_all);
}

/* Pipelined by libnbd: 64 requests in flight, answered in any order. */
static void pipeline(struct nbd_handle *nbd)
{
    static char buffers[CLIENTS][64][4096];
    int64_t cookies[64];
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 64; i++) {
            uint64_t offset = ((uint64_t)client_number * 64 + (uint64_t)i) * 4096;
            char *buffer = buffers[client_number][i];
            memset(buffer, round ^ i, 4096);
            cookies[i] = round % 2 ? nbd_aio_pread(nbd, buffer, 4096, offset, NBD_NULL_COMPLETION, 0)
                                   : nbd_aio_pwrite(nbd, buffer, 4096, offset, NBD_NULL_COMPLETION, 0);
            must(cookies[i]);
        }
        for (int i = 0; i < 64; i++) {
            int done;
            while ((done = nbd_aio_command_completed(nbd, (uint64_t)cookies[i])) == 0)
                must(nbd_poll(nbd, -1));
            must(done);
            if (round % 2)
                expect(all_bytes_are(buffers[client_number][i], 4096, (char)((round - 1) ^ i)));
        }
    }
}

NBD_TEST(pipelined_requests_of_several_clients_keep_their_data)
{
    export_file("disk", CLIENTS * 64 * 4096);
    run_clients(CLIENTS, pipeline);
}

/* Coming and going ------------------------------------------------------------------------------------------------- */

static _Atomic bool enough;

static bool connect_if_there(struct nbd_handle *nbd, const char *path)
{
    return nbd_set_export_name(nbd, "disk") == 0 && nbd_connect_unix(nbd, path) == 0;
}

/* Works with the export as long as it is there, and comes back. Errors are part of the game, wrong data are not. */
static int keep_coming_back(void *arg)
{
    static const char expected[4096];
    char path[128];
    char data[4096];
    unsigned *sessions = arg;
    snprintf(path, sizeof(path), "%s/nbd.sock", test_dir);
    while (!enough) {
        struct nbd_handle *nbd = nbd_create();
        expect(nbd);
        if (connect_if_there(nbd, path)) {
            ++*sessions;
            while (nbd_pread(nbd, data, sizeof(data), 4096, 0) == 0 && nbd_pwrite(nbd, data, 4096, 8192, 0) == 0)
                expect(memcmp(data, expected, sizeof(data)) == 0);
        }
        nbd_close(nbd);
    }
    return 0;
}

struct comer {
    struct pool_domain *domain;
    unsigned sessions;
};

static void run_comer(void *arg)
{
    struct comer *comer = arg;
    co_blocking(comer->domain, keep_coming_back, &comer->sessions);
}

NBD_TEST(exports_and_servers_come_and_go_under_load)
{
    struct comer comers[CLIENTS];
    struct pool_domain *domain = pool_domain_create("clients", CLIENTS);
    struct co_group group;
    enough = false;
    make_file("disk.img", MIB);
    add(file_options("disk", in_dir("disk.img")));
    co_group_init(&group);
    for (unsigned i = 0; i < CLIENTS; i++) {
        comers[i] = (struct comer){ .domain = domain };
        co_group_start(&group, "comer", run_comer, &comers[i]);
    }
    for (int i = 0; i < 40; i++) {
        export_as("disk", "disk");
        co_sleep_ms(5);
        if (i % 4 == 3)
            restart_server_with(0, 10);
        else
            expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_HARD));
    }
    enough = true;
    expect_success(nbd_server_stop(NULL));
    co_group_join(&group);
    for (unsigned i = 0; i < CLIENTS; i++)
        expect(comers[i].sessions > 0);
    pool_domain_unref(domain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_learns_what_the_export_is),
        cmocka_unit_test(every_command_does_what_it_says),
        cmocka_unit_test(status_tells_holes_and_data),
        cmocka_unit_test(status_tells_which_layer_decides),
        cmocka_unit_test(status_of_a_fragmented_file_comes_in_one_answer),
        cmocka_unit_test(random_io_of_several_clients_agrees_with_a_model),
        cmocka_unit_test(connections_see_each_others_writes),
        cmocka_unit_test(pipelined_requests_of_several_clients_keep_their_data),
        cmocka_unit_test(exports_and_servers_come_and_go_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
