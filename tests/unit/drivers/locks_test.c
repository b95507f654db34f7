/* Byte locks: that two programs do not write one image together. The other program is a descriptor of the test's own,
 * and QEMU's tools where they are installed. */
#include "tests/unit/drivers/nodes.h"

static int lock(int fd, int byte, short type)
{
    struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
    return fcntl(fd, F_OFD_SETLK, &lock);
}

/* Somebody else: holds the file open, and nothing locked yet. */
static int stranger(const char *name)
{
    int fd = open(in_dir(name), O_RDWR | O_CLOEXEC);
    expect(fd >= 0);
    return fd;
}

/* The bytes that others than @fd have locked, as text: "100 101 203". */
static const char *locked_bytes(int fd)
{
    static char text[128];
    size_t used = 0;
    text[0] = '\0';
    for (int byte = 0; byte < 300; byte++) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
        expect(fcntl(fd, F_OFD_GETLK, &lock) == 0);
        if (lock.l_type != F_UNLCK)
            used += (size_t)snprintf(text + used, sizeof(text) - used, used ? " %d" : "%d", byte);
    }
    return text;
}

static struct error *try_handle(const char *node_name, unsigned perm, unsigned shared, struct handle **out)
{
    return handle_open(node_find(node_name), "the test", perm, shared, out);
}

NODE_TEST(permissions_are_locked_in_the_bytes_that_qemu_uses)
{
    make_file("a.img", MIB);
    int fd = stranger("a.img");
    add(file_options("disk", in_dir("a.img")));
    expect_text(locked_bytes(fd), "");

    struct handle *reader;
    struct handle *writer;
    expect_success(try_handle("disk", READ, PERM_ALL, &reader));
    expect_text(locked_bytes(fd), "100");
    expect_success(try_handle("disk", READ_WRITE, PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED, &writer));
    expect_text(locked_bytes(fd), "100 101 201 203");
    handle_close(writer);
    expect_text(locked_bytes(fd), "100");
    handle_close(reader);
    expect_text(locked_bytes(fd), "");
    close(fd);
}

NODE_TEST(what_another_process_does_not_share_is_refused)
{
    make_file("a.img", MIB);
    int fd = stranger("a.img");
    add(file_options("disk", in_dir("a.img")));
    struct handle *reader;
    struct handle *writer;
    expect_success(try_handle("disk", READ, PERM_ALL, &reader));

    expect(lock(fd, 201, F_RDLCK) == 0);
    char expected[256];
    snprintf(expected, sizeof(expected), "'%s' is in use: another process or node does not share permission 'write'",
             in_dir("a.img"));
    expect_error(try_handle("disk", READ_WRITE, PERM_ALL, &writer), expected);
    /* What was held is still held, and no more. */
    expect_text(locked_bytes(fd), "100");

    expect(lock(fd, 201, F_UNLCK) == 0);
    expect_success(try_handle("disk", READ_WRITE, PERM_ALL, &writer));
    expect_text(locked_bytes(fd), "100 101");
    handle_close(writer);
    handle_close(reader);
    close(fd);
}

NODE_TEST(what_another_process_holds_must_be_shared)
{
    make_file("a.img", MIB);
    int fd = stranger("a.img");
    expect(lock(fd, 101, F_RDLCK) == 0);
    add(file_options("disk", in_dir("a.img")));
    struct handle *handle;
    expect_error(try_handle("disk", READ, PERM_ALL & ~PERM_WRITE, &handle),
                 "another process or node holds, and would have to share, permission 'write'");
    expect_text(locked_bytes(fd), "");
    expect_success(try_handle("disk", READ, PERM_ALL, &handle));
    handle_close(handle);
    close(fd);
}

NODE_TEST(force_share_minds_no_writer)
{
    make_file("a.img", MIB);
    int fd = stranger("a.img");
    expect(lock(fd, 101, F_RDLCK) == 0);
    struct blockdev_options options = file_options("disk", in_dir("a.img"));
    options.has_read_only = options.read_only = true;
    options.has_force_share = options.force_share = true;
    add(options);
    struct handle *handle;
    expect_success(try_handle("disk", READ, PERM_ALL & ~PERM_WRITE, &handle));
    expect_text(locked_bytes(fd), "100");
    handle_close(handle);
    close(fd);
}

NODE_TEST(locking_can_be_switched_off)
{
    make_file("a.img", MIB);
    int fd = stranger("a.img");
    expect(lock(fd, 201, F_RDLCK) == 0);
    struct blockdev_options options = file_options("disk", in_dir("a.img"));
    options.u.file.has_locking = true;
    options.u.file.locking = ON_OFF_AUTO_OFF;
    add(options);
    struct handle *handle;
    expect_success(try_handle("disk", READ_WRITE, PERM_ALL, &handle));
    expect_text(locked_bytes(fd), "");
    handle_close(handle);
    close(fd);
}

NODE_TEST(two_nodes_on_one_file_respect_each_other)
{
    make_file("a.img", MIB);
    add(file_options("one", in_dir("a.img")));
    add(file_options("two", in_dir("a.img")));
    struct handle *one;
    struct handle *two;
    expect_success(try_handle("one", READ_WRITE, READ, &one));
    expect_error(try_handle("two", READ_WRITE, PERM_ALL, &two),
                 "is in use: node 'one', used by the test, does not share permission 'write'");
    expect_error(try_handle("two", READ, READ, &two),
                 "is in use: node 'one', used by the test, holds, and would have to share, permission 'write'");
    expect_success(try_handle("two", READ, PERM_ALL, &two));
    handle_close(one);
    handle_close(two);
}

NODE_TEST(locks_move_along_when_the_access_mode_changes)
{
    make_file("a.img", MIB);
    struct blockdev_options options = file_options("disk", in_dir("a.img"));
    options.has_auto_read_only = options.auto_read_only = true;
    add(options);
    /* As a request would that still runs when the mode changes. */
    int running = fcntl(find_descriptor(in_dir("a.img")), F_DUPFD_CLOEXEC, 0);
    expect(running >= 0);
    int fd = stranger("a.img");
    struct handle *reader;
    struct handle *writer;
    expect_success(try_handle("disk", READ, PERM_ALL, &reader));
    for (int i = 0; i < 3; i++) {
        expect_success(try_handle("disk", READ_WRITE, PERM_ALL & ~PERM_WRITE, &writer));
        expect_text(locked_bytes(fd), "100 101 201");
        handle_close(writer);
        expect_text(locked_bytes(fd), "100");
    }
    expect(lock(fd, 201, F_RDLCK) == 0);
    expect_error(try_handle("disk", READ_WRITE, PERM_ALL, &writer), "is in use");
    expect_text(locked_bytes(fd), "100");
    handle_close(reader);
    expect_text(locked_bytes(fd), "");
    close(running);
    close(fd);
}

/* QEMU ---------------------------------------------------------------------------------------------------------- */

static bool qemu_is_there(void)
{
    char output[512];
    return run_command("qemu-img --version && qemu-io --version", output, sizeof(output)) == 0;
}

/* Runs "@command a.img". */
static int qemu(const char *command, char *output, size_t output_bytes)
{
    char line[256];
    snprintf(line, sizeof(line), "%s %s", command, in_dir("a.img"));
    return run_command(line, output, output_bytes);
}

static void make_qcow2(void)
{
    char command[256];
    char output[512];
    snprintf(command, sizeof(command), "qemu-img create -f qcow2 %s 1M", in_dir("a.img"));
    expect_int(run_command(command, output, sizeof(output)), 0);
}

NODE_TEST(qemu_does_not_write_what_we_write)
{
    char output[4096];
    if (!qemu_is_there())
        return;
    make_qcow2();
    add(file_options("disk", in_dir("a.img")));
    struct handle *handle;
    expect_success(try_handle("disk", READ_WRITE, READ, &handle));
    expect(qemu("qemu-io -f raw -c 'write 0 512'", output, sizeof(output)) != 0);
    expect(strstr(output, "Failed to get \"write\" lock"));
    /* A qcow2 image cannot be looked at while its tables change. */
    expect(qemu("qemu-img info -f qcow2", output, sizeof(output)) != 0);
    expect(strstr(output, "Failed to get shared \"write\" lock"));
    expect_int(qemu("qemu-img info -U -f qcow2", output, sizeof(output)), 0);
    handle_close(handle);

    expect_success(try_handle("disk", READ, READ, &handle));
    expect_int(qemu("qemu-img info -f qcow2", output, sizeof(output)), 0);
    expect(qemu("qemu-io -f raw -c 'write 0 512'", output, sizeof(output)) != 0);
    handle_close(handle);
    expect_int(qemu("qemu-io -f raw -c 'write 0 512'", output, sizeof(output)), 0);
}

/* qemu-io has the image open for as long as it waits for commands. */
static void while_qemu_has_it_open(const char *command, void (*body)(void))
{
    int to_child[2];
    int from_child[2];
    expect(pipe2(to_child, O_CLOEXEC) == 0 && pipe2(from_child, O_CLOEXEC) == 0);
    pid_t pid = fork();
    expect(pid >= 0);
    if (pid == 0) {
        dup2(to_child[0], 0);
        dup2(from_child[1], 1);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(to_child[0]);
    close(from_child[1]);
    char prompt[8];
    expect(read(from_child[0], prompt, sizeof(prompt)) > 0);
    body();
    close(to_child[1]);
    int status;
    expect(waitpid(pid, &status, 0) == pid);
    close(from_child[0]);
}

static void open_what_qemu_writes(void)
{
    struct handle *handle;
    expect_error(try_handle("disk", READ_WRITE, PERM_ALL, &handle), "does not share permission 'write'");
    expect_error(try_handle("disk", READ, READ, &handle), "permission 'write'");
    expect_success(try_handle("disk", READ, PERM_ALL, &handle));
    handle_close(handle);

    struct blockdev_create_options options = {
        .driver = BLOCKDEV_DRIVER_FILE,
        .u.file = { .filename = in_dir("a.img"), .size = 0 },
    };
    expect_error(driver_find("file")->create(&options), "is in use");
    struct stat st;
    expect(stat(in_dir("a.img"), &st) == 0 && st.st_size > 0);
}

NODE_TEST(we_do_not_write_what_qemu_writes)
{
    if (!qemu_is_there())
        return;
    make_qcow2();
    add(file_options("disk", in_dir("a.img")));
    char command[256];
    snprintf(command, sizeof(command), "exec qemu-io -f qcow2 %s", in_dir("a.img"));
    while_qemu_has_it_open(command, open_what_qemu_writes);
    struct handle *handle;
    expect_success(try_handle("disk", READ_WRITE, PERM_ALL, &handle));
    handle_close(handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permissions_are_locked_in_the_bytes_that_qemu_uses),
        cmocka_unit_test(what_another_process_does_not_share_is_refused),
        cmocka_unit_test(what_another_process_holds_must_be_shared),
        cmocka_unit_test(force_share_minds_no_writer),
        cmocka_unit_test(locking_can_be_switched_off),
        cmocka_unit_test(two_nodes_on_one_file_respect_each_other),
        cmocka_unit_test(locks_move_along_when_the_access_mode_changes),
        cmocka_unit_test(qemu_does_not_write_what_we_write),
        cmocka_unit_test(we_do_not_write_what_qemu_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
