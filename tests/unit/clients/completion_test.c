/* What can come next follows from the interface and from what stands in the line. */
#include "tests/unit/base/unit.h"

#include "clients/cli/completion.h"
#include "tests/unit/clients/interface.h"

static struct introspection *interface;

/* @expected: the candidates, each with a blank behind it. */
static void expect(const char *line, const char *expected)
{
    CLEANUP(json_decref) json_t *candidates = completion_candidates(interface, line);
    char all[1024] = "";
    size_t i;
    const json_t *candidate;

    json_array_foreach(candidates, i, candidate)
    {
        strcat(all, json_string_value(candidate));
        strcat(all, " ");
    }
    assert_string_equal(all, expected);
}

static void the_first_word_is_a_command(void **state)
{
    (void)state;
    expect("", "add remove ");
    expect("a", "add ");
    expect("x", "");
}

static void members_follow(void **state)
{
    (void)state;
    expect("add ", "driver= name= enabled= ");
    expect("add na", "name= ");
    expect("remove ", "name= ");
    expect("unheard ", "");
}

static void the_tag_brings_members(void **state)
{
    (void)state;
    expect("add driver=file ", "name= enabled= filename= size= share= ");
    expect("add driver=file size=1 f", "filename= ");
    expect("add driver=format f", "file. file= ");
    expect("add driver=format file.driver=file file.f", "file.filename= ");
    expect("add driver=format parts.0.f", "parts.0.filename= ");
}

static void values_of_enumerations_and_booleans(void **state)
{
    (void)state;
    expect("add driver=f", "driver=file driver=format ");
    expect("add enabled=", "enabled=on enabled=off ");
    expect("add driver=format file.driver=n", "file.driver=null ");
    expect("add name=", "");
}

static int load(void **state)
{
    (void)state;
    interface = load_interface();
    return 0;
}

static int unload(void **state)
{
    (void)state;
    introspection_free(interface);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_word_is_a_command),
        cmocka_unit_test(members_follow),
        cmocka_unit_test(the_tag_brings_members),
        cmocka_unit_test(values_of_enumerations_and_booleans),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
