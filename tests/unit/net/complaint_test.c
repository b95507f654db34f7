/* Lines about clients: a burst, then one each second, and nothing is lost without a word. */
#include "blockcore/net/complaint.h"

#include "blockcore/graph/notice.h"
#include "tests/unit/runtime/co_test.h"

#include <string.h>

static char last[128];
static unsigned lines;

static void heard(const struct notice *notice, void *arg)
{
    (void)arg;
    expect_int(notice->kind, NOTICE_CLIENT);
    snprintf(last, sizeof(last), "%s", notice->message);
    lines++;
}

CO_TEST(lines_are_limited_and_those_left_out_are_counted)
{
    notice_set_listener(heard, NULL);
    for (unsigned i = 0; i < COMPLAINTS_BURST + 5; i++)
        complain(NULL, "client %u: nonsense", i);
    expect_int(lines, COMPLAINTS_BURST);
    expect_text(last, "client 9: nonsense");
    co_sleep_ms(COMPLAINT_MS + 10);
    complain(NULL, "client %u: nonsense", 99);
    expect_int(lines, COMPLAINTS_BURST + 1);
    expect_text(last, "client 99: nonsense (and 5 such lines were left out before)");
    complain(NULL, "one more");
    expect_int(lines, COMPLAINTS_BURST + 1);
    notice_set_listener(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_limited_and_those_left_out_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
