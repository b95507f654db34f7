/* loop_device - a file as a block device; only root may make one. It goes when nobody has it open any more. */
#ifndef CAIRN_TESTS_LOOP_DEVICE_H
#define CAIRN_TESTS_LOOP_DEVICE_H

#include <fcntl.h>
#include <linux/loop.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct loop_device {
    char path[32];
    int fd;
};

/* False where this machine gives us none. */
static inline bool loop_attach(struct loop_device *device, const char *image, bool read_only)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
    if (control >= 0)
        close(control);
    if (number < 0)
        return false;
    snprintf(device->path, sizeof(device->path), "/dev/loop%d", number);
    device->fd = open(device->path, O_RDWR | O_CLOEXEC);
    int backing = open(image, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    struct loop_config config = {
        .fd = (unsigned)backing,
        .info = { .lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0) },
    };
    bool attached = device->fd >= 0 && backing >= 0 && ioctl(device->fd, LOOP_CONFIGURE, &config) == 0;
    if (backing >= 0)
        close(backing);
    if (!attached && device->fd >= 0)
        close(device->fd);
    return attached;
}

#endif
