/* A YAML text becomes a tree in which every value knows its place. */
#include "daemon/yaml_tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct yaml_tree *parse(const char *text)
{
    struct yaml_tree *tree = NULL;
    struct error *err = yaml_tree_parse("f", text, strlen(text), NULL, &tree);
    if (err)
        fail_msg("%s", error_message(err));
    return tree;
}

static void expect_tree(const char *text, const char *expected)
{
    struct yaml_tree *tree = parse(text);
    char *dump = json_dumps(yaml_tree_root(tree), JSON_COMPACT);
    assert_string_equal(dump, expected);
    free(dump);
    yaml_tree_destroy(tree);
}

static void scalars_stay_text(void **state)
{
    (void)state;
    expect_tree("a: 1\nb: on\nc: 1.5\nd: 'x'\ne: \"y\"\nf: text of\n  two lines\n",
                "{\"a\":\"1\",\"b\":\"on\",\"c\":\"1.5\",\"d\":\"x\",\"e\":\"y\",\"f\":\"text of two lines\"}");
}

static void a_plain_null_is_null(void **state)
{
    (void)state;
    expect_tree("[~, null, Null, 'null', \"\", '~']", "[null,null,null,\"null\",\"\",\"~\"]");
    expect_tree("a:\nb: ~\n", "{\"a\":null,\"b\":null}");
}

static void flow_and_block_style(void **state)
{
    (void)state;
    expect_tree("a:\n- {b: [c, d]}\n- e\n", "{\"a\":[{\"b\":[\"c\",\"d\"]},\"e\"]}");
}

static void an_empty_text_is_an_empty_object(void **state)
{
    (void)state;
    expect_tree("", "{}");
    expect_tree("# nothing\n", "{}");
    expect_tree("---\n...\n", "{}");
}

static void aliases_repeat_values(void **state)
{
    (void)state;
    expect_tree("a: &x {b: 1}\nc: *x\nd: &x 2\ne: *x\n",
                "{\"a\":{\"b\":\"1\"},\"c\":{\"b\":\"1\"},\"d\":\"2\",\"e\":\"2\"}");
}

static void expect_place(const struct yaml_tree *tree, const char *path, bool key, size_t line, size_t column)
{
    struct yaml_place place = yaml_tree_find(tree, path, key);
    assert_int_equal(place.line, line);
    assert_int_equal(place.column, column);
}

static void places(void **state)
{
    (void)state;
    struct yaml_tree *tree = parse("a: x\nlist:\n- one\n-   {k: v, l: {m: n}}\n");
    expect_place(tree, "", false, 1, 1);
    expect_place(tree, "a", false, 1, 4);
    expect_place(tree, "a", true, 1, 1);
    expect_place(tree, "list", false, 3, 1);
    expect_place(tree, "list.0", false, 3, 3);
    expect_place(tree, "list.1", false, 4, 5);
    expect_place(tree, "list.1.k", false, 4, 9);
    expect_place(tree, "list.1.l.m", true, 4, 16);
    expect_place(tree, "list.1.l.missing", false, 4, 15);
    expect_place(tree, "list.7", false, 3, 1);
    expect_place(tree, "nothing.at.all", false, 1, 1);
    yaml_tree_destroy(tree);
}

static void inside_an_alias_the_place_is_that_of_the_alias(void **state)
{
    (void)state;
    struct yaml_tree *tree = parse("a: &x {b: 1}\nc: *x\n");
    expect_place(tree, "a.b", false, 1, 11);
    expect_place(tree, "c.b", false, 2, 4);
    yaml_tree_destroy(tree);
}

static void expect_error(const char *text, size_t length, const char *expected)
{
    struct yaml_tree *tree = NULL;
    struct error *err = yaml_tree_parse("f", text, length, NULL, &tree);
    assert_non_null(err);
    assert_null(tree);
    assert_string_equal(error_message(err), expected);
    error_free(err);
}

static void mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *error;
    } cases[] = {
        { "a: 1\na: 2\n", "f:2:1: the key 'a' is given twice" },
        { "a: &x [*x]\n", "f:1:8: no value has the anchor 'x'" },
        { "a: !tag x\n", "f:1:4: tags such as '!tag' are not supported" },
        { "? [a]\n: b\n", "f:1:3: a key must be a string" },
        { "a\n---\nb\n", "f:2:1: a file has one document only" },
        { "\"a\\0b\": 1\n", "f:1:1: the key contains a zero byte" },
        { "a: \"\\0\"\n", "f:1:4: the text contains a zero byte" },
        { "a: b: c\n", "f:1:5: mapping values are not allowed in this context" },
        { "a: 'x\n", "f:2:1: found unexpected end of stream while scanning a quoted scalar" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_error(cases[i].text, strlen(cases[i].text), cases[i].error);
    expect_error("a: \xff\n", 5, "f: byte 3: invalid leading UTF-8 octet");
}

/* Each level repeats the one below at its deepest place: the text is short, the tree would be deep. */
static void aliases_cannot_nest_without_end(void **state)
{
    (void)state;
    char text[8192] = "a0: &a0 [[[[[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]]]]\n";
    size_t length = strlen(text);
    for (int i = 1; i < 40; i++) {
        int count = sprintf(text + length, "a%d: &a%d [[[[[[[[[[*a%d]]]]]]]]]]\n", i, i, i - 1);
        length += (size_t)count;
    }
    struct yaml_tree *tree = NULL;
    struct error *err = yaml_tree_parse("f", text, length, NULL, &tree);
    assert_non_null(err);
    assert_non_null(strstr(error_message(err), "nested deeper than 200 levels"));
    error_free(err);
}

/* A megabyte, 64 times, is all that there may be. */
static void aliases_cannot_make_texts_longer_than_a_file(void **state)
{
    (void)state;
    const size_t length = 1024 * 1024;
    char *text = malloc(length + 1024);
    strcpy(text, "a: &a ");
    memset(text + 6, 'x', length);
    strcpy(text + 6 + length, "\nb: &b [*a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nd: [*c, y]\n");
    expect_error(text, strlen(text),
                 "f:4:9: the texts are longer than 67108864 bytes, what variables and aliases add included");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_stay_text),
        cmocka_unit_test(a_plain_null_is_null),
        cmocka_unit_test(flow_and_block_style),
        cmocka_unit_test(an_empty_text_is_an_empty_object),
        cmocka_unit_test(aliases_repeat_values),
        cmocka_unit_test(places),
        cmocka_unit_test(inside_an_alias_the_place_is_that_of_the_alias),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(aliases_cannot_nest_without_end),
        cmocka_unit_test(aliases_cannot_make_texts_longer_than_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
