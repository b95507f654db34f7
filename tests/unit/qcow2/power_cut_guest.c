/* What the guest does, and what its sectors may show afterwards. */
#include "tests/unit/qcow2/power_cut.h"

#include "blockcore/base/arena.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/write_ahead.h"
#include "blockcore/io/snapshot.h"

struct guest guest;

/* Contents: a number all over the sector; 0 is zeroes. Each write to each sector has its own. */
void fill_sector(uint8_t *sector, uint64_t value)
{
    for (size_t at = 0; at < SECTOR; at += sizeof(value))
        memcpy(sector + at, &value, sizeof(value));
}

bool sector_value(const uint8_t *sector, uint64_t *value)
{
    memcpy(value, sector, sizeof(*value));
    return memcmp(sector, sector + sizeof(*value), SECTOR - sizeof(*value)) == 0;
}

void add_version(size_t sector, uint64_t value, size_t begin, size_t end)
{
    struct history *history = &guest.history[sector];
    history->versions = realloc(history->versions, (history->count + 1) * sizeof(struct version));
    expect(history->versions);
    history->versions[history->count++] = (struct version){ value, begin, end };
}

/* The request that made the last versions has ended. */
static void end_versions(size_t first, size_t count)
{
    size_t end = recorder_tick();
    for (size_t i = first; i < first + count; i++)
        guest.history[i].versions[guest.history[i].count - 1].end = end;
}

/* Requests ---------------------------------------------------------------------------------------------------- */

static bool claim(size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        if (guest.busy[i])
            return false;
    }
    memset(guest.busy + first, true, count);
    return true;
}

static void claim_some(size_t *first, size_t *count)
{
    do {
        co_yield ();
        *first = random_below(guest.sectors);
        size_t most = random_below(3) ? 12 : 200;
        *count = 1 + random_below(min_u64(most, guest.sectors - *first));
        if (random_below(3) == 0) {
            *first = *first / 8 * 8;
            *count = min_u64((*count + 7) / 8 * 8, guest.sectors - *first);
        }
    } while (!claim(*first, *count));
}

static struct range bytes_of(size_t first, size_t count)
{
    return range_make(first * SECTOR, count * SECTOR);
}

static void write_some(size_t first, size_t count, unsigned flags)
{
    uint8_t *data = malloc(count * SECTOR);
    expect(data);
    uint64_t stamp = ++guest.writes << 20;
    for (size_t i = 0; i < count; i++)
        fill_sector(data + i * SECTOR, stamp | (first + i));
    size_t begin = recorder_tick();
    for (size_t i = 0; i < count; i++)
        add_version(first + i, stamp | (first + i), begin, SIZE_MAX);
    if (flags & REQ_COMPRESSED)
        expect_int(put_compressed(guest.disk, first * SECTOR, data, count * SECTOR), 0);
    else
        expect_int(put_bytes(guest.disk, first * SECTOR, data, count * SECTOR), 0);
    end_versions(first, count);
    free(data);
}

/* One to four whole clusters. */
static void write_packed(void)
{
    size_t cluster = guest.scene->packed_sectors;
    size_t first;
    size_t count;
    do {
        co_yield ();
        first = random_below(guest.sectors / cluster) * cluster;
        count = min_u64((1 + random_below(4)) * cluster, guest.sectors - first);
    } while (!claim(first, count));
    write_some(first, count, REQ_COMPRESSED);
    memset(guest.busy + first, false, count);
}

static void zero_some(size_t first, size_t count)
{
    size_t begin = recorder_tick();
    for (size_t i = first; i < first + count; i++)
        add_version(i, 0, begin, SIZE_MAX);
    expect_int(handle_pwrite_zeroes(guest.disk, bytes_of(first, count), random_below(2) ? REQ_MAY_UNMAP : 0), 0);
    end_versions(first, count);
}

/* A discarded sector is zero afterwards, or what it was. Until it is over it may be either. */
static void discard_some(size_t first, size_t count)
{
    size_t begin = recorder_tick();
    expect_int(handle_pdiscard(guest.disk, bytes_of(first, count)), 0);
    size_t end = recorder_tick();
    for (size_t i = first; i < first + count; i++) {
        uint8_t sector[SECTOR];
        uint64_t value;
        expect_int(get_bytes(guest.disk, i * SECTOR, sector, SECTOR), 0);
        expect(sector_value(sector, &value));
        uint64_t before = guest.history[i].versions[guest.history[i].count - 1].value;
        expect(value == 0 || value == before);
        if (value != before)
            add_version(i, 0, begin, end);
    }
}

static void read_some(size_t first, size_t count)
{
    uint8_t *data = malloc(count * SECTOR);
    expect(data);
    expect_int(get_bytes(guest.disk, first * SECTOR, data, count * SECTOR), 0);
    for (size_t i = 0; i < count; i++) {
        uint64_t value;
        expect(sector_value(data + i * SECTOR, &value));
        const struct history *history = &guest.history[first + i];
        expect(value == history->versions[history->count - 1].value);
    }
    free(data);
}

void flush(void)
{
    size_t begin = recorder_tick();
    expect_int(handle_flush(guest.disk), 0);
    guest.flushes = realloc(guest.flushes, (guest.flush_count + 1) * sizeof(struct guest_flush));
    expect(guest.flushes);
    guest.flushes[guest.flush_count++] = (struct guest_flush){ begin, recorder_tick() };
}

static void worker(void *unused)
{
    (void)unused;
    while (guest.steps_left-- > 0) {
        size_t first;
        size_t count;
        uint64_t what = random_below(20);
        if (what == 0) {
            flush();
            continue;
        }
        if (guest.scene->packed_sectors && what % 2) {
            write_packed();
            continue;
        }
        claim_some(&first, &count);
        if (what < 4)
            zero_some(first, count);
        else if (what < 6)
            discard_some(first, count);
        else if (what < 9)
            read_some(first, count);
        else
            write_some(first, count, 0);
        memset(guest.busy + first, false, count);
    }
}

void work(int steps)
{
    struct co_group group;
    co_group_init(&group);
    guest.steps_left = steps;
    for (int i = 0; i < WORKERS; i++)
        co_group_start(&group, "worker", worker, NULL);
    co_group_join(&group);
}

/* To half its length, which drops what is behind, and to more than it ever had. */
void resize(void)
{
    size_t half = guest.sectors / 2;
    size_t begin = recorder_tick();
    expect_int(handle_truncate(guest.disk, half * SECTOR, TRUNCATE_SPARSE), 0);
    expect_int(handle_truncate(guest.disk, guest.scene->grown_sectors * SECTOR, TRUNCATE_SPARSE), 0);
    size_t end = recorder_tick();
    guest.resize_begin = begin;
    guest.resize_end = end;
    for (size_t i = half; i < guest.scene->grown_sectors; i++)
        add_version(i, 0, i < guest.sectors ? begin : 0, i < guest.sectors ? end : 0);
    guest.sectors = guest.scene->grown_sectors;
}

/* Snapshots --------------------------------------------------------------------------------------------------- */

void look_at(size_t begin, size_t end)
{
    for (size_t i = begin; i <= end && i < EVENTS_MAX; i++)
        guest.looks[i] = true;
    guest.look_count += end - begin;
}

static void snapshot_create(const char *name)
{
    struct picture *picture = &guest.pictures[guest.picture_count++];
    picture->name = name;
    for (size_t i = 0; i < guest.sectors; i++)
        picture->values[i] = guest.history[i].versions[guest.history[i].count - 1].value;
    size_t begin = recorder_tick();
    expect_success(node_snapshot_create(node_find("disk"), name));
    look_at(begin, recorder_tick());
}

static void snapshot_delete(const char *name)
{
    struct arena arena;
    struct snapshot_info deleted;
    arena_init(&arena, SIZE_MAX);
    size_t begin = recorder_tick();
    expect_success(node_snapshot_delete(node_find("disk"), NULL, name, &arena, &deleted));
    look_at(begin, recorder_tick());
    arena_fini(&arena);
}

static void snapshot_apply(const struct picture *picture)
{
    handle_close(guest.disk);
    size_t begin = recorder_tick();
    expect_success(node_snapshot_apply(node_find("disk"), NULL, picture->name));
    size_t end = recorder_tick();
    look_at(begin, end);
    for (size_t i = 0; i < guest.sectors; i++)
        add_version(i, picture->values[i], begin, end);
    guest.disk = open_handle("disk", READ_WRITE_RESIZE);
}

void make_and_drop_snapshots(void)
{
    snapshot_create("a");
    work(60);
    snapshot_create("b");
    work(60);
    snapshot_delete("a");
    work(60);
    snapshot_apply(&guest.pictures[1]);
    work(60);
    snapshot_delete("b");
    work(20);
}

/* Dirty bitmaps ----------------------------------------------------------------------------------------------- */

void change_bitmaps(void)
{
    struct dirty_bitmap *bitmap;
    expect_success(dirty_bitmap_create(node_find("disk"), "new", 4096, &bitmap));
    dirty_bitmap_set_persistent(bitmap, true);
    size_t begin = recorder_tick();
    expect_success(qcow2_driver.bitmap_keep(node_find("disk")));
    node_cool_regions(node_find("disk"), false);
    expect_success(qcow2_driver.bitmap_remove(node_find("disk"), "gone"));
    dirty_bitmap_destroy(dirty_bitmap_find(node_find("disk"), "gone"));
    look_at(begin, recorder_tick());
    work(60);
}

/* What may be there ------------------------------------------------------------------------------------------- */

/* When the last of the guest's flushes began that have ended. */
size_t last_flush(size_t time)
{
    size_t flushed = 0;
    for (size_t i = 0; i < guest.flush_count; i++) {
        if (guest.flushes[i].end < time)
            flushed = max_u64(flushed, guest.flushes[i].begin);
    }
    return flushed;
}

bool is_allowed(size_t sector, uint64_t value, size_t flushed, size_t time)
{
    const struct history *history = &guest.history[sector];
    size_t base = 0;
    for (size_t i = 0; i < history->count; i++) {
        if (history->versions[i].end == 0 || history->versions[i].end < flushed)
            base = i;
    }
    for (size_t i = base; i < history->count; i++) {
        if (history->versions[i].value == value && (i == base || history->versions[i].begin < time))
            return true;
    }
    return false;
}
