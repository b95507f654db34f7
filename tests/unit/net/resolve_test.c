/* Addresses to what connect() takes. */
#include "blockcore/net/resolve.h"

#include "schema/cairn_types.h"
#include "tests/unit/base/unit.h"

#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

static struct socket_address inet(const char *host, const char *port)
{
    return (struct socket_address){ .type = SOCKET_ADDRESS_TYPE_INET, .u.inet = { .host = host, .port = port } };
}

static struct socket_address unix_path(const char *path, bool abstract)
{
    return (struct socket_address){ .type = SOCKET_ADDRESS_TYPE_UNIX,
                                    .u.unix_ = { .path = path, .abstract = abstract, .tight = true } };
}

static void expect_error(const struct socket_address *address, const char *part)
{
    struct resolved resolved;
    struct error *err = resolve(address, &resolved);
    assert_non_null(err);
    if (!strstr(error_message(err), part))
        fail_msg("\"%s\" does not contain \"%s\"", error_message(err), part);
    error_free(err);
}

static void numbers_are_quick(void **state)
{
    (void)state;
    struct resolved resolved;
    struct socket_address four = inet("127.0.0.1", "10809");
    assert_true(resolve_is_quick(&four));
    assert_null(resolve(&four, &resolved));
    assert_int_equal(resolved.count, 1);
    const struct sockaddr_in *address = (const struct sockaddr_in *)&resolved.items[0].address;
    assert_int_equal(address->sin_family, AF_INET);
    assert_int_equal(ntohs(address->sin_port), 10809);
    assert_int_equal(ntohl(address->sin_addr.s_addr), INADDR_LOOPBACK);

    struct socket_address six = inet("::1", "1");
    assert_true(resolve_is_quick(&six));
    struct socket_address name = inet("localhost", "1");
    assert_false(resolve_is_quick(&name));
    struct error *err = resolve(&name, &resolved);
    if (err) /* a machine without /etc/hosts */
        assert_non_null(strstr(error_message(err), "localhost"));
    else
        assert_true(resolved.count > 0);
    error_free(err);
}

static void paths_are_taken_as_they_are(void **state)
{
    (void)state;
    struct resolved resolved;
    struct socket_address path = unix_path("/run/nbd.sock", false);
    assert_true(resolve_is_quick(&path));
    assert_null(resolve(&path, &resolved));
    const struct sockaddr_un *address = (const struct sockaddr_un *)&resolved.items[0].address;
    assert_string_equal(address->sun_path, "/run/nbd.sock");

    struct socket_address name = unix_path("nbd", true);
    assert_null(resolve(&name, &resolved));
    assert_memory_equal(address->sun_path, "\0nbd", 4);
    assert_int_equal(resolved.items[0].bytes, offsetof(struct sockaddr_un, sun_path) + 4);
}

static void what_makes_no_address_is_an_error(void **state)
{
    (void)state;
    char long_path[200];
    memset(long_path, 'x', sizeof(long_path));
    long_path[sizeof(long_path) - 1] = '\0';
    struct socket_address address = unix_path(long_path, false);
    expect_error(&address, "is too long: at most 107 bytes");
    address = unix_path("", false);
    expect_error(&address, "is empty");
    address = inet("1.2.3.4.5", "x y");
    expect_error(&address, "cannot look up '1.2.3.4.5:x y'");
    address = (struct socket_address){ .type = SOCKET_ADDRESS_TYPE_VSOCK, .u.vsock = { .cid = "-1", .port = "1" } };
    expect_error(&address, "'-1' is not a vsock cid");
    address = (struct socket_address){ .type = SOCKET_ADDRESS_TYPE_FD, .u.fd = { .str = "3" } };
    expect_error(&address, "cannot be looked up");
}

static void a_copy_has_its_own_strings(void **state)
{
    (void)state;
    char host[] = "127.0.0.1";
    struct socket_address address = inet(host, "1");
    struct socket_address *copy = address_copy(&address);
    host[0] = 'x';
    assert_string_equal(copy->u.inet.host, "127.0.0.1");
    assert_string_equal(copy->u.inet.port, "1");
    address_free(copy);
    address_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_quick),
        cmocka_unit_test(paths_are_taken_as_they_are),
        cmocka_unit_test(what_makes_no_address_is_an_error),
        cmocka_unit_test(a_copy_has_its_own_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
