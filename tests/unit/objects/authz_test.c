/* Who is let in: patterns, rules, and rules in a file. */
#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/objects/authz_private.h"
#include "blockcore/objects/glob.h"
#include "blockcore/objects/object.h"

#include "tests/unit/drivers/nodes.h"

#include <fnmatch.h>
#include <time.h>

/* Patterns ------------------------------------------------------------------------------------------------------ */

static void patterns_are_those_of_shells(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool fits;
    } cases[] = {
        { "", "", true },
        { "", "a", false },
        { "*", "", true },
        { "*", "CN=a/b", true },
        { "a?c", "abc", true },
        { "a?c", "ac", false },
        { "*,O=Example", "CN=a,O=Example", true },
        { "*,O=Example", "CN=a,O=Example,C=GB", false },
        { "CN=*,O=*", "CN=a,O=", true },
        { "[a-c]x", "bx", true },
        { "[!a-c]x", "bx", false },
        { "[]]", "]", true },
        { "[]-a]", "^", true },
        { "[a", "[a", true },
        { "\\*", "*", true },
        { "\\*", "a", false },
        { "a\\", "a\\", true },
        { "[\\]]", "]", true },
        { "**a**", "bab", true },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (glob_matches(cases[i].pattern, cases[i].text) != cases[i].fits) {
            print_error("'%s' and '%s'\n", cases[i].pattern, cases[i].text);
            abort();
        }
    }
}

static void random_text(char *text, size_t bytes, const char *alphabet)
{
    size_t length = (size_t)rand() % bytes;
    for (size_t i = 0; i < length; i++)
        text[i] = alphabet[(size_t)rand() % strlen(alphabet)];
    text[length] = '\0';
}

/* The C library as a witness, of what has one meaning. */
static void patterns_fit_what_fnmatch_says(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    for (int i = 0; i < 200000; i++) {
        char pattern[10];
        char text[10];
        random_text(pattern, sizeof(pattern), "ab*?\\,");
        random_text(text, sizeof(text), "ab,\\");
        size_t length = strlen(pattern);
        if (length > 0 && pattern[length - 1] == '\\')
            continue;
        if (glob_matches(pattern, text) != (fnmatch(pattern, text, 0) == 0)) {
            print_error("'%s' and '%s'\n", pattern, text);
            abort();
        }
    }
}

/* An hour, in matchers that try everything. */
static void no_pattern_takes_long(void **state)
{
    (void)state;
    char pattern[1024];
    char text[AUTHZ_MATCH_BYTES_MAX + 1];
    for (size_t i = 0; i < sizeof(pattern) - 2; i += 2)
        memcpy(pattern + i, "*a", 2);
    memcpy(pattern + sizeof(pattern) - 2, "b", 2);
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    expect(!glob_matches(pattern, text));
}

/* Objects ------------------------------------------------------------------------------------------------------- */

static bool lets_in(const char *id, const char *identity)
{
    struct object *object;
    CLEANUP(error_free) struct error *why = NULL;
    expect_success(authz_find(id, &object));
    return authz_allows(object, identity, &why);
}

static struct error *add_rules(const char *id, const struct q_auth_z_list_rule *rules, size_t count)
{
    struct object_options options = {
        .qom_type = OBJECT_TYPE_AUTHZ_LIST,
        .id = id,
        .u.authz_list = { .has_rules = true, .rules = rules, .rules_count = count },
    };
    return object_add(&options);
}

NODE_TEST(one_name_is_let_in)
{
    struct object_options options = {
        .qom_type = OBJECT_TYPE_AUTHZ_SIMPLE,
        .id = "a",
        .u.authz_simple = { .identity = "CN=laptop,O=Example" },
    };
    expect_success(object_add(&options));
    expect(lets_in("a", "CN=laptop,O=Example"));
    expect(!lets_in("a", "CN=laptop,O=Example,C=GB") && !lets_in("a", "CN=laptop") && !lets_in("a", ""));
    object_del_all();
}

NODE_TEST(the_first_rule_that_fits_decides)
{
    static const struct q_auth_z_list_rule rules[] = {
        { .match = "fred", .policy = Q_AUTH_Z_LIST_POLICY_ALLOW },
        { .match = "danb", .policy = Q_AUTH_Z_LIST_POLICY_DENY, .has_format = true },
        { .match = "dan*",
          .policy = Q_AUTH_Z_LIST_POLICY_ALLOW,
          .has_format = true,
          .format = Q_AUTH_Z_LIST_FORMAT_GLOB },
        { .match = "star*",
          .policy = Q_AUTH_Z_LIST_POLICY_ALLOW,
          .has_format = true,
          .format = Q_AUTH_Z_LIST_FORMAT_EXACT },
    };
    expect_success(add_rules("a", rules, ARRAY_SIZE(rules)));
    expect(lets_in("a", "fred") && lets_in("a", "dana") && lets_in("a", "star*"));
    expect(!lets_in("a", "danb") && !lets_in("a", "bob") && !lets_in("a", "stars"));
    object_del_all();
}

NODE_TEST(without_rules_nobody_is_let_in)
{
    expect_success(add_rules("a", NULL, 0));
    expect(!lets_in("a", "") && !lets_in("a", "fred"));
    object_del_all();
}

NODE_TEST(rules_have_limits)
{
    struct q_auth_z_list_rule *rules = xcalloc(AUTHZ_RULES_MAX + 1, sizeof(*rules));
    for (size_t i = 0; i <= AUTHZ_RULES_MAX; i++)
        rules[i].match = "x";
    expect_error(add_rules("a", rules, AUTHZ_RULES_MAX + 1), "authz-list 'a': rules: 10001 are more than 10000");
    char long_match[AUTHZ_MATCH_BYTES_MAX + 2];
    memset(long_match, 'x', sizeof(long_match) - 1);
    long_match[sizeof(long_match) - 1] = '\0';
    rules[1].match = long_match;
    expect_error(add_rules("a", rules, 2), "authz-list 'a': rules.1.match: is longer than 4096 bytes");
    free(rules);
}

NODE_TEST(only_some_objects_can_be_asked)
{
    struct object_options options = { .qom_type = OBJECT_TYPE_SECRET, .id = "s", .u.secret.data = "x" };
    struct object *object;
    expect_success(object_add(&options));
    expect_error(authz_find("s", &object), "object 's' is a 'secret', but 'authz-list', 'authz-list-file' or");
    expect_error(authz_find("t", &object), "object 't' not found");
    object_del_all();
}

/* Rules in a file: here a file holds the one name that is let in, or "!" for something that is not valid. --------- */

static struct error *parse(const char *text, size_t bytes, struct arena *arena,
                           const struct auth_z_list_properties **out)
{
    if (bytes > 0 && *text == '!')
        return error_new("that is nothing");
    struct q_auth_z_list_rule *rule = arena_alloc(arena, sizeof(*rule));
    struct auth_z_list_properties *list = arena_alloc(arena, sizeof(*list));
    *rule =
        (struct q_auth_z_list_rule){ .match = arena_strndup(arena, text, bytes), .policy = Q_AUTH_Z_LIST_POLICY_ALLOW };
    *list = (struct auth_z_list_properties){ .has_rules = true, .rules = rule, .rules_count = 1 };
    *out = list;
    return NULL;
}

static void put_file(const char *name, const char *text)
{
    int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    expect(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static struct error *add_file(const char *id, const char *name, bool refresh)
{
    struct object_options options = {
        .qom_type = OBJECT_TYPE_AUTHZ_LIST_FILE,
        .id = id,
        .u.authz_list_file = { .filename = in_dir(name), .has_refresh = true, .refresh = refresh },
    };
    authz_set_parser(parse);
    return object_add(&options);
}

NODE_TEST(a_file_counts_as_it_is_now)
{
    put_file("rules", "fred");
    expect_success(add_file("a", "rules", true));
    expect(lets_in("a", "fred") && !lets_in("a", "bob"));
    put_file("rules", "bob");
    expect(!lets_in("a", "fred") && lets_in("a", "bob"));
    put_file("new", "dan");
    expect(rename(in_dir("new"), in_dir("rules")) == 0);
    expect(!lets_in("a", "bob") && lets_in("a", "dan"));
    object_del_all();
}

NODE_TEST(while_a_file_is_not_valid_nobody_is_let_in)
{
    struct object *object;
    struct error *why = NULL;
    put_file("rules", "fred");
    expect_success(add_file("a", "rules", true));
    put_file("rules", "!");
    expect_success(authz_find("a", &object));
    expect(!authz_allows(object, "fred", &why));
    expect_error(steal(&why), "rules': that is nothing");
    expect(unlink(in_dir("rules")) == 0);
    expect(!authz_allows(object, "fred", &why));
    expect_error(why, "No such file or directory");
    put_file("rules", "fred");
    expect(lets_in("a", "fred"));
    object_del_all();
}

NODE_TEST(without_refresh_a_file_counts_as_it_was)
{
    put_file("rules", "fred");
    expect_success(add_file("a", "rules", false));
    put_file("rules", "!");
    expect(lets_in("a", "fred"));
    object_del_all();
}

NODE_TEST(a_file_has_to_be_valid_at_first)
{
    expect_error(add_file("a", "nowhere", true), "No such file or directory");
    put_file("rules", "!");
    expect_error(add_file("a", "rules", true), "that is nothing");
    make_file("long", AUTHZ_FILE_BYTES_MAX + 1);
    expect_error(add_file("a", "long", true), "is longer than 1048576 bytes");
    expect(!object_find("a"));
}

struct asking {
    struct object *object;
    bool answer;
};

static void ask(void *arg)
{
    struct asking *asking = arg;
    CLEANUP(error_free) struct error *why = NULL;
    asking->answer = authz_allows(asking->object, "fred", &why);
}

NODE_TEST(an_object_may_go_while_its_file_is_read)
{
    struct asking asking = { 0 };
    struct co_group group;
    co_group_init(&group);
    put_file("rules", "fred");
    expect_success(add_file("a", "rules", true));
    expect_success(authz_find("a", &asking.object));
    co_group_start(&group, "asking", ask, &asking);
    expect_success(object_del("a"));
    co_group_join(&group);
    expect(asking.answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_are_those_of_shells),
        cmocka_unit_test(patterns_fit_what_fnmatch_says),
        cmocka_unit_test(no_pattern_takes_long),
        cmocka_unit_test(one_name_is_let_in),
        cmocka_unit_test(the_first_rule_that_fits_decides),
        cmocka_unit_test(without_rules_nobody_is_let_in),
        cmocka_unit_test(rules_have_limits),
        cmocka_unit_test(only_some_objects_can_be_asked),
        cmocka_unit_test(a_file_counts_as_it_is_now),
        cmocka_unit_test(while_a_file_is_not_valid_nobody_is_let_in),
        cmocka_unit_test(without_refresh_a_file_counts_as_it_was),
        cmocka_unit_test(a_file_has_to_be_valid_at_first),
        cmocka_unit_test(an_object_may_go_while_its_file_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
