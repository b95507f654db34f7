/* Changes of the graph: parts are put on top while nobody looks, or under those who use the disk. */
#include "tests/unit/property/world.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/range.h"
#include "blockcore/graph/rearrange.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/snapshot.h"
#include "blockcore/objects/object.h"

enum kind_of_change {
    CHANGE_OVERLAY_BELOW,
    CHANGE_WINDOW,
    CHANGE_NESTED,
    CHANGE_OPEN_AGAIN,
    CHANGE_OVERLAY,
    CHANGE_FILTER_INSERT,
    CHANGE_FILTER_REMOVE,
    CHANGE_REPLACE,
    CHANGE_REOPEN,
    CHANGE_RESIZE,
    CHANGE_SNAPSHOT_CREATE,
    CHANGE_SNAPSHOT_DELETE,
    CHANGE_SNAPSHOT_APPLY,
    CHANGE_KEEP_MOMENT,
    CHANGE_VERIFY,
    CHANGE_STORM,
    CHANGE_REMOTE,
    CHANGE_KINDS,
};

struct tally change_tallies[CHANGE_KINDS] = {
    [CHANGE_OVERLAY_BELOW] = { .name = "overlay of another length" },
    [CHANGE_WINDOW] = { .name = "window" },
    [CHANGE_NESTED] = { .name = "image in the disk" },
    [CHANGE_OPEN_AGAIN] = { .name = "all closed and opened again" },
    [CHANGE_OVERLAY] = { .name = "blockdev-snapshot" },
    [CHANGE_FILTER_INSERT] = { .name = "filter inserted" },
    [CHANGE_FILTER_REMOVE] = { .name = "filter removed" },
    [CHANGE_REPLACE] = { .name = "node replaced" },
    [CHANGE_REOPEN] = { .name = "reopened" },
    [CHANGE_RESIZE] = { .name = "resized" },
    [CHANGE_SNAPSHOT_CREATE] = { .name = "internal snapshot" },
    [CHANGE_SNAPSHOT_DELETE] = { .name = "internal snapshot deleted" },
    [CHANGE_SNAPSHOT_APPLY] = { .name = "internal snapshot applied" },
    [CHANGE_KEEP_MOMENT] = { .name = "copy-before-write" },
    [CHANGE_VERIFY] = { .name = "blkverify" },
    [CHANGE_STORM] = { .name = "errors for a while" },
    [CHANGE_REMOTE] = { .name = "served to ourselves" },
};
const unsigned change_tally_count = CHANGE_KINDS;

/* Counts; true when there is no error. */
static bool went_well(enum kind_of_change kind, struct error *err)
{
    if (err) {
        tell("   refused: %s", error_message(err));
        change_tallies[kind].refused++;
    } else {
        change_tallies[kind].done++;
    }
    bool well = !err;
    error_free(err);
    return well;
}

/* The disk -------------------------------------------------------------------------------------------------------- */

static void disk_open_for(struct world *world, unsigned perm)
{
    expect_success(part_open(world->top));
    expect_success(handle_open(node_find(world->top->name), "disk", perm, PERM_ALL, &world->disk));
    expect_int(node_length(handle_node(world->disk)), world->length);
}

static void disk_open(struct world *world)
{
    disk_open_for(world, chance(world, 2) ? READ_WRITE_RESIZE : READ_WRITE);
}

void set_length(struct world *world, uint64_t length)
{
    if (length < world->length)
        memset(world->bytes + length, 0, world->length - length);
    world->length = length;
}

static void forget_moment(struct world *world)
{
    if (!world->before_write)
        return;
    handle_close(world->snapshot);
    expect_success(blockdev_del("snapshot"));
    world->snapshot = NULL;
    world->before_write = NULL;
    free(steal(&world->kept.bytes));
}

static void disk_close(struct world *world)
{
    forget_moment(world);
    handle_close(world->disk);
    world->disk = NULL;
}

/* @part stands on the disk; the model is as the disk is then. */
static void put_on_top(struct world *world, struct part *part)
{
    world->top = part;
    disk_open(world);
}

/* While nobody uses the disk -------------------------------------------------------------------------------------- */

/* Shorter, as long, or longer than what it stands on. */
static void overlay_below(struct world *world)
{
    uint64_t length = chance(world, 2) ? world->length : 1 + choose(world, min_u64(2 * world->length, LENGTH_MAX));
    struct part *image = make_image(world, NULL, length, true);
    if (!went_well(CHANGE_OVERLAY_BELOW, image ? NULL : error_new("no image")))
        return;
    tell("overlay %s of %llu bytes on %s of %llu", image->name, (unsigned long long)align_up(length, 512),
         world->top->name, (unsigned long long)world->length);
    disk_close(world);
    image->backing = world->top;
    set_length(world, align_up(length, 512));
    put_on_top(world, image);
}

static void window(struct world *world)
{
    struct part *raw = part_new(world, PART_RAW);
    raw->below[0] = world->top;
    raw->windowed = world->length > 8192 && chance(world, 2);
    if (raw->windowed) {
        uint64_t unit = chance(world, 2) ? 512 : 1;
        raw->offset = align_down(choose(world, world->length / 3), unit);
        raw->size = align_down(world->length - raw->offset - choose(world, world->length / 3), unit);
        snprintf(raw->about, sizeof(raw->about), "raw, %llu+%llu", (unsigned long long)raw->offset,
                 (unsigned long long)raw->size);
        memmove(world->bytes, world->bytes + raw->offset, raw->size);
        memset(world->bytes + raw->size, 0, LENGTH_MAX - raw->size);
        world->length = raw->size;
    }
    tell("raw %s (%s) on %s", raw->name, raw->about, world->top->name);
    disk_close(world);
    put_on_top(world, raw);
    went_well(CHANGE_WINDOW, NULL);
}

/* Can it become as long as an image needs it? */
static bool can_grow(const struct part *part)
{
    if (part_is_filter(part))
        return part->kind != PART_COPY_ON_READ && part->kind != PART_COMPRESS && part->kind != PART_VERIFY &&
               can_grow(part->below[0]);
    return part->kind == PART_FILE || (part->kind == PART_RAW && !part->windowed && can_grow(part->below[0]));
}

static void server_path(const struct world *world, char *path, size_t bytes)
{
    snprintf(path, bytes, "%s/nbd.sock", world->dir);
}

/* The disk is exported, and used through the server from now on. */
static void remote(struct world *world)
{
    struct part *client = part_new(world, PART_REMOTE);
    client->below[0] = world->top;
    server_path(world, client->path, sizeof(client->path));
    tell("%s is served to %s", world->top->name, client->name);
    disk_close(world);
    put_on_top(world, client);
    went_well(CHANGE_REMOTE, NULL);
}

/* An image that lies in the disk, whose content is lost. */
static void nested(struct world *world)
{
    if (!can_grow(world->top))
        return;
    disk_close(world);
    struct part *below = world->top;
    expect_success(part_open(below));
    uint64_t length = align_up(1 + choose(world, LENGTH_MAX / 2), 512);
    struct part *image = make_image(world, below, length, false);
    expect(image);
    tell("image %s in %s", image->name, below->name);
    world->grown = true;
    memset(world->bytes, 0, LENGTH_MAX);
    world->length = length;
    put_on_top(world, image);
    went_well(CHANGE_NESTED, NULL);
}

/* A copy-before-write filter cannot be opened again on a disk that has become longer than its target. */
bool can_open_again(const struct world *world)
{
    for (unsigned i = 0; i < world->count && world->grown; i++)
        if (world->parts[i].kind == PART_COPY_BEFORE_WRITE)
            return false;
    return true;
}

static void open_again(struct world *world)
{
    if (!can_open_again(world))
        return;
    tell("all closed and opened again");
    disk_close(world);
    close_nodes(world);
    disk_open(world);
    went_well(CHANGE_OPEN_AGAIN, NULL);
}

void come_back(struct world *world)
{
    tell("   all closed and opened again");
    disk_close(world);
    close_nodes(world);
    expect_success(part_open(world->top));
    uint64_t length = node_length(node_find(world->top->name));
    if (length != world->length) {
        expect_int(length, world->length_tried);
        set_length(world, length);
    }
    disk_open(world);
    unsigned char *data = xcalloc(1, LENGTH_MAX);
    expect_int(get_bytes(world->disk, 0, data, world->length), 0);
    expect_was(world, data);
    free(world->bytes);
    world->bytes = data;
    memset(world->unsure, 0, LENGTH_MAX);
}

/* While it is in use ---------------------------------------------------------------------------------------------- */

/* What a change needs, since it runs in the middle of requests. */
static struct plan {
    struct part *part;
    struct part *other;
    struct blockdev_options options;
    uint64_t length;
    enum truncate_mode mode;
    const char *name;
    struct error *err;
} plan;

static struct error *run_plan(struct world *world, void (*change)(struct world *world))
{
    plan.err = NULL;
    if (chance(world, 2)) {
        tell("   with requests from all loops:");
        with_requests(world, world->length, change);
    } else {
        change(world);
    }
    return steal(&plan.err);
}

/* All who stand on @from stand on @to. */
static void move_edges(struct world *world, struct part *from, struct part *to)
{
    for (unsigned i = 0; i < world->count; i++) {
        struct part *part = &world->parts[i];
        if (part == to)
            continue;
        for (int j = 0; j < BELOW_MAX; j++)
            if (part->below[j] == from)
                part->below[j] = to;
        if (part->backing == from)
            part->backing = to;
    }
    if (world->top == from)
        world->top = to;
}

static void run_overlay(struct world *world)
{
    plan.err = node_snapshot(handle_node(world->disk), node_find(plan.part->name));
}

static void overlay(struct world *world)
{
    if (world->length % 512 != 0)
        return;
    struct part *image = make_image(world, NULL, world->length, true);
    if (!image)
        return;
    expect_success(part_open(image));
    plan.part = image;
    tell("snapshot: %s on %s", image->name, world->top->name);
    if (!went_well(CHANGE_OVERLAY, run_plan(world, run_overlay))) {
        expect_success(blockdev_del(image->name));
        return;
    }
    image->backing = world->top;
    world->top = image;
}

struct part *choose_part(struct world *world)
{
    struct part *part = world->top;
    for (uint64_t steps = choose(world, 6); steps > 0; steps--) {
        struct part *next = part->backing && chance(world, 2) ? part->backing : part->below[0];
        part = next ? next : part;
    }
    return part;
}

static void run_insert(struct world *world)
{
    (void)world;
    plan.err = filter_insert(node_find(plan.other->name), node_find(plan.part->name), NULL);
}

static void filter_in(struct world *world)
{
    struct part *place = choose_part(world);
    struct part *filter = make_filter(world, place);
    tell("insert %s (%s) on %s", filter->name, filter->about, place->name);
    struct error *err = part_open(filter);
    plan.part = filter;
    plan.other = place;
    if (!err)
        err = run_plan(world, run_insert);
    if (went_well(CHANGE_FILTER_INSERT, err))
        move_edges(world, place, filter);
    else if (node_find(filter->name))
        expect_success(blockdev_del(filter->name));
}

static void run_remove(struct world *world)
{
    (void)world;
    plan.err = filter_remove(node_find(plan.part->name), NULL);
}

static void filter_out(struct world *world)
{
    struct part *filter = choose_part(world);
    for (int tries = 0; !part_is_filter(filter); filter = choose_part(world))
        if (++tries == 10)
            return;
    if (filter == world->before_write)
        forget_moment(world);
    tell("remove %s", filter->name);
    plan.part = filter;
    if (!went_well(CHANGE_FILTER_REMOVE, run_plan(world, run_remove)))
        return;
    move_edges(world, filter, filter->below[0]);
    expect_success(blockdev_del(filter->name));
}

static void run_replace(struct world *world)
{
    (void)world;
    plan.err = node_replace(node_find(plan.other->name), node_find(plan.part->name), NULL);
}

static void replace(struct world *world)
{
    struct part *place = choose_part(world);
    struct part *raw = part_new(world, PART_RAW);
    raw->below[0] = place;
    tell("replace %s by raw %s on it", place->name, raw->name);
    struct error *err = part_open(raw);
    plan.part = raw;
    plan.other = place;
    if (!err)
        err = run_plan(world, run_replace);
    if (went_well(CHANGE_REPLACE, err))
        move_edges(world, place, raw);
    else if (node_find(raw->name))
        expect_success(blockdev_del(raw->name));
}

static void run_reopen(struct world *world)
{
    (void)world;
    plan.err = blockdev_reopen(&plan.options, 1);
}

static void reopen(struct world *world)
{
    struct part *part = choose_part(world);
    struct part before = *part;
    part->small_caches = chance(world, 2);
    if (part->kind != PART_NULL && part->kind != PART_NULL_AIO)
        part->detect_zeroes = (enum blockdev_detect_zeroes_options)choose(world, 3);
    plan.options = part_options(part);
    tell("reopen %s", part->name);
    if (!went_well(CHANGE_REOPEN, run_plan(world, run_reopen)))
        *part = before;
}

struct part *image_below(struct world *world, enum part_kind kind)
{
    struct part *part = world->top;
    while (part_is_filter(part))
        part = part->below[0];
    return part->kind == kind ? part : NULL;
}

static void run_resize(struct world *world)
{
    int ret = handle_resize(world->disk, plan.length, plan.mode);
    plan.err = ret < 0 ? error_errno(-ret, "resize") : NULL;
}

static void resize(struct world *world)
{
    uint64_t length = 1 + choose(world, min_u64(2 * world->length, LENGTH_MAX - 512));
    if (!(child_permissions(handle_edge(world->disk)) & PERM_RESIZE))
        return;
    if (!chance(world, 4))
        length = align_down(length, 512) + 512;
    tell("resize %llu to %llu", (unsigned long long)world->length, (unsigned long long)length);
    bool preallocates = length > world->length && chance(world, 2);
    plan.length = length;
    plan.mode = TRUNCATE_SPARSE;
    if (preallocates)
        plan.mode = chance(world, 2) ? TRUNCATE_FALLOC : TRUNCATE_FULL;
    if (chance(world, 2)) {
        tell("   with requests from all loops to what stays");
        with_requests(world, min_u64(length, world->length), run_resize);
    } else {
        run_resize(world);
    }
    if (!went_well(CHANGE_RESIZE, steal(&plan.err)))
        length = world->length;
    else if (image_below(world, PART_LUKS)) /* whole sectors */
        length = align_up(length, 512);
    expect_int(node_length(handle_node(world->disk)), length);
    world->grown = world->grown || length > world->length;
    set_length(world, length);
}

/* Internal snapshots ---------------------------------------------------------------------------------------------- */

static void run_snapshot_create(struct world *world)
{
    plan.err = node_snapshot_create(handle_node(world->disk), plan.name);
}

static void run_snapshot_delete(struct world *world)
{
    struct arena arena;
    struct snapshot_info deleted;
    arena_init(&arena, SIZE_MAX);
    plan.err = node_snapshot_delete(handle_node(world->disk), NULL, plan.name, &arena, &deleted);
    arena_fini(&arena);
}

/* False: a cluster has as many users as can be counted. */
static bool apply(struct world *world, const char *name)
{
    disk_close(world);
    struct error *err = node_snapshot_apply(node_find(world->top->name), NULL, name);
    if (err)
        tell("   %s", error_message(err));
    bool applied = !err;
    error_free(err);
    disk_open(world);
    return applied;
}

/* A snapshot of a moment in which requests were on their way: each byte has a value that it had at some time. Looking
 * takes another snapshot to come back to. */
static void look_at_moment(struct world *world, struct moment *moment)
{
    static const char now[] = "now";
    struct error *err = node_snapshot_create(handle_node(world->disk), now);
    bool looked = !err && apply(world, moment->name);
    error_free(err);
    if (looked) {
        expect_int(get_bytes(world->disk, 0, moment->bytes, world->length), 0);
        expect_was(world, moment->bytes);
        if (!apply(world, now))
            memcpy(world->bytes, moment->bytes, LENGTH_MAX);
        check_content(world);
    }
    plan.name = now;
    run_snapshot_delete(world);
    error_free(steal(&plan.err));
    if (looked)
        return;
    plan.name = moment->name;
    run_snapshot_delete(world);
    expect_success(steal(&plan.err));
    moment->image = NULL;
    free(steal(&moment->bytes));
}

static void snapshot_make(struct world *world)
{
    struct moment *moment = &world->moments[choose(world, MOMENTS_MAX)];
    struct part *image = image_below(world, PART_QCOW2);
    if (!image || moment->image)
        return;
    bool busy = image == world->top && chance(world, 2);
    snprintf(moment->name, sizeof(moment->name), "s%llu", (unsigned long long)choose(world, 1000000));
    tell("internal snapshot %s%s", moment->name, busy ? ", with requests from all loops" : "");
    plan.name = moment->name;
    if (busy) {
        watch_begin(world);
        with_requests(world, world->length, run_snapshot_create);
        world->watched = false;
    } else {
        run_snapshot_create(world);
    }
    if (!went_well(CHANGE_SNAPSHOT_CREATE, steal(&plan.err)))
        return;
    moment->image = image;
    moment->length = world->length;
    moment->bytes = xmalloc(LENGTH_MAX);
    memcpy(moment->bytes, world->bytes, LENGTH_MAX);
    if (busy)
        look_at_moment(world, moment);
}

/* One that the disk has. */
static struct moment *choose_moment(struct world *world)
{
    uint64_t first = choose(world, MOMENTS_MAX);
    for (unsigned i = 0; i < MOMENTS_MAX; i++) {
        struct moment *moment = &world->moments[(first + i) % MOMENTS_MAX];
        if (moment->image && moment->image == image_below(world, PART_QCOW2))
            return moment;
    }
    return NULL;
}

static void snapshot_drop(struct world *world)
{
    struct moment *moment = choose_moment(world);
    if (!moment)
        return;
    tell("delete internal snapshot %s", moment->name);
    plan.name = moment->name;
    if (!went_well(CHANGE_SNAPSHOT_DELETE, run_plan(world, run_snapshot_delete)))
        return;
    moment->image = NULL;
    free(steal(&moment->bytes));
}

/* Nobody else may use the image then. */
static void snapshot_apply(struct world *world)
{
    struct moment *moment = choose_moment(world);
    if (!moment || moment->image != world->top)
        return;
    tell("apply internal snapshot %s", moment->name);
    disk_close(world);
    struct error *err = node_snapshot_apply(node_find(world->top->name), NULL, moment->name);
    if (went_well(CHANGE_SNAPSHOT_APPLY, err)) {
        memcpy(world->bytes, moment->bytes, LENGTH_MAX);
        world->length = moment->length;
    }
    disk_open(world);
}

/* copy-before-write ----------------------------------------------------------------------------------------------- */

static void check_kept(struct world *world)
{
    if (!world->snapshot)
        return;
    unsigned char *data = xmalloc(world->kept.length);
    expect_int(node_length(handle_node(world->snapshot)), world->kept.length);
    expect_int(get_bytes(world->snapshot, 0, data, world->kept.length), 0);
    expect(memcmp(data, world->kept.bytes, world->kept.length) == 0);
    free(data);
}

static void keep_moment(struct world *world)
{
    if (world->before_write)
        return;
    struct part *target =
        chance(world, 2) ? make_image(world, NULL, world->length, false) : make_file_part(world, world->length);
    if (!target)
        return;
    struct part *filter = part_new(world, PART_COPY_BEFORE_WRITE);
    filter->below[0] = world->top;
    filter->below[1] = target;
    tell("keep the moment: %s on %s", filter->name, world->top->name);
    handle_close(world->disk); /* who may resize the disk is not welcome */
    disk_open_for(world, READ_WRITE);
    struct error *err = part_open(filter);
    plan.part = filter;
    plan.other = world->top;
    if (!err) {
        run_insert(world);
        err = steal(&plan.err);
    }
    if (!went_well(CHANGE_KEEP_MOMENT, err)) {
        if (node_find(filter->name))
            expect_success(blockdev_del(filter->name));
        return;
    }
    move_edges(world, world->top, filter);
    world->before_write = filter;
    world->kept.length = world->length;
    world->kept.bytes = xmalloc(LENGTH_MAX);
    memcpy(world->kept.bytes, world->bytes, LENGTH_MAX);
    add((struct blockdev_options){ .driver = BLOCKDEV_DRIVER_SNAPSHOT_ACCESS,
                                   .node_name = "snapshot",
                                   .u.snapshot_access = { .file = by_name(filter->name) } });
    world->snapshot = open_handle("snapshot", READ);
}

/* blkverify ------------------------------------------------------------------------------------------------------- */

/* Together with a copy of the disk. */
static void verify(struct world *world)
{
    struct part *copy = make_file_part(world, world->length);
    struct part *filter = part_new(world, PART_VERIFY);
    struct handle *handle = open_handle(copy->name, READ_WRITE);
    expect_int(put_bytes(handle, 0, world->bytes, world->length), 0);
    handle_close(handle);
    filter->below[0] = world->top;
    filter->below[1] = copy;
    tell("verify: %s on %s", filter->name, world->top->name);
    disk_close(world);
    put_on_top(world, filter);
    went_well(CHANGE_VERIFY, NULL);
}

static void errors(struct world *world)
{
    went_well(CHANGE_STORM, storm(world));
}

/* All of it ------------------------------------------------------------------------------------------------------- */

void do_change(struct world *world)
{
    static void (*const changes[CHANGE_KINDS])(struct world * world) = {
        [CHANGE_OVERLAY_BELOW] = overlay_below,
        [CHANGE_WINDOW] = window,
        [CHANGE_NESTED] = nested,
        [CHANGE_OPEN_AGAIN] = open_again,
        [CHANGE_OVERLAY] = overlay,
        [CHANGE_FILTER_INSERT] = filter_in,
        [CHANGE_FILTER_REMOVE] = filter_out,
        [CHANGE_REPLACE] = replace,
        [CHANGE_REOPEN] = reopen,
        [CHANGE_RESIZE] = resize,
        [CHANGE_SNAPSHOT_CREATE] = snapshot_make,
        [CHANGE_SNAPSHOT_DELETE] = snapshot_drop,
        [CHANGE_SNAPSHOT_APPLY] = snapshot_apply,
        [CHANGE_KEEP_MOMENT] = keep_moment,
        [CHANGE_VERIFY] = verify,
        [CHANGE_STORM] = errors,
        [CHANGE_REMOTE] = remote,
    };
    static const enum kind_of_change often[] = { CHANGE_FILTER_REMOVE,   CHANGE_SNAPSHOT_CREATE,
                                                 CHANGE_SNAPSHOT_DELETE, CHANGE_SNAPSHOT_APPLY,
                                                 CHANGE_RESIZE,          CHANGE_NESTED,
                                                 CHANGE_STORM,           CHANGE_STORM };
    uint64_t kind = choose(world, CHANGE_KINDS + ARRAY_SIZE(often));
    if (world->count + 4 < PARTS_MAX)
        changes[kind < CHANGE_KINDS ? kind : often[kind - CHANGE_KINDS]](world);
    check_kept(world);
}

static void add_objects(void)
{
    struct throttle_limits limits = { 0 };
    expect_success(object_add(&(struct object_options){
        .qom_type = OBJECT_TYPE_SECRET, .id = "sec0", .u.secret = { .data = "opensesame" } }));
    expect_success(object_add(&(struct object_options){
        .qom_type = OBJECT_TYPE_THROTTLE_GROUP, .id = "limits0", .u.throttle_group = { .limits = &limits } }));
}

static void start_server(const struct world *world)
{
    char path[96];
    server_path(world, path, sizeof(path));
    struct socket_address address = { .type = SOCKET_ADDRESS_TYPE_UNIX, .u.unix_ = { .path = path } };
    expect_success(nbd_server_start(&(struct nbd_server_options){ .addr = &address }));
}

void world_prepare(struct world *world, const char *dir)
{
    snprintf(world->dir, sizeof(world->dir), "%s", dir);
    world->bytes = xcalloc(1, LENGTH_MAX);
    world->unsure = xcalloc(LENGTH_MAX, sizeof(bool));
    world->values = xcalloc(LENGTH_MAX, sizeof(struct byte_values));
    world->seen = xcalloc(LENGTH_MAX, sizeof(struct byte_values));
    world->random = world->seed * 1000003 + 17;
    add_objects();
    start_server(world);
}

void world_begin(struct world *world, struct part *bottom)
{
    world->top = bottom;
    expect_success(part_open(world->top));
    world->length = node_length(node_find(world->top->name));
    if (world->top->kind == PART_NULL || world->top->kind == PART_NULL_AIO) {
        struct part *image = NULL;
        while (!image)
            image = make_image(world, NULL, world->length, true);
        image->backing = world->top;
        world->top = image;
        world->length = align_up(world->length, 512);
    }
    disk_open(world);
    if (world->top->kind == PART_LUKS) /* what was never written is noise */
        expect_int(get_bytes(world->disk, 0, world->bytes, world->length), 0);
}

void world_end(struct world *world)
{
    disk_close(world);
    close_nodes(world);
    expect_success(nbd_server_stop(NULL));
    object_del_all();
    ask_witness(world);
    if (world->loop)
        close(world->loop);
    for (unsigned i = 0; i < MOMENTS_MAX; i++)
        free(world->moments[i].bytes);
    free(world->bytes);
    free(world->unsure);
    free(world->values);
    free(world->seen);
}
