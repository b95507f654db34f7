/* Lines of logs: what is hidden in them. */
#include "rpc/hide.h"

#include "schema/codec/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect_shown(const char *given, const char *shown, uint64_t begin, enum hide_in in)
{
    struct text line = { 0 };
    text_append_string(&line, given);
    hide_secrets(&line, begin, in);
    text_append(&line, "", 1);
    assert_string_equal(line.data, shown);
    text_fini(&line);
}

static void expect_hidden(const char *given, const char *shown)
{
    expect_shown(given, shown, 4, HIDE_IN_JSON);
}

static void users_in_addresses_are_hidden(void **state)
{
    (void)state;
    expect_hidden("...:", "...:");
    expect_hidden("a://b@c \"x://b@c/d\"", "a://b@c \"x://(secret)@c/d\"");
    expect_hidden("...:\"https://me:pass@host/a\", \"b\"", "...:\"https://(secret)@host/a\", \"b\"");
    expect_hidden("...:\"https://me:p@ss@host/a@b\"", "...:\"https://(secret)@host/a@b\"");
    expect_hidden("...:\"https://me:p\\\"s@host\", \"@\"", "...:\"https://(secret)@host\", \"@\"");
    expect_hidden("...:\"https://host\", \"b@c\"", "...:\"https://host\", \"b@c\"");
    expect_hidden("...:\"a://b@c a://b@c", "...:\"a://(secret)@c a://(secret)@c");
    expect_hidden("...:\"a://b c@d", "...:\"a://(secret)@d");
    expect_hidden("...:\"a://\\", "...:\"a://\\");
    expect_hidden("...:://", "...:://");
    expect_hidden("...:\"https:\\/\\/me:pass@host", "...:\"https:\\/\\/(secret)@host");
}

/* As clients write it; as it stands in the line of a command; as it stands in a string of another description. */
static void expect_description(const char *given, const char *shown)
{
    struct text text[2][3] = { 0 };
    const char *strings[2] = { given, shown };
    for (int i = 0; i < 2; i++) {
        text_append_string(&text[i][0], "cannot open '");
        text_append_string(&text[i][0], strings[i]);
        text_append_string(&text[i][0], "': \"no\"");
        text_append(&text[i][0], "", 1);
        text_append_string(&text[i][1], "{\"password\": 5, \"a\": ");
        text_append_json(&text[i][1], strings[i]);
        text_append_string(&text[i][1], ", \"password\": \"shown\"}");
        text_append(&text[i][1], "", 1);
        struct text inner = { 0 };
        text_append_string(&inner, "json:{\"file\": ");
        text_append_json(&inner, strings[i]);
        text_append_string(&inner, ", \"a\": \"b\"}");
        text_append(&inner, "", 1);
        text_append_json(&text[i][2], inner.data);
        text_append(&text[i][2], "", 1);
        text_fini(&inner);
    }
    for (int i = 0; i < 3; i++) {
        expect_shown(text[0][i].data, text[1][i].data, 0, i ? HIDE_IN_JSON : HIDE_IN_TEXT);
        text_fini(&text[0][i]);
        text_fini(&text[1][i]);
    }
}

static void secrets_in_descriptions_are_hidden(void **state)
{
    (void)state;
    expect_description("json:{\"driver\": \"raw\"}", "json:{\"driver\": \"raw\"}");
    expect_description("json:", "json:");
    expect_description("json:{", "json:{");
    expect_description("json: {\"url\":\"http://me:word@host/\", \"cookie\" : \"a=b\", \"b\": \"c\"}",
                       "json: {\"url\":\"http://(secret)@host/\", \"cookie\" : \"(secret)\", \"b\": \"c\"}");
    expect_description("json:{\"file.password\":\"a\\\"b\\\\\",\"x\":\"y\"}",
                       "json:{\"file.password\":\"(secret)\",\"x\":\"y\"}");
    expect_description("json:{'Secret':'a\"b','data':'c','x.data.y':'shown','key':'d'}",
                       "json:{'Secret':'(secret)','data':'(secret)','x.data.y':'shown','key':'(secret)'}");
    expect_description("json:{\"key-secret\":5,\"a\":6,\"password\":true}",
                       "json:{\"key-secret\":0,\"a\":6,\"password\":0}");
    expect_description("json:{\"password\":{\"a\":[1,\"b\"],\"c\":\"d\"},\"e\":\"f\",\"g\":7}",
                       "json:{\"password\":{\"a\":[0,\"(secret)\"],\"c\":\"(secret)\"},\"e\":\"f\",\"g\":7}");
    expect_description("json:{\"pass\\u0077ord\":\"a\",\"b\":\"c\"}",
                       "json:{\"pass\\u0077ord\":\"(secret)\",\"b\":\"c\"}");
    expect_description("json:{\"password\"\n:\t\"a\"}", "json:{\"password\"\n:\t\"(secret)\"}");
    expect_description("json:{\"a\":1} json:{\"password\":\"b\"}", "json:{\"a\":1} json:{\"password\":\"(secret)\"}");
}

/* What does not end, or is cut off, shows no more than what does. */
static void unfinished_descriptions_hide_too_much(void **state)
{
    (void)state;
    expect_hidden("...:\"json:{\\\"password\\\":\\\"a\", \"b\": \"c\"",
                  "...:\"json:{\\\"password\\\":\\\"(secret)\", \"b\": \"c\"");
    expect_hidden("...:\"json:{'password':'a\", \"b\": \"c\"", "...:\"json:{'password':'(secret)\", \"b\": \"c\"");
    expect_shown("json:{\"password\":\"a, b", "json:{\"password\":\"(secret)", 0, HIDE_IN_TEXT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(users_in_addresses_are_hidden),
        cmocka_unit_test(secrets_in_descriptions_are_hidden),
        cmocka_unit_test(unfinished_descriptions_hide_too_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
