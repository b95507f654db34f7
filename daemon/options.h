/* options - the command line
 *
 * Spelled like qemu-storage-daemon's. All of it is decoded first; what it asks for is then made in the order given, so
 * things must be defined before others refer to them. */
#ifndef CAIRN_DAEMON_OPTIONS_H
#define CAIRN_DAEMON_OPTIONS_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/arena.h"
#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct config;
struct option_kind;

/* Something to be made. */
struct option_item {
    const struct option_kind *kind;
    const char *text;      /* as given, without secrets */
    const void *value;     /* as decoded: what kind->add takes */
    struct config *config; /* of --config; else NULL */
};

struct options {
    struct arena arena; /* of all values */
    struct option_item *items;
    size_t count;
    const struct image_policy_options *image_policy; /* NULL: the default; begins before anything is made */
    const struct policy_options *policy;             /* NULL: clients may name everything */
    const struct sandbox_options *sandbox;           /* NULL: none */
    const struct limits_options *limits;             /* NULL: the defaults */
    const struct audit_options *audit;               /* NULL: no audit log */
    const struct metrics_options *metrics;           /* NULL: not served */
    const char *pidfile;                             /* NULL: none */
    bool daemonize;
    bool check;
    unsigned io_threads; /* 0: by default */
};

/* Decodes the command line. --help and --version print and end the process with status 0. */
struct error *options_parse(int argc, char **argv, struct options *out) MUST_CHECK;
void options_fini(struct options *options);

/* Looks for mistakes without touching anything (--check). */
struct error *options_check(const struct options *options) MUST_CHECK;

/* Makes what @item asks for. Errors name the option. */
struct error *option_item_add(const struct option_item *item) CO_FN CONTROL_FN MUST_CHECK;

#endif
