/* What a person types becomes what the interface wants. */
#include "tests/unit/base/unit.h"

#include "clients/cli/arguments.h"
#include "schema/codec/json_tree.h"
#include "tests/unit/clients/interface.h"

static struct introspection *interface;

/* The words of @line, as arguments of command "add". */
static struct error *parse(const char *line, json_t **out)
{
    CLEANUP(json_decref) json_t *tree = NULL;
    char *copy = strdup(line), *rest = copy, *words[8];
    size_t count = 0;

    while (rest)
        words[count++] = strsep(&rest, " ");
    struct error *err = arguments_parse(count, words, &tree);
    free(copy);
    return err ? err : arguments_convert(interface, introspection_arguments(interface, "add"), tree, out);
}

static void expect_json(const char *line, const char *json)
{
    CLEANUP(json_decref) json_t *parsed = NULL;
    CLEANUP(json_decref) json_t *expected = json_loads(json, 0, NULL);
    struct error *err = parse(line, &parsed);

    if (err)
        fail_msg("%s: %s", line, error_message(err));
    assert_non_null(expected);
    if (!json_equal(parsed, expected))
        fail_msg("%s became %s", line, json_dumps(parsed, 0));
}

static void expect_error(const char *line, const char *message)
{
    json_t *parsed = NULL;
    CLEANUP(error_free) struct error *err = parse(line, &parsed);

    assert_non_null(err);
    assert_string_equal(error_message(err), message);
}

static void a_value_gets_the_type_of_its_member(void **state)
{
    (void)state;
    expect_json("driver=null name=1", "{\"driver\": \"null\", \"name\": \"1\"}");
    expect_json("driver=file size=1 filename=1", "{\"driver\": \"file\", \"size\": 1, \"filename\": \"1\"}");
    expect_json("driver=file size=-5", "{\"driver\": \"file\", \"size\": -5}");
    expect_json("driver=file size=2G", "{\"driver\": \"file\", \"size\": 2147483648}");
    expect_json("driver=file share=0.5", "{\"driver\": \"file\", \"share\": 0.5}");
    expect_json("driver=null enabled=on", "{\"driver\": \"null\", \"enabled\": true}");
    expect_json("driver=null enabled=false", "{\"driver\": \"null\", \"enabled\": false}");
    expect_json("driver=null name=a=b", "{\"driver\": \"null\", \"name\": \"a=b\"}");
    expect_json("driver=null name={x", "{\"driver\": \"null\", \"name\": \"{x\"}");
    expect_json("driver=null name=,a,,b", "{\"driver\": \"null\", \"name\": \",a,,b\"}");
    expect_json("driver=null name=", "{\"driver\": \"null\", \"name\": \"\"}");
}

static void values_are_written_as_on_the_daemons_command_line(void **state)
{
    (void)state;
    expect_json("driver=file size=0x10", "{\"driver\": \"file\", \"size\": 16}");
    expect_json("driver=file size=1.5K", "{\"driver\": \"file\", \"size\": 1536}");
    expect_json("driver=null enabled=y", "{\"driver\": \"null\", \"enabled\": true}");
    expect_json("driver=null enabled=n", "{\"driver\": \"null\", \"enabled\": false}");
    expect_json("driver=null name=a name=b", "{\"driver\": \"null\", \"name\": \"b\"}");
}

static void dots_lead_into_objects_and_lists(void **state)
{
    (void)state;
    expect_json("driver=format file.driver=file file.size=4k",
                "{\"driver\": \"format\", \"file\": {\"driver\": \"file\", \"size\": 4096}}");
    expect_json("driver=format sizes.0=1 sizes.1=2k", "{\"driver\": \"format\", \"sizes\": [1, 2048]}");
    expect_json("driver=format parts.0.size=1 parts.0.filename=7",
                "{\"driver\": \"format\", \"parts\": [{\"size\": 1, \"filename\": \"7\"}]}");
    expect_json("driver=format sizes=[1,2]", "{\"driver\": \"format\", \"sizes\": [1, 2]}");
}

static void an_alternate_takes_what_it_looks_like(void **state)
{
    (void)state;
    expect_json("driver=format file=node0", "{\"driver\": \"format\", \"file\": \"node0\"}");
    expect_json("driver=format file=null", "{\"driver\": \"format\", \"file\": null}");
    expect_json("driver=format file={\"driver\":\"null\"}",
                "{\"driver\": \"format\", \"file\": {\"driver\": \"null\"}}");
    expect_json("driver=format anything=[1]", "{\"driver\": \"format\", \"anything\": [1]}");
}

static void what_the_interface_does_not_know_is_sent_as_text(void **state)
{
    (void)state;
    expect_json("driver=null color=7", "{\"driver\": \"null\", \"color\": \"7\"}");
    expect_json("driver=unheard size=7", "{\"driver\": \"unheard\", \"size\": \"7\"}");
}

static void a_size_has_all_of_its_64_bits(void **state)
{
    (void)state;
    CLEANUP(json_decref) json_t *parsed = NULL;
    struct error *err = parse("driver=file size=9E", &parsed);

    assert_null(err);
    assert_string_equal(json_wide_digits(json_object_get(parsed, "size")), "10376293541461622784");
}

static void errors_name_the_path(void **state)
{
    (void)state;
    expect_error("driver=file size=big", "size: expected int, got 'big'");
    expect_error("driver=file size=17E", "size: expected int, got '17E'");
    expect_error("driver=format file.driver=file file.size=x", "file.size: expected int, got 'x'");
    expect_error("driver=format sizes.0=1 sizes.2=2", "Parameter 'sizes.1' missing");
    expect_error("driver=format parts.0.size=x", "parts.0.size: expected int, got 'x'");
    expect_error("driver=file size.a=1", "size: expected int, got an object");
    expect_error("driver=format sizes=1", "sizes: expected a list, got '1'");
    expect_error("driver=format sizes.a=1", "sizes: expected a list, got an object");
    expect_error("driver=file size.0=1", "size: expected int, got a list");
    expect_error("driver=null enabled=maybe", "enabled: expected boolean, got 'maybe'");
    expect_error("driver=format sizes=[1,", "sizes: '[1,' is not valid JSON");
}

static void assignments_that_contradict_each_other(void **state)
{
    (void)state;
    expect_error("file=a file.driver=b", "Parameters 'file.*' used inconsistently");
    expect_error("file.driver=b file=a", "Parameters 'file.*' used inconsistently");
    expect_error("sizes.0=a sizes.b=c", "Parameters 'sizes.*' used inconsistently");
    expect_error("name", "'name' is neither JSON nor of the form key=value");
    expect_error("=x", "'=x' is neither JSON nor of the form key=value");
    expect_error("file.=x", "Invalid parameter 'file.'");
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
        cmocka_unit_test(a_value_gets_the_type_of_its_member),
        cmocka_unit_test(values_are_written_as_on_the_daemons_command_line),
        cmocka_unit_test(dots_lead_into_objects_and_lists),
        cmocka_unit_test(an_alternate_takes_what_it_looks_like),
        cmocka_unit_test(what_the_interface_does_not_know_is_sent_as_text),
        cmocka_unit_test(a_size_has_all_of_its_64_bits),
        cmocka_unit_test(errors_name_the_path),
        cmocka_unit_test(assignments_that_contradict_each_other),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
