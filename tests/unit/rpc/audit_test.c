/* Lines of the audit log: what is hidden in them. */
#include "rpc/audit.h"

#include "schema/codec/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect_hidden(const char *given, const char *shown)
{
    struct text line = { 0 };
    text_append_string(&line, given);
    audit_hide_users(&line, 4);
    text_append(&line, "", 1);
    assert_string_equal(line.data, shown);
    text_fini(&line);
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
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(users_in_addresses_are_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
