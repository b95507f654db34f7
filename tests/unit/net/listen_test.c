/* From addresses to sockets that listen: what is taken, what is replaced, what is left alone, what is removed. */
#include "blockcore/net/listen.h"

#include "blockcore/net/address.h"
#include "tests/unit/drivers/nodes.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct socket_address unix_address(const char *path)
{
    return (struct socket_address){ .type = SOCKET_ADDRESS_TYPE_UNIX, .u.unix_ = { .path = path } };
}

static struct socket_address inet_address(const char *host, const char *port)
{
    return (struct socket_address){ .type = SOCKET_ADDRESS_TYPE_INET, .u.inet = { .host = host, .port = port } };
}

static struct listening listens(struct socket_address address)
{
    struct listening listening;
    expect_success(listen_at(&address, &listening));
    expect(listening.count > 0);
    return listening;
}

static void listens_not(struct socket_address address, const char *part)
{
    struct listening untouched = { .count = 4711 };
    expect_error(listen_at(&address, &untouched), part);
    expect_int(untouched.count, 4711);
}

/* 0 or -errno. */
static int try_connect(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int ret = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : -errno;
    close(fd);
    return ret;
}

/* A socket that its owner left behind. */
static void leave_dead_socket(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    expect(bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
    close(fd);
    expect_int(try_connect(path), -ECONNREFUSED);
}

static unsigned port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t bytes = sizeof(address);
    expect(getsockname(fd, (struct sockaddr *)&address, &bytes) == 0);
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&address)->sin6_port
                                               : ((struct sockaddr_in *)(void *)&address)->sin_port);
}

static int family_of(int fd)
{
    int family;
    socklen_t bytes = sizeof(family);
    expect(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &bytes) == 0);
    return family;
}

/* Unix sockets -------------------------------------------------------------------------------------------------- */

NODE_TEST(a_unix_socket_is_for_its_owner_only)
{
    struct stat st;
    mode_t mask = umask(0);
    struct listening listening = listens(unix_address(in_dir("s")));
    umask(mask);
    expect(stat(in_dir("s"), &st) == 0);
    expect_int(st.st_mode, S_IFSOCK | 0600);
    expect_int(try_connect(in_dir("s")), 0);
    listening_close(&listening);
    expect(access(in_dir("s"), F_OK) < 0);
    listening_close(&listening);
}

NODE_TEST(a_dead_socket_is_replaced)
{
    leave_dead_socket(in_dir("s"));
    struct listening listening = listens(unix_address(in_dir("s")));
    expect_int(try_connect(in_dir("s")), 0);
    listening_close(&listening);
}

NODE_TEST(a_live_socket_is_left_alone)
{
    struct listening first = listens(unix_address(in_dir("s")));
    listens_not(unix_address(in_dir("s")), "somebody listens at");
    expect_int(try_connect(in_dir("s")), 0);
    listening_close(&first);
}

NODE_TEST(what_is_no_socket_is_left_alone)
{
    make_file("s", 10);
    listens_not(unix_address(in_dir("s")), "exists and is not a socket");
    struct stat st;
    expect(stat(in_dir("s"), &st) == 0 && st.st_size == 10);
    expect(symlink("nowhere", in_dir("link")) == 0);
    listens_not(unix_address(in_dir("link")), "exists and is not a socket");
}

/* Somebody removed ours and listens there now. */
NODE_TEST(a_socket_of_somebody_else_is_not_removed)
{
    struct listening first = listens(unix_address(in_dir("s")));
    expect(unlink(in_dir("s")) == 0);
    struct listening second = listens(unix_address(in_dir("s")));
    listening_close(&first);
    expect_int(try_connect(in_dir("s")), 0);
    listening_close(&second);
    expect(access(in_dir("s"), F_OK) < 0);
}

NODE_TEST(paths_that_cannot_be_are_refused)
{
    char path[200];
    memset(path, 'p', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    listens_not(unix_address(path), "is too long");
    listens_not(unix_address(""), "is empty");
    listens_not(unix_address(in_dir("no/such/dir")), "No such file or directory");
}

NODE_TEST(abstract_names_leave_no_file)
{
    struct socket_address address = unix_address("cairn-test-of-abstract-names");
    address.u.unix_.has_abstract = address.u.unix_.abstract = true;
    struct listening listening = listens(address);
    expect(access(address.u.unix_.path, F_OK) < 0);
    listens_not(address, "Address already in use");
    address.u.unix_.has_tight = true;
    address.u.unix_.tight = false;
    struct listening padded = listens(address);
    listening_close(&padded);
    listening_close(&listening);
}

struct starter {
    const char *path;
    struct listening listening;
    struct error *err;
};

static void start_here(void *arg)
{
    struct starter *starter = arg;
    struct socket_address address = unix_address(starter->path);
    starter->err = listen_at(&address, &starter->listening);
}

/* All find a dead socket at the same moment; one gets it, and the others see that. */
NODE_TEST(of_several_that_start_at_once_one_wins)
{
    struct starter starters[8];
    struct co_group group;
    const char *path = in_dir("s");
    unsigned winners = 0;
    leave_dead_socket(path);
    co_group_init(&group);
    for (unsigned i = 0; i < 8; i++) {
        starters[i] = (struct starter){ .path = path };
        co_group_start(&group, "starter", start_here, &starters[i]);
    }
    co_group_join(&group);
    expect_int(try_connect(path), 0);
    for (unsigned i = 0; i < 8; i++) {
        if (starters[i].err)
            expect_error(starters[i].err, "somebody listens at");
        else
            winners++;
        listening_close(&starters[i].listening);
    }
    expect_int(winners, 1);
}

/* Host and port --------------------------------------------------------------------------------------------------- */

NODE_TEST(port_0_is_the_same_for_all_addresses)
{
    struct listening listening = listens(inet_address("", "0"));
    unsigned port = port_of(listening.fds[0]);
    expect(port > 0);
    for (unsigned i = 1; i < listening.count; i++)
        expect_int(port_of(listening.fds[i]), port);
    listening_close(&listening);
}

NODE_TEST(the_first_free_port_of_a_range_is_taken)
{
    char port[16];
    struct listening first = listens(inet_address("127.0.0.1", "0"));
    unsigned taken = port_of(first.fds[0]);
    snprintf(port, sizeof(port), "%u", taken);
    struct socket_address address = inet_address("127.0.0.1", port);
    listens_not(address, "Address already in use");
    address.u.inet.has_to = true;
    address.u.inet.to = (uint16_t)(taken < 65500 ? taken + 30 : 65535);
    struct listening second = listens(address);
    expect(port_of(second.fds[0]) > taken);
    listening_close(&second);
    listening_close(&first);
}

NODE_TEST(families_can_be_chosen)
{
    struct socket_address address = inet_address("", "0");
    address.u.inet.has_ipv6 = true;
    address.u.inet.ipv6 = false;
    struct listening listening = listens(address);
    for (unsigned i = 0; i < listening.count; i++)
        expect_int(family_of(listening.fds[i]), AF_INET);
    listening_close(&listening);

    address.u.inet.has_ipv6 = false;
    address.u.inet.has_ipv4 = address.u.inet.ipv4 = true;
    listening = listens(address);
    expect_int(listening.count, 1);
    expect_int(family_of(listening.fds[0]), AF_INET);
    listening_close(&listening);

    address.u.inet.ipv4 = false;
    address.u.inet.has_ipv6 = true;
    listens_not(address, "cannot both be disabled");
    address = inet_address("127.0.0.1", "0");
    address.u.inet.has_ipv4 = true;
    listens_not(address, "cannot look up '127.0.0.1:0'");
}

NODE_TEST(ports_that_cannot_be_are_refused)
{
    listens_not(inet_address("127.0.0.1", "65536"), "'65536' is not a port");
    listens_not(inet_address("127.0.0.1", "70000"), "'70000' is not a port");
    listens_not(inet_address("127.0.0.1", "80x"), "'80x' is not a port");
    listens_not(inet_address("127.0.0.1", "no-such-service"), "cannot look up '127.0.0.1:no-such-service'");
    struct socket_address address = inet_address("127.0.0.1", "10809");
    address.u.inet.has_to = true;
    address.u.inet.to = 10;
    listens_not(address, "is empty");
}

NODE_TEST(numeric_hosts_are_not_looked_up)
{
    struct socket_address address = inet_address("localhost", "0");
    address.u.inet.has_numeric = address.u.inet.numeric = true;
    listens_not(address, "cannot look up 'localhost:0'");
}

/* Descriptors ------------------------------------------------------------------------------------------------------ */

NODE_TEST(a_descriptor_that_listens_is_taken_over)
{
    char number[16];
    struct listening first = listens(inet_address("127.0.0.1", "0"));
    int fd = dup(first.fds[0]);
    expect(fd >= 0 && fcntl(fd, F_SETFL, 0) == 0);
    snprintf(number, sizeof(number), "%d", fd);
    struct socket_address address = { .type = SOCKET_ADDRESS_TYPE_FD, .u.fd = { .str = number } };
    struct listening second = listens(address);
    expect_int(second.fds[0], fd);
    expect(fcntl(fd, F_GETFL) & O_NONBLOCK);
    expect_int(fcntl(fd, F_GETFD), FD_CLOEXEC);
    listening_close(&second);
    expect(fcntl(fd, F_GETFD) < 0);
    listening_close(&first);
}

NODE_TEST(other_descriptors_are_refused)
{
    struct socket_address address = { .type = SOCKET_ADDRESS_TYPE_FD, .u.fd = { .str = "stdin" } };
    listens_not(address, "'stdin' is neither the number of a descriptor");
    address.u.fd.str = "-1";
    listens_not(address, "is neither the number of a descriptor");
    address.u.fd.str = "9999";
    listens_not(address, "descriptor 9999 is not a socket");
    char number[16];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(number, sizeof(number), "%d", fd);
    address.u.fd.str = number;
    listens_not(address, "is not a socket that listens");
    close(fd);
}

NODE_TEST(addresses_have_a_text)
{
    struct socket_address addresses[] = { unix_address("/run/x"), inet_address("::1", "7"), inet_address("h", "7") };
    static const char *const texts[] = { "unix:/run/x", "[::1]:7", "h:7" };
    for (unsigned i = 0; i < 3; i++) {
        char *text = address_describe(&addresses[i]);
        expect_text(text, texts[i]);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unix_socket_is_for_its_owner_only),
        cmocka_unit_test(a_dead_socket_is_replaced),
        cmocka_unit_test(a_live_socket_is_left_alone),
        cmocka_unit_test(what_is_no_socket_is_left_alone),
        cmocka_unit_test(a_socket_of_somebody_else_is_not_removed),
        cmocka_unit_test(paths_that_cannot_be_are_refused),
        cmocka_unit_test(abstract_names_leave_no_file),
        cmocka_unit_test(of_several_that_start_at_once_one_wins),
        cmocka_unit_test(port_0_is_the_same_for_all_addresses),
        cmocka_unit_test(the_first_free_port_of_a_range_is_taken),
        cmocka_unit_test(families_can_be_chosen),
        cmocka_unit_test(ports_that_cannot_be_are_refused),
        cmocka_unit_test(numeric_hosts_are_not_looked_up),
        cmocka_unit_test(a_descriptor_that_listens_is_taken_over),
        cmocka_unit_test(other_descriptors_are_refused),
        cmocka_unit_test(addresses_have_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
