#include "daemon/options.h"

#include "blockcore/base/memory.h"
#include "blockcore/export/export.h"
#include "blockcore/export/nbd/server.h"
#include "blockcore/graph/node.h"
#include "blockcore/objects/object.h"
#include "daemon/audit.h"
#include "daemon/chardev.h"
#include "daemon/check.h"
#include "daemon/config.h"
#include "daemon/help.h"
#include "daemon/log.h"
#include "daemon/monitor.h"
#include "daemon/object.h"
#include "daemon/option_text.h"
#include "daemon/path.h"
#include "daemon/trace.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/decode.h"
#include "schema/codec/json_parse.h"
#include "schema/codec/keyval.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum syntax {
    SYNTAX_KEYVAL, /* key=value with dots, or JSON */
    SYNTAX_FLAGS,  /* key=value and flags */
};

struct option_kind {
    const char *name;
    enum syntax syntax;
    const char *implied_key;
    const struct type_descriptor *type;
    struct error *(*check)(struct check *check, const void *value);
    struct error *(*add)(const void *value)CO_FN;
};

/* Gives the untyped value its type. */
#define DEFINE_KIND(kind, options_type, add_function)                                                                  \
    static struct error *CO_FN add_##kind(const void *value)                                                           \
    {                                                                                                                  \
        const struct options_type *options = value;                                                                    \
        return add_function(options);                                                                                  \
    }                                                                                                                  \
    static struct error *check_##kind##_value(struct check *check, const void *value)                                  \
    {                                                                                                                  \
        const struct options_type *options = value;                                                                    \
        return check_##kind(check, options);                                                                           \
    }

DEFINE_KIND(blockdev, blockdev_options, blockdev_add)
DEFINE_KIND(chardev, chardev_options, chardev_add)
DEFINE_KIND(export, block_export_options, export_add)
DEFINE_KIND(monitor, monitor_options, monitor_add)
DEFINE_KIND(nbd_server, nbd_server_options, nbd_server_add)
DEFINE_KIND(object, object_options, object_add)

static const struct option_kind blockdev_kind = {
    "--blockdev", SYNTAX_KEYVAL, "driver", &blockdev_options_descriptor, check_blockdev_value, add_blockdev,
};
static const struct option_kind chardev_kind = {
    "--chardev", SYNTAX_FLAGS, "backend", &chardev_options_descriptor, check_chardev_value, add_chardev,
};
static const struct option_kind export_kind = {
    "--export", SYNTAX_KEYVAL, "type", &block_export_options_descriptor, check_export_value, add_export,
};
static const struct option_kind monitor_kind = {
    "--monitor", SYNTAX_KEYVAL, "chardev", &monitor_options_descriptor, check_monitor_value, add_monitor,
};
static const struct option_kind nbd_server_kind = {
    "--nbd-server", SYNTAX_KEYVAL, NULL, &nbd_server_options_descriptor, check_nbd_server_value, add_nbd_server,
};
static const struct option_kind object_kind = {
    "--object", SYNTAX_KEYVAL, "qom-type", &object_options_descriptor, check_object_value, add_object,
};
static const struct option_kind config_kind = { .name = "--config" };

static bool is_json(const struct option_kind *kind, const char *text)
{
    return kind->syntax == SYNTAX_KEYVAL && *text == '{';
}

static struct error *parse(const struct option_kind *kind, const char *text, json_t **tree)
{
    if (is_json(kind, text))
        return json_parse(text, strlen(text), JSON_VALUES_MAX, tree);
    if (kind->syntax == SYNTAX_KEYVAL)
        return keyval_parse(text, kind->implied_key, tree);
    return keyval_parse_flags(text, kind->implied_key, tree);
}

/* Who knows them from qemu-storage-daemon shall not look for a typing mistake. */
static struct error *check_built_in(const char *export_type)
{
    static const char *const others[] = { "fuse", "vduse-blk", "vhost-user-blk" };
    for (size_t i = 0; export_type && i < ARRAY_SIZE(others); i++) {
        if (strcmp(export_type, others[i]) == 0)
            return error_new("exports of type '%s' are not built in, only 'nbd' is", export_type);
    }
    return NULL;
}

/* @has_secret: what is wrong with the text is not quoted, it may be a part of the secret. */
static struct error *decode(const struct option_kind *kind, const char *text, bool has_secret, struct arena *arena,
                            void **value)
{
    json_t *tree = NULL;
    struct error *err = parse(kind, text, &tree);
    if (!err && kind->type == &block_export_options_descriptor)
        err = check_built_in(json_string_value(json_object_get(tree, "type")));
    if (err && has_secret) {
        error_free(err);
        return error_new("the text is malformed (a comma in a value is doubled)");
    }
    if (!err)
        err = decode_value(kind->type, tree, is_json(kind, text) ? DECODE_JSON : DECODE_TEXT, "", arena, value, NULL);
    json_decref(tree);
    return err;
}

static void append_item(struct options *options, const struct option_item *item)
{
    options->items = xrealloc_array(options->items, options->count + 1, sizeof(*options->items));
    options->items[options->count++] = *item;
}

static struct error *take_item(struct options *options, const struct option_kind *kind, const char *text)
{
    const char *shown = option_text_shown(kind->type, text, &options->arena);
    if (*text != '{' && keyval_wants_help(text))
        return error_new("%s %s: Help is not available for this option", kind->name, shown);
    struct option_item item = { .kind = kind, .text = shown };
    void *value = NULL;
    struct error *err = decode(kind, text, shown != text, &options->arena, &value);
    if (err)
        return error_wrap(err, "%s %s", kind->name, shown);
    item.value = value;
    append_item(options, &item);
    return NULL;
}

/* What is there once for the whole process, from the command line or a file. */
static struct error *set_once(void *slot, const void *value)
{
    const void *now;
    memcpy(&now, slot, sizeof(now));
    if (now && value)
        return error_new("this is given twice");
    if (value)
        memcpy(slot, &value, sizeof(value));
    return NULL;
}

static struct error *take_once(struct options *options, const char *name, const struct type_descriptor *type,
                               void *slot, const char *text)
{
    bool has_mode = type == &sandbox_options_descriptor;
    const struct option_kind kind = {
        .name = name,
        .syntax = SYNTAX_KEYVAL,
        .implied_key = has_mode ? "mode" : NULL,
        .type = type,
    };
    void *value = NULL;
    struct error *err = decode(&kind, text, false, &options->arena, &value);
    if (!err)
        err = set_once(slot, value);
    return error_wrap(err, "%s %s", name, text);
}

/* The same from a file. */
static struct error *take_facilities(struct options *options, const struct config *config)
{
    const struct cairn_config *values = config_values(config);
    struct error *err = config_error(config, "image-policy", set_once(&options->image_policy, values->image_policy));
    if (!err)
        err = config_error(config, "audit", set_once(&options->audit, values->audit));
    if (!err)
        err = config_error(config, "metrics", set_once(&options->metrics, values->metrics));
    if (!err)
        err = config_error(config, "policy", set_once(&options->policy, values->policy));
    if (!err)
        err = config_error(config, "limits", set_once(&options->limits, values->limits));
    if (!err)
        err = config_error(config, "sandbox", set_once(&options->sandbox, values->sandbox));
    return err;
}

static struct error *apply_log_and_traces(const struct config *config, const struct cairn_config *values)
{
    struct error *err = NULL;
    if (values->log)
        log_apply(values->log);
    for (size_t i = 0; i < values->trace_count && !err; i++)
        err = config_error(config, "trace", trace_apply(&values->trace[i]));
    return err;
}

static struct error *take_config(struct options *options, const char *path)
{
    struct option_item item = { .kind = &config_kind, .text = path };
    struct error *err = config_load(&path, 1, false, &item.config);
    for (size_t i = 0; i < options->count && !err; i++) {
        if (options->items[i].config)
            err = config_check_once(item.config, options->items[i].config);
    }
    if (err) {
        config_destroy(item.config);
        return err;
    }
    append_item(options, &item);
    const struct cairn_config *values = config_values(item.config);
    if (values->has_io_threads)
        options->io_threads = values->io_threads;
    if (values->pidfile && !options->pidfile)
        options->pidfile = values->pidfile;
    err = apply_log_and_traces(item.config, values);
    return err ? err : take_facilities(options, item.config);
}

static struct error *take_log(struct options *options, const char *text)
{
    static const struct option_kind kind = {
        "--log", SYNTAX_FLAGS, "level", &log_options_descriptor, NULL, NULL,
    };
    void *value = NULL;
    struct error *err = decode(&kind, text, false, &options->arena, &value);
    if (!err)
        log_apply(value);
    return error_wrap(err, "--log %s", text);
}

static struct error *take_log_level(const char *name)
{
    int level = log_level_parse(name);
    if (level < 0)
        return error_new("--log-level %s: the levels are error, warning, info and debug", name);
    log_set_level((enum log_level)level);
    return NULL;
}

static struct error *take_trace(struct options *options, const char *text)
{
    static const struct option_kind kind = {
        "--trace", SYNTAX_FLAGS, "enable", &trace_options_descriptor, NULL, NULL,
    };
    if (keyval_wants_help(text))
        help_trace();
    void *value = NULL;
    struct error *err = decode(&kind, text, false, &options->arena, &value);
    if (!err)
        err = trace_apply(value);
    return error_wrap(err, "--trace %s", text);
}

enum {
    OPTION_AUDIT = 256,
    OPTION_BLOCKDEV,
    OPTION_CHARDEV,
    OPTION_CHECK,
    OPTION_CONFIG,
    OPTION_DAEMONIZE,
    OPTION_EXPORT,
    OPTION_IMAGE_POLICY,
    OPTION_LOG,
    OPTION_LOG_LEVEL,
    OPTION_METRICS,
    OPTION_MONITOR,
    OPTION_NBD_SERVER,
    OPTION_OBJECT,
    OPTION_LIMITS,
    OPTION_PIDFILE,
    OPTION_POLICY,
    OPTION_SANDBOX,
};

static const struct option long_options[] = {
    { "audit", required_argument, NULL, OPTION_AUDIT },
    { "blockdev", required_argument, NULL, OPTION_BLOCKDEV },
    { "chardev", required_argument, NULL, OPTION_CHARDEV },
    { "check", no_argument, NULL, OPTION_CHECK },
    { "config", required_argument, NULL, OPTION_CONFIG },
    { "daemonize", no_argument, NULL, OPTION_DAEMONIZE },
    { "export", required_argument, NULL, OPTION_EXPORT },
    { "help", no_argument, NULL, 'h' },
    { "image-policy", required_argument, NULL, OPTION_IMAGE_POLICY },
    { "log", required_argument, NULL, OPTION_LOG },
    { "log-level", required_argument, NULL, OPTION_LOG_LEVEL },
    { "metrics", required_argument, NULL, OPTION_METRICS },
    { "monitor", required_argument, NULL, OPTION_MONITOR },
    { "nbd-server", required_argument, NULL, OPTION_NBD_SERVER },
    { "object", required_argument, NULL, OPTION_OBJECT },
    { "limits", required_argument, NULL, OPTION_LIMITS },
    { "pidfile", required_argument, NULL, OPTION_PIDFILE },
    { "policy", required_argument, NULL, OPTION_POLICY },
    { "sandbox", required_argument, NULL, OPTION_SANDBOX },
    { "trace", required_argument, NULL, 'T' },
    { "version", no_argument, NULL, 'V' },
    { 0 },
};

static const char short_options[] = ":hT:V";

static struct error *take_option(struct options *options, int option)
{
    switch (option) {
    case OPTION_AUDIT:
        return take_once(options, "--audit", &audit_options_descriptor, &options->audit, optarg);
    case OPTION_BLOCKDEV:
        return take_item(options, &blockdev_kind, optarg);
    case OPTION_CHARDEV:
        if (keyval_wants_help(optarg))
            help_chardev();
        return take_item(options, &chardev_kind, optarg);
    case OPTION_CHECK:
        options->check = true;
        return NULL;
    case OPTION_CONFIG:
        return take_config(options, optarg);
    case OPTION_EXPORT:
        return take_item(options, &export_kind, optarg);
    case OPTION_IMAGE_POLICY:
        return take_once(options, "--image-policy", &image_policy_options_descriptor, &options->image_policy, optarg);
    case OPTION_LOG:
        return take_log(options, optarg);
    case OPTION_LOG_LEVEL:
        return take_log_level(optarg);
    case OPTION_METRICS:
        return take_once(options, "--metrics", &metrics_options_descriptor, &options->metrics, optarg);
    case OPTION_MONITOR:
        return take_item(options, &monitor_kind, optarg);
    case OPTION_NBD_SERVER:
        return take_item(options, &nbd_server_kind, optarg);
    case OPTION_OBJECT:
        if (*optarg != '{' && keyval_wants_help(optarg))
            help_object(optarg);
        return take_item(options, &object_kind, optarg);
    case OPTION_LIMITS:
        return take_once(options, "--limits", &limits_options_descriptor, &options->limits, optarg);
    case OPTION_POLICY:
        return take_once(options, "--policy", &policy_options_descriptor, &options->policy, optarg);
    case OPTION_SANDBOX:
        return take_once(options, "--sandbox", &sandbox_options_descriptor, &options->sandbox, optarg);
    case OPTION_PIDFILE:
        options->pidfile = optarg;
        return NULL;
    case 'T':
        return take_trace(options, optarg);
    default:
        return NULL; /* was taken in the first pass */
    }
}

static struct error *bad_option(int result, char **argv)
{
    const char *given = argv[optind - 1];
    if (result == ':')
        return error_new("option '%s' requires an argument", given);
    if (optopt && optopt < OPTION_AUDIT)
        return error_new("invalid option -- '%c'", optopt);
    return error_new("unrecognized option '%s'", given);
}

/* What decides how the rest is done, wherever it stands. */
static struct error *first_pass(int argc, char **argv, struct options *options)
{
    int option;
    optind = 0;
    opterr = 0;
    while ((option = getopt_long(argc, argv, short_options, long_options, NULL)) != -1) {
        switch (option) {
        case '?':
        case ':':
            return bad_option(option, argv);
        case 'h':
            help_usage();
        case 'V':
            help_version();
        case OPTION_DAEMONIZE:
            options->daemonize = true;
            path_will_move();
        }
    }
    return optind < argc ? error_new("%s: Unexpected argument", argv[optind]) : NULL;
}

static struct error *second_pass(int argc, char **argv, struct options *options)
{
    int option;
    optind = 0;
    while ((option = getopt_long(argc, argv, short_options, long_options, NULL)) != -1) {
        struct error *err = take_option(options, option);
        if (err)
            return err;
    }
    return NULL;
}

static struct error *check_background(const struct options *options)
{
    for (size_t i = 0; i < options->count && options->daemonize; i++) {
        const struct option_item *item = &options->items[i];
        const struct chardev_options *chardev = item->kind == &chardev_kind ? item->value : NULL;
        if (chardev && chardev->backend == CHARDEV_BACKEND_KIND_STDIO)
            return error_new("--chardev %s: there is no standard input with --daemonize", item->text);
    }
    return NULL;
}

struct error *options_parse(int argc, char **argv, struct options *out)
{
    *out = (struct options){ 0 };
    arena_init(&out->arena, SIZE_MAX);
    struct error *err = first_pass(argc, argv, out);
    if (!err)
        err = second_pass(argc, argv, out);
    return err ? err : check_background(out);
}

void options_fini(struct options *options)
{
    for (size_t i = 0; i < options->count; i++)
        config_destroy(options->items[i].config);
    free(options->items);
    arena_fini(&options->arena);
}

struct error *option_item_add(const struct option_item *item)
{
    if (item->config)
        return config_add(item->config);
    return error_wrap(item->kind->add(item->value), "%s %s", item->kind->name, item->text);
}

static struct error *check_item(struct check *check, const struct option_item *item)
{
    if (item->config)
        return check_config(check, item->config);
    return error_wrap(item->kind->check(check, item->value), "%s %s", item->kind->name, item->text);
}

struct error *options_check(const struct options *options)
{
    struct check *check = check_create();
    struct error *err = options->audit ? error_wrap(audit_check(options->audit), "audit") : NULL;
    for (size_t i = 0; i < options->count && !err; i++)
        err = check_item(check, &options->items[i]);
    check_destroy(check);
    return err;
}
