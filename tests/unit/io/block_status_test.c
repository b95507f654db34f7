/* Block status against an oracle that knows each byte: random graphs of overlays, windows and filters. */
#include "tests/unit/support/mem_drivers.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/coroutine.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IN_GRAPH(name)                                                                                                 \
    static void name##_body(void *arg);                                                                                \
    static void name(void **state)                                                                                     \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        with_runtime(1, name##_body, NULL);                                                                            \
    }                                                                                                                  \
    static void name##_body(void *arg __attribute__((unused)))

#define EXTENTS_MANY 100000

static struct handle *reader_of(const char *node)
{
    struct handle *handle;
    expect_success(handle_open(node_find(node), "reader", PERM_CONSISTENT_READ, PERM_ALL, &handle));
    return handle;
}

static void ask(const char *node, uint64_t offset, uint64_t bytes, unsigned what, struct extents *extents, size_t max)
{
    struct handle *handle = reader_of(node);
    extents_init(extents, max);
    assert_int_equal(handle_block_status(handle, range_make(offset, bytes), what, NULL, false, extents), 0);
    handle_close(handle);
}

struct expected {
    uint64_t bytes;
    uint32_t flags;
    uint32_t depth;
    const char *file;
    uint64_t file_offset;
};

#define A EXTENT_ALLOCATED
#define P EXTENT_PRESENT
#define Z EXTENT_ZERO
#define D EXTENT_DATA
#define M EXTENT_MAPPED
#define C EXTENT_COMPRESSED

static void expect_extents(const char *node, unsigned what, const struct expected *expected, size_t count)
{
    struct extents extents;
    ask(node, 0, node_length(node_find(node)), what, &extents, EXTENTS_MANY);
    uint64_t offset = 0;
    assert_int_equal(extents.count, count);
    for (size_t i = 0; i < count; i++) {
        const struct extent *extent = &extents.items[i];
        assert_int_equal(extent->offset, offset);
        assert_int_equal(extent->bytes, expected[i].bytes);
        assert_int_equal(extent->flags, expected[i].flags);
        assert_int_equal(extent->depth, expected[i].depth);
        if (extent->flags & EXTENT_MAPPED) {
            assert_string_equal(node_name(extent->file.node), expected[i].file);
            assert_int_equal(extent->file_offset, expected[i].file_offset);
        }
        offset += extent->bytes;
    }
    extents_fini(&extents);
}

#define EXPECT_EXTENTS(node, what, ...)                                                                                \
    do {                                                                                                               \
        const struct expected expected[] = { __VA_ARGS__ };                                                            \
        expect_extents(node, what, expected, sizeof(expected) / sizeof(expected[0]));                                  \
    } while (0)

static void set_state(const char *cow, uint64_t offset, uint64_t bytes, enum cow_state state)
{
    memset(cow_of(cow)->state + offset, (int)state, bytes);
}

/*   overlay --backing--> base       |0    100  200   300  400
 *                        overlay:   | data|zero |absent ...
 *                        base:      | data ............|absent */
static void make_chain(const char *between)
{
    add_mem("base-data", 400);
    add_mem("overlay-data", 400);
    add_cow("base", 400, NULL, "base-data");
    if (between)
        add_filter(between, "base");
    add_cow("overlay", 400, between ? between : "base", "overlay-data");
    set_state("base", 0, 300, COW_DATA);
    set_state("overlay", 0, 100, COW_DATA);
    set_state("overlay", 100, 100, COW_ZERO);
}

static void expect_chain(const char *node)
{
    EXPECT_EXTENTS(node, ASK_ALL, { 100, A | P | D | M, 0, "overlay-data", 0 }, { 100, A | P | Z, 0, NULL, 0 },
                   { 100, A | P | D | M, 1, "base-data", 200 }, { 100, A | Z, 1, NULL, 0 });
}

IN_GRAPH(an_overlay_shows_its_backing_node)
{
    make_chain(NULL);
    expect_chain("overlay");
}

IN_GRAPH(filters_are_transparent)
{
    make_chain("between");
    add_filter("above", "overlay");
    add_filter("above-that", "above");
    expect_chain("overlay");
    expect_chain("above");
    expect_chain("above-that");
}

/* raw over the overlay decides every byte itself; zero and mapping are those of the overlay. */
IN_GRAPH(a_window_decides_all_of_its_bytes)
{
    make_chain(NULL);
    add_raw("raw", "overlay", 0, 400);
    EXPECT_EXTENTS("raw", ASK_ALL, { 100, A | P | D | M, 0, "overlay-data", 0 }, { 100, A | P | Z, 0, NULL, 0 },
                   { 100, A | P | D | M, 0, "base-data", 200 }, { 100, A | P | Z, 0, NULL, 0 });
    EXPECT_EXTENTS("raw", ASK_ALLOCATED, { 400, A | P, 0, NULL, 0 });
    add_raw("window", "overlay", 50, 200);
    EXPECT_EXTENTS("window", ASK_ALL, { 50, A | P | D | M, 0, "overlay-data", 50 }, { 100, A | P | Z, 0, NULL, 0 },
                   { 50, A | P | D | M, 0, "base-data", 200 });
}

IN_GRAPH(only_what_is_asked_is_answered)
{
    make_chain(NULL);
    EXPECT_EXTENTS("overlay", ASK_ALLOCATED, { 200, A | P, 0, NULL, 0 }, { 100, A | P, 1, NULL, 0 },
                   { 100, A, 1, NULL, 0 });
    EXPECT_EXTENTS("overlay", ASK_ZERO, { 100, 0, 0, NULL, 0 }, { 100, Z, 0, NULL, 0 }, { 100, 0, 0, NULL, 0 },
                   { 100, Z, 0, NULL, 0 });
}

/* A cluster that points into a hole of its file: data, and zero. A hole itself: not data. */
IN_GRAPH(a_preallocated_cluster_over_a_hole_is_data_and_zero)
{
    add_mem("file", 400);
    add_cow("image", 400, NULL, "file");
    set_state("image", 0, 400, COW_DATA);
    memset(mem_of("file")->hole + 100, true, 200);
    EXPECT_EXTENTS("image", ASK_ALL, { 100, A | P | D | M, 0, "file", 0 }, { 200, A | P | D | Z | M, 0, "file", 100 },
                   { 100, A | P | D | M, 0, "file", 300 });
    EXPECT_EXTENTS("file", ASK_ALL, { 100, A | P | D | M, 0, "file", 0 }, { 200, A | P | Z | M, 0, "file", 100 },
                   { 100, A | P | D | M, 0, "file", 300 });
}

IN_GRAPH(past_the_end_of_a_short_backing_node_is_zero_and_decided_there)
{
    add_mem("base", 150);
    add_mem("overlay-data", 400);
    add_cow("overlay", 400, "base", "overlay-data");
    EXPECT_EXTENTS("overlay", ASK_ALL, { 150, A | P | D | M, 1, "base", 0 }, { 250, A | Z, 1, NULL, 0 });
}

IN_GRAPH(compressed_bytes_lie_nowhere)
{
    add_mem("file", 400);
    add_cow("image", 400, NULL, "file");
    set_state("image", 100, 100, COW_OWN);
    add_raw("raw", "image", 0, 400);
    EXPECT_EXTENTS("raw", ASK_MAP, { 100, 0, 0, NULL, 0 }, { 100, D | C, 0, NULL, 0 }, { 200, 0, 0, NULL, 0 });
}

/*   top --> mid --> base: what do the layers down to "mid" decide? */
IN_GRAPH(a_base_ends_the_walk)
{
    const char *const names[] = { "base", "mid", "top" };
    for (size_t i = 0; i < 3; i++) {
        char data[32];
        snprintf(data, sizeof(data), "%s-data", names[i]);
        add_mem(data, 300);
        add_cow(names[i], 300, i ? names[i - 1] : NULL, data);
        set_state(names[i], i * 100, 100, COW_DATA);
    }
    struct handle *handle = reader_of("top");
    struct extents extents;
    extents_init(&extents, EXTENTS_MANY);
    assert_int_equal(handle_block_status(handle, range_make(0, 300), ASK_ALLOCATED, node_find("mid"), true, &extents),
                     0);
    assert_int_equal(extents.count, 3);
    assert_int_equal(extents.items[0].flags, 0);
    assert_int_equal(extents.items[1].flags, A | P);
    assert_int_equal(extents.items[1].depth, 1);
    assert_int_equal(extents.items[2].depth, 0);
    extents_fini(&extents);

    extents_init(&extents, EXTENTS_MANY);
    assert_int_equal(handle_block_status(handle, range_make(0, 300), ASK_ALLOCATED, node_find("mid"), false, &extents),
                     0);
    assert_int_equal(extents.count, 2);
    assert_int_equal(extents.items[0].bytes, 200);
    assert_int_equal(extents.items[0].flags, 0);
    extents_fini(&extents);

    extents_init(&extents, EXTENTS_MANY);
    assert_int_equal(
        handle_block_status(handle, range_make(0, 300), ASK_ALLOCATED, node_find("mid-data"), true, &extents), -EINVAL);
    assert_int_equal(handle_block_status(handle, range_make(0, 301), ASK_ALLOCATED, NULL, false, &extents), -EINVAL);
    assert_int_equal(extents.count, 0);
    extents_fini(&extents);
    handle_close(handle);
}

/* Where nothing is below the base, the base decides all of its bytes. */
IN_GRAPH(a_base_without_a_backing_node_leaves_nothing_undecided)
{
    add_mem("base-data", 300);
    add_mem("top-data", 300);
    add_cow("base", 300, NULL, "base-data");
    add_cow("top", 300, "base", "top-data");
    set_state("top", 0, 100, COW_DATA);
    set_state("base", 100, 100, COW_DATA);
    struct handle *handle = reader_of("top");
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, EXTENTS_MANY);
    assert_int_equal(
        handle_block_status(handle, range_make(0, 300), ASK_ALLOCATED | ASK_ZERO, node_find("base"), true, &extents),
        0);
    assert_int_equal(extents.count, 3);
    assert_int_equal(extents.items[0].depth, 0);
    assert_int_equal(extents.items[1].flags, A | P);
    assert_int_equal(extents.items[1].depth, 1);
    assert_int_equal(extents.items[2].flags, A | Z);
    assert_int_equal(extents.items[2].depth, 1);
    handle_close(handle);
}

/* Also of a filter: it is transparent to what is said, not to where. */
IN_GRAPH(units_of_a_filter_count)
{
    add_mem("file", 1300);
    memset(mem_of("file")->hole + 100, true, 1200);
    mem_next.alignment = 512;
    add_filter("coarse", "file");
    add_filter("above", "coarse");
    EXPECT_EXTENTS("above", ASK_ALL, { 512, A | P | D, 0, NULL, 0 }, { 788, A | P | Z | M, 0, "file", 512 });
    add_mem("data", 1300);
    add_cow("overlay", 1300, "coarse", "data");
    EXPECT_EXTENTS("overlay", ASK_ZERO, { 512, 0, 0, NULL, 0 }, { 788, Z, 0, NULL, 0 });
}

/* Boundaries are multiples of the node's units; a unit of several states gets the weakest of each. */
IN_GRAPH(units_get_the_weaker_answer)
{
    add_mem("file", 1300);
    mem_next.alignment = 512;
    add_cow("image", 1300, NULL, "file");
    set_state("image", 0, 100, COW_DATA);
    set_state("image", 100, 1200, COW_ZERO);
    EXPECT_EXTENTS("image", ASK_ALL, { 512, A | P | D, 0, NULL, 0 }, { 788, A | P | Z, 0, NULL, 0 });
    /* A question that begins inside a unit gets the unit's answer. */
    struct extents extents;
    ask("image", 300, 400, ASK_ALL, &extents, EXTENTS_MANY);
    assert_int_equal(extents.count, 2);
    assert_int_equal(extents.items[0].offset, 300);
    assert_int_equal(extents.items[0].bytes, 212);
    assert_int_equal(extents.items[0].flags, A | P | D);
    assert_int_equal(extents.items[1].bytes, 188);
    extents_fini(&extents);
}

/* Random graphs ----------------------------------------------------------------------------------------------- */

/* What the oracle says of one byte, from the states themselves. */
struct byte_status {
    uint32_t flags;
    uint32_t depth;
    const struct node *layer;
    const struct node *file;
    uint64_t file_offset;
};

static struct byte_status oracle(struct node *node, uint64_t x, uint32_t depth);

static const char *driver_of(const struct node *node)
{
    return node_driver(node)->name;
}

static struct byte_status oracle_mem(struct node *node, uint64_t x, uint32_t depth)
{
    struct mem *mem = node_state(node);
    return (struct byte_status){
        .flags = A | P | M | (mem->hole[x] ? Z : D),
        .depth = depth,
        .layer = node,
        .file = node,
        .file_offset = x,
    };
}

static struct byte_status oracle_below(struct node *node, uint64_t x, uint32_t depth)
{
    struct child *backing = node_backing(node);
    if (!backing)
        return (struct byte_status){ .flags = A | Z, .depth = depth, .layer = node };
    struct node *below = child_node(backing);
    if (x < node_length(below))
        return oracle(below, x, depth + 1);
    while (node_filtered(below))
        below = child_node(node_filtered(below));
    return (struct byte_status){ .flags = A | Z, .depth = depth + 1, .layer = below };
}

/* Bytes of @node found in its child at @y. */
static struct byte_status oracle_data(struct node *node, struct child *child, uint64_t y, uint32_t depth, bool own_data)
{
    struct byte_status status = { .flags = A | P | (own_data ? D : 0), .depth = depth, .layer = node };
    if (y >= node_length(child_node(child))) {
        status.flags |= Z;
        return status;
    }
    struct byte_status below = oracle(child_node(child), y, 0);
    status.flags |= below.flags & (Z | M | C);
    if (!own_data)
        status.flags |= below.flags & D;
    status.file = below.file;
    status.file_offset = below.file_offset;
    return status;
}

static struct byte_status oracle_cow(struct node *node, uint64_t x, uint32_t depth)
{
    struct cow *cow = node_state(node);
    switch (cow->state[x]) {
    case COW_ZERO:
        return (struct byte_status){ .flags = A | P | Z, .depth = depth, .layer = node };
    case COW_OWN:
        return (struct byte_status){ .flags = A | P | D | C, .depth = depth, .layer = node };
    case COW_DATA:
        return oracle_data(node, cow->file, x, depth, true);
    default:
        return oracle_below(node, x, depth);
    }
}

static struct byte_status oracle(struct node *node, uint64_t x, uint32_t depth)
{
    if (strcmp(driver_of(node), "gate") == 0)
        return oracle(child_node(node_filtered(node)), x, depth);
    if (strcmp(driver_of(node), "null-co") == 0)
        return oracle_mem(node, x, depth);
    if (strcmp(driver_of(node), "qcow2") == 0)
        return oracle_cow(node, x, depth);
    uint64_t offset = *(uint64_t *)((char *)node_state(node) + sizeof(struct child *));
    return oracle_data(node, node_child(node, "file"), x + offset, depth, false);
}

static unsigned random_below(unsigned n)
{
    return (unsigned)rand() % n;
}

static void random_states(unsigned char *state, size_t size, unsigned values)
{
    for (size_t at = 0; at < size;) {
        size_t run = 1 + random_below(40);
        unsigned char value = (unsigned char)random_below(values);
        for (; run > 0 && at < size; run--)
            state[at++] = value;
    }
}

static void fill_mem(struct mem *mem)
{
    unsigned char *hole = xmalloc(mem->size);
    random_states(hole, mem->size, 2);
    for (size_t i = 0; i < mem->size; i++) {
        mem->hole[i] = hole[i];
        mem->bytes[i] = hole[i] ? 0 : (unsigned char)(1 + random_below(255));
    }
    free(hole);
}

static void fill_cow(struct cow *cow)
{
    random_states(cow->state, cow->size, 4);
    cow->answers_max = 1 + random_below(20);
    for (size_t i = 0; i < cow->size; i++)
        cow->own[i] = (unsigned char)(1 + random_below(255));
}

/* Puts one more random node on top of @below; its name is "nN". */
static void add_random(unsigned n, const char *below)
{
    char name[16];
    char data[16];
    snprintf(name, sizeof(name), "n%u", n);
    snprintf(data, sizeof(data), "d%u", n);
    uint64_t below_length = below ? node_length(node_find(below)) : 0;
    unsigned kind = below ? random_below(4) : random_below(2);
    if (!below && kind == 0) {
        add_mem(name, 200 + random_below(600));
        fill_mem(mem_of(name));
    } else if (kind <= 1) {
        uint64_t size = 200 + random_below(600);
        add_mem(data, random_below(3) ? size : size / 2);
        fill_mem(mem_of(data));
        add_cow(name, size, below, data);
        fill_cow(cow_of(name));
    } else if (kind == 2) {
        add_filter(name, below);
    } else {
        uint64_t offset = random_below((unsigned)below_length / 2 + 1);
        add_raw(name, below, offset, 1 + random_below((unsigned)(below_length - offset)));
    }
}

static void expect_byte(const struct extent *extent, uint64_t x, const struct byte_status *byte)
{
    assert_int_equal(extent->flags, byte->flags);
    assert_int_equal(extent->depth, byte->depth);
    assert_ptr_equal(extent->layer, byte->layer);
    if (byte->flags & M) {
        assert_ptr_equal(extent->file.node, byte->file);
        assert_int_equal(extent->file_offset + (x - extent->offset), byte->file_offset);
    }
}

/* Each extent is true for each of its bytes, and reading proves what it claims. */
static void prove(struct node *node, struct handle *handle, const struct extents *extents)
{
    size_t length = node_length(node);
    unsigned char *content = xmalloc(length);
    struct iovec storage;
    struct iov iov = iov_of(&storage, content, length);
    assert_int_equal(handle_preadv(handle, range_make(0, length), &iov), 0);
    uint64_t at = 0;
    for (size_t i = 0; i < extents->count; i++) {
        const struct extent *extent = &extents->items[i];
        assert_int_equal(extent->offset, at);
        assert_true(extent->bytes > 0);
        assert_false(i > 0 && extents_alike(extent - 1, extent));
        for (; at < extent->offset + extent->bytes; at++) {
            struct byte_status byte = oracle(node, at, 0);
            expect_byte(extent, at, &byte);
            if (extent->flags & Z)
                assert_int_equal(content[at], 0);
            if ((extent->flags & (M | Z)) == M)
                assert_int_equal(
                    content[at],
                    ((struct mem *)node_state(extent->file.node))->bytes[extent->file_offset + at - extent->offset]);
        }
    }
    assert_int_equal(at, length);
    free(content);
}

static void same(const struct extents *a, const struct extents *b)
{
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        const struct extent *x = &a->items[i];
        const struct extent *y = &b->items[i];
        assert_int_equal(x->bytes, y->bytes);
        assert_int_equal(x->flags, y->flags);
        assert_int_equal(x->depth, y->depth);
        assert_ptr_equal(x->layer, y->layer);
        assert_ptr_equal(x->file.node, y->file.node);
        assert_int_equal(x->file_offset, y->file_offset);
    }
}

/* Asking in many small calls gives the same list. */
static void ask_in_pieces(struct node *node, struct handle *handle, struct extents *all)
{
    uint64_t length = node_length(node);
    for (uint64_t at = 0; at < length;) {
        struct extents part;
        extents_init(&part, 1 + random_below(5));
        uint64_t bytes = 1 + random_below((unsigned)(length - at));
        assert_int_equal(handle_block_status(handle, range_make(at, bytes), ASK_ALL, NULL, false, &part), 0);
        assert_true(part.count >= 1 && part.count <= part.max);
        for (size_t i = 0; i < part.count; i++) {
            assert_int_equal(part.items[i].offset, at);
            extents_append(all, &part.items[i]);
            at += part.items[i].bytes;
        }
        extents_fini(&part);
    }
}

static void random_graph(void *arg)
{
    unsigned seed = *(unsigned *)arg;
    srand(seed);
    unsigned nodes = 1 + random_below(7);
    char below[16] = "";
    for (unsigned n = 0; n < nodes; n++) {
        add_random(n, n ? below : NULL);
        snprintf(below, sizeof(below), "n%u", n);
    }
    struct node *top = node_find(below);
    struct handle *handle = reader_of(below);
    struct extents whole;
    extents_init(&whole, EXTENTS_MANY);
    assert_int_equal(handle_block_status(handle, range_make(0, node_length(top)), ASK_ALL, NULL, false, &whole), 0);
    prove(top, handle, &whole);
    struct extents pieces;
    extents_init(&pieces, EXTENTS_MANY);
    ask_in_pieces(top, handle, &pieces);
    same(&whole, &pieces);
    extents_fini(&whole);
    extents_fini(&pieces);
    handle_close(handle);
}

static void random_graphs_agree_with_the_oracle(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 300; seed++) {
        print_message("seed %u\n", seed);
        with_runtime(1, random_graph, &seed);
    }
}

/* The weaker of what two parts of a unit are. */
static struct byte_status weaker_of(struct byte_status a, struct byte_status b)
{
    struct byte_status result = a;
    result.flags = ((a.flags | b.flags) & (A | P | D | C)) | (a.flags & b.flags & Z);
    if (b.depth < a.depth) {
        result.depth = b.depth;
        result.layer = b.layer;
    }
    return result;
}

static bool same_run(const struct byte_status *a, const struct byte_status *b, uint64_t distance)
{
    return a->flags == b->flags && a->depth == b->depth && a->layer == b->layer &&
           (!(a->flags & M) || (a->file == b->file && a->file_offset + distance == b->file_offset));
}

/* What a node with units of @unit bytes says of the unit that begins at @begin. */
static struct byte_status oracle_unit(struct node *node, uint64_t begin, uint64_t end)
{
    struct byte_status first = oracle(node, begin, 0);
    struct byte_status result = first;
    bool uniform = true;
    for (uint64_t x = begin + 1; x < end; x++) {
        struct byte_status byte = oracle(node, x, 0);
        uniform = uniform && same_run(&first, &byte, x - begin);
        result = weaker_of(result, byte);
    }
    return uniform ? first : result;
}

static void random_units(void *arg)
{
    unsigned seed = *(unsigned *)arg;
    srand(seed);
    add_mem("bottom", 300 + random_below(300));
    fill_mem(mem_of("bottom"));
    add_mem("data", 500);
    fill_mem(mem_of("data"));
    uint64_t unit = 4u << random_below(6);
    mem_next.alignment = (uint32_t)unit;
    add_cow("top", 400 + random_below(200), random_below(2) ? "bottom" : NULL, "data");
    fill_cow(cow_of("top"));
    mem_next.alignment = 4u << random_below(6);
    uint64_t unit_above = mem_next.alignment;
    add_filter("above", "top");
    const char *name = random_below(2) ? "above" : "top";
    unit = name[0] == 'a' ? max_u64(unit, unit_above) : unit;

    struct node *node = node_find(name);
    uint64_t length = node_length(node);
    struct handle *handle = reader_of(name);
    struct extents all;
    extents_init(&all, EXTENTS_MANY);
    ask_in_pieces(node, handle, &all);
    size_t i = 0;
    for (uint64_t begin = 0; begin < length; begin += unit) {
        struct byte_status expected = oracle_unit(node, begin, min_u64(begin + unit, length));
        while (all.items[i].offset + all.items[i].bytes <= begin)
            i++;
        expect_byte(&all.items[i], begin, &expected);
        assert_true(all.items[i].offset + all.items[i].bytes >= min_u64(begin + unit, length));
    }
    extents_fini(&all);
    handle_close(handle);
}

static void units_agree_with_the_oracle(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 200; seed++) {
        print_message("seed %u\n", seed);
        with_runtime(1, random_units, &seed);
    }
}

/* A layer that has nothing in the window costs one question a step, however fine the layers below are. */
IN_GRAPH(deep_chains_cost_little)
{
    char name[16];
    char below[16];
    add_mem("d0", 20000);
    for (unsigned i = 0; i < 20000; i += 2)
        mem_of("d0")->hole[i] = true;
    add_mem("file", 20000);
    strcpy(below, "d0");
    for (unsigned n = 1; n <= 60; n++) {
        snprintf(name, sizeof(name), "n%u", n);
        snprintf(below, sizeof(below), n == 1 ? "d0" : "n%u", n - 1);
        char data[16];
        snprintf(data, sizeof(data), "f%u", n);
        add_mem(data, 1);
        add_cow(name, 20000, below, data);
    }
    struct extents extents;
    ask(name, 0, 20000, ASK_ALL, &extents, EXTENTS_MANY);
    assert_int_equal(extents.count, 20000);
    assert_int_equal(extents.items[19999].depth, 60);
    unsigned steps = mem_of("d0")->questions;
    assert_true(steps <= 5); /* of some thousand extents each */
    for (unsigned n = 1; n <= 60; n++) {
        snprintf(name, sizeof(name), "n%u", n);
        assert_true(cow_of(name)->questions <= steps);
    }
    extents_fini(&extents);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_overlay_shows_its_backing_node),
        cmocka_unit_test(filters_are_transparent),
        cmocka_unit_test(a_window_decides_all_of_its_bytes),
        cmocka_unit_test(only_what_is_asked_is_answered),
        cmocka_unit_test(a_preallocated_cluster_over_a_hole_is_data_and_zero),
        cmocka_unit_test(past_the_end_of_a_short_backing_node_is_zero_and_decided_there),
        cmocka_unit_test(compressed_bytes_lie_nowhere),
        cmocka_unit_test(a_base_ends_the_walk),
        cmocka_unit_test(a_base_without_a_backing_node_leaves_nothing_undecided),
        cmocka_unit_test(units_get_the_weaker_answer),
        cmocka_unit_test(units_of_a_filter_count),
        cmocka_unit_test(random_graphs_agree_with_the_oracle),
        cmocka_unit_test(units_agree_with_the_oracle),
        cmocka_unit_test(deep_chains_cost_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
