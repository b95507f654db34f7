/* The steps from what runs to what is described: a comparison of two configurations, told in lines of text. */
#include "daemon/reconcile/plan.h"

#include "daemon/config.h"
#include "daemon/config_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct config *parse(const char *text)
{
    struct config *config = NULL;
    const struct config_source source = { .name = "f", .text = text, .length = strlen(text) };
    struct error *err = config_parse(&source, 1, &config);
    if (err)
        fail_msg("%s", error_message(err));
    return config;
}

struct described {
    struct hash hash;
    struct arena arena;
};

struct entry {
    struct hash_link link;
};

static void remember(enum config_item item, const char *name, void *arg)
{
    struct described *described = arg;
    struct entry *entry = arena_alloc(&described->arena, sizeof(*entry));
    hash_insert_string(&described->hash, &entry->link, plan_key(&described->arena, item, name));
}

/* "action text" of each step, also of those that are not told: "(remove) replace export 'e'". */
static void expect_plan_of(const char *now_text, const char *wanted_text, const char *described_text, bool prune,
                           const char *expected)
{
    struct config *now = parse(now_text);
    struct config *wanted = parse(wanted_text);
    struct config *before = parse(described_text);
    struct described described;
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    arena_init(&described.arena, SIZE_MAX);
    hash_init(&described.hash);
    plan_for_each(config_values(before), &described.arena, remember, &described);
    const struct plan_request request = {
        .now = config_values(now),
        .wanted = config_values(wanted),
        .described = &described.hash,
        .prune = prune,
    };
    struct plan plan = { 0 };
    struct error *err = plan_make(&request, &arena, &plan);
    const char *text = err ? error_message(err) : "";
    for (size_t i = 0; i < plan.count; i++)
        text = arena_printf(&arena, "%s%s%s\n", text, plan.steps[i].untold ? "untold: " : "", plan.steps[i].text);
    assert_string_equal(text, expected);
    error_free(err);
    hash_fini(&described.hash);
    arena_fini(&described.arena);
    arena_fini(&arena);
    config_destroy(now);
    config_destroy(wanted);
    config_destroy(before);
}

/* What runs is what was described. */
static void expect_plan(const char *now, const char *wanted, const char *expected)
{
    expect_plan_of(now, wanted, now, false, expected);
}

#define NODE(name) "- {driver: null-co, node-name: " name "}\n"
#define RAW(name, file) "- {driver: raw, node-name: " name ", file: " file "}\n"
#define SERVER "nbd-server: {addr: {type: unix, path: s}}\n"
#define EXPORT(id, node) "- {type: nbd, id: " id ", node-name: " node "}\n"

static void what_is_as_described_needs_no_step(void **state)
{
    (void)state;
    expect_plan("", "", "");
    expect_plan("nodes:\n" NODE("a") SERVER "exports:\n" EXPORT("e", "a"),
                "nodes:\n" NODE("a") SERVER "exports:\n" EXPORT("e", "a"), "");
}

static void a_default_is_the_same_as_nothing(void **state)
{
    (void)state;
    expect_plan(SERVER, "nbd-server: {id: default, max-connections: 100, addr: {type: unix, path: s}}\n", "");
    expect_plan("monitors:\n- {path: m}\n", "monitors:\n- {path: m, pretty: off, role: admin}\n", "");
}

static void things_are_made_before_those_that_use_them(void **state)
{
    (void)state;
    expect_plan("",
                "exports:\n" EXPORT("e", "b") SERVER
                "bitmaps:\n- {node: a, name: m}\nmonitors:\n- {path: p}\nnodes:\n" NODE("a")
                    RAW("b", "a") "objects:\n- {qom-type: iothread, id: t}\n",
                "add object 't'\nadd node 'a'\nadd node 'b'\nadd bitmap 'a/m'\nadd NBD server 'default'\n"
                "add export 'e'\nadd monitor 'p'\n");
}

static void things_go_after_those_that_use_them(void **state)
{
    (void)state;
    expect_plan("objects:\n- {qom-type: iothread, id: t}\n- {qom-type: iothread, id: u}\nnodes:\n" NODE("a")
                    RAW("b", "a") SERVER "exports:\n" EXPORT("e", "b") "monitors:\n- {path: p}\n",
                "",
                "remove export 'e'\nremove NBD server 'default'\nremove node 'b'\nremove node 'a'\n"
                "remove object 'u'\nremove object 't'\nremove monitor 'p'\n");
}

static void what_was_never_described_stays(void **state)
{
    (void)state;
    expect_plan_of("nodes:\n" NODE("mine") NODE("theirs"), "", "nodes:\n" NODE("mine"), false, "remove node 'mine'\n");
    expect_plan_of("nodes:\n" NODE("mine") NODE("theirs"), "", "", true, "remove node 'theirs'\nremove node 'mine'\n");
    expect_plan_of("nodes:\n" NODE("a") "bitmaps:\n- {node: a, name: b}\nmonitors:\n- {path: m}\n",
                   "nodes:\n" NODE("a"), "", true, "");
}

static void a_node_is_reopened_where_that_is_possible(void **state)
{
    (void)state;
    expect_plan("nodes:\n- {driver: file, node-name: a, filename: x}\n",
                "nodes:\n- {driver: file, node-name: a, filename: x, read-only: on, discard: unmap}\n",
                "reopen node 'a': discard: \"ignore\" -> \"unmap\", read-only: false -> true\n");
    expect_plan("nodes:\n" NODE("a") NODE("b") RAW("c", "a"), "nodes:\n" NODE("a") NODE("b") RAW("c", "b"),
                "reopen node 'c': file: \"a\" -> \"b\"\n");
    expect_plan("nodes:\n- {driver: raw, node-name: a, file: {driver: file, filename: x}}\n",
                "nodes:\n- {driver: raw, node-name: a, file: {driver: file, filename: x, cache: {direct: on}}}\n",
                "reopen node 'a': file.cache\n");
    expect_plan("nodes:\n" NODE("a") "- {driver: qcow2, node-name: b, file: a, backing: null}\n",
                "nodes:\n" NODE("a") "- {driver: qcow2, node-name: b, file: a, backing: a}\n",
                "reopen node 'b': backing: null -> \"a\"\n");
}

static void and_replaced_where_it_is_not(void **state)
{
    (void)state;
    expect_plan("nodes:\n" NODE("a"), "nodes:\n- {driver: null-aio, node-name: a}\n",
                "replace node 'a': driver: \"null-co\" -> \"null-aio\"\n");
    expect_plan("nodes:\n- {driver: file, node-name: a, filename: x}\n",
                "nodes:\n- {driver: file, node-name: a, filename: y}\n",
                "replace node 'a': filename: \"x\" -> \"y\"\n");
    expect_plan("nodes:\n" NODE("a") RAW("b", "a"),
                "nodes:\n" NODE("a") "- {driver: raw, node-name: b, file: {driver: null-co}}\n",
                "replace node 'b': file\n");
    expect_plan("nodes:\n- {driver: raw, node-name: a, file: {driver: file, filename: x}}\n",
                "nodes:\n- {driver: raw, node-name: a, file: {driver: file, filename: y}}\n",
                "replace node 'a': file.filename: \"x\" -> \"y\"\n");
    expect_plan(
        "nodes:\n" NODE("a") NODE("t") NODE("u") "- {driver: copy-before-write, node-name: c, file: a, target: t}\n",
        "nodes:\n" NODE("a") NODE("t") NODE("u") "- {driver: copy-before-write, node-name: c, file: a, target: u}\n",
        "replace node 'c': target: \"t\" -> \"u\"\n");
}

/* A file of a node that goes may be wanted by a new one; but what somebody stands on goes when he has left. */
static void nodes_go_early_or_late(void **state)
{
    (void)state;
    expect_plan("nodes:\n" NODE("old"), "nodes:\n" NODE("new"), "remove node 'old'\nadd node 'new'\n");
    expect_plan(
        "nodes:\n" NODE("below") RAW("old", "below") RAW("top", "old"), "nodes:\n" NODE("new") RAW("top", "new"),
        "add node 'new'\nreopen node 'top': file: \"old\" -> \"new\"\nremove node 'old'\nremove node 'below'\n");
    expect_plan("nodes:\n" NODE("old") "bitmaps:\n- {node: old, name: b}\n", "nodes:\n" NODE("new"),
                "add node 'new'\nremove node 'old'\n");
    expect_plan("nodes:\n" NODE("a") SERVER "exports:\n- {type: nbd, id: e, name: n, node-name: a}\n",
                "nodes:\n" NODE("b") SERVER "exports:\n- {type: nbd, id: e, name: n, node-name: b}\n",
                "add node 'b'\nmove export 'e': node-name: \"a\" -> \"b\"\nremove node 'a'\n");
}

static void an_export_is_made_again_unless_only_its_node_differs(void **state)
{
    (void)state;
    expect_plan("nodes:\n" NODE("a") SERVER "exports:\n" EXPORT("e", "a"),
                "nodes:\n" NODE("a") SERVER "exports:\n- {type: nbd, id: e, node-name: a, writable: on}\n",
                "untold: replace export 'e': writable: false -> true\nreplace export 'e': writable: false -> true\n");
    /* Its name is that of the node. */
    expect_plan("nodes:\n" NODE("a") NODE("b") SERVER "exports:\n" EXPORT("e", "a"),
                "nodes:\n" NODE("a") NODE("b") SERVER "exports:\n" EXPORT("e", "b"),
                "untold: replace export 'e': node-name: \"a\" -> \"b\"\n"
                "replace export 'e': node-name: \"a\" -> \"b\"\n");
}

static void a_server_takes_along_the_exports_that_only_it_shows(void **state)
{
    (void)state;
    const char *exports = "exports:\n- {type: nbd, id: mine, node-name: a, servers: [other]}\n" EXPORT("all", "a");
    char now[512];
    char wanted[512];
    snprintf(now, sizeof(now), "nodes:\n%s%snbd-servers:\n- {id: other, addr: {type: unix, path: x}}\n%s", NODE("a"),
             SERVER, exports);
    snprintf(wanted, sizeof(wanted), "nodes:\n%s%snbd-servers:\n- {id: other, addr: {type: unix, path: y}}\n%s",
             NODE("a"), SERVER, exports);
    expect_plan(now, wanted,
                "untold: replace export 'mine': NBD server 'other' is replaced\n"
                "untold: replace NBD server 'other': addr.path: \"x\" -> \"y\"\n"
                "replace NBD server 'other': addr.path: \"x\" -> \"y\"\n"
                "replace export 'mine': NBD server 'other' is replaced\n");
    expect_plan_of(
        "nodes:\n" NODE("a") SERVER "exports:\n" EXPORT("theirs", "a"), "nodes:\n" NODE("a"), SERVER, false,
        "NBD server 'default' cannot be removed: export 'theirs', which no configuration described, is shown by it");
}

static void objects_change_where_their_kind_can(void **state)
{
    (void)state;
    expect_plan("objects:\n- {qom-type: throttle-group, id: g, limits: {iops-total: 1}}\n",
                "objects:\n- {qom-type: throttle-group, id: g, limits: {iops-total: 2}}\n",
                "change object 'g': limits.iops-total: 1 -> 2\n");
    expect_plan("objects:\n- {qom-type: secret, id: s, file: x}\n", "objects:\n- {qom-type: secret, id: s, file: y}\n",
                "untold: replace object 's': file: \"x\" -> \"y\"\nreplace object 's': file: \"x\" -> \"y\"\n");
}

static void bitmaps_keep_what_they_know(void **state)
{
    (void)state;
#define BITMAP(more) "nodes:\n" NODE("a") "bitmaps:\n- {node: a, name: b" more "}\n"
    expect_plan(BITMAP(", granularity: 65536"), BITMAP(""), "");
    expect_plan(BITMAP(", granularity: 65536"), BITMAP(", disabled: on"),
                "change bitmap 'a/b': disabled: false -> true\n");
    expect_plan(BITMAP(", granularity: 65536"), BITMAP(", granularity: 512"),
                "bitmap 'a/b' cannot change: it has the granularity 65536 and is not persistent; remove it first, and "
                "what it knows with it");
    expect_plan(BITMAP(", granularity: 65536"), "nodes:\n" NODE("a"), "remove bitmap 'a/b'\n");
}

static void what_is_said_once_needs_a_restart(void **state)
{
    (void)state;
    expect_plan("io-threads: 2\n", "io-threads: 3\n", "needs a restart: io-threads: 2 -> 3\n");
    expect_plan("io-threads: 2\n", "", "needs a restart: io-threads: 2 -> absent\n");
    /* Given on the command line, and no business of the configuration. */
    expect_plan_of("pidfile: p\n", "", "", false, "");
    expect_plan_of("pidfile: p\n", "pidfile: q\n", "", false, "needs a restart: pidfile: \"p\" -> \"q\"\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_as_described_needs_no_step),
        cmocka_unit_test(a_default_is_the_same_as_nothing),
        cmocka_unit_test(things_are_made_before_those_that_use_them),
        cmocka_unit_test(things_go_after_those_that_use_them),
        cmocka_unit_test(what_was_never_described_stays),
        cmocka_unit_test(a_node_is_reopened_where_that_is_possible),
        cmocka_unit_test(and_replaced_where_it_is_not),
        cmocka_unit_test(nodes_go_early_or_late),
        cmocka_unit_test(an_export_is_made_again_unless_only_its_node_differs),
        cmocka_unit_test(a_server_takes_along_the_exports_that_only_it_shows),
        cmocka_unit_test(objects_change_where_their_kind_can),
        cmocka_unit_test(bitmaps_keep_what_they_know),
        cmocka_unit_test(what_is_said_once_needs_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
