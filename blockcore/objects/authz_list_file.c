/* Objects of kind "authz-list-file": rules in a file that may change.
 *
 * Each time somebody asks, the pool looks whether the file is still the one that was read, and reads it again if not.
 * So a change counts for the next client, wherever the file is, and without anything that watches it. Clients come
 * seldom, and what they cost besides (a handshake) is more than that. */
#include "blockcore/objects/authz_private.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/objects/kinds.h"
#include "blockcore/runtime/path_policy.h"
#include "blockcore/runtime/pool.h"
#include "blockcore/runtime/small_file.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* A file that was changed so shortly before it was read may have been changed again since, without a later time. */
#define FRESH_SECONDS 2

#define RULES_BYTES_MAX (16 * 1024 * 1024) /* in memory: many times what they take in the file */

/* What has been read. Reference counted: who asks looks at it while others replace it. */
struct rules {
    _Atomic unsigned refs;
    struct arena arena;
    const struct auth_z_list_properties *list; /* NULL: what the file holds is not valid */
    char *problem;                             /* why; or NULL */
    struct stat from;                          /* the file as it was */
    bool fresh;                                /* it may have changed without a trace */
};

/* The state of an object is a pointer to this: who waits for the file keeps it, though the object may go. */
struct list_file {
    unsigned refs;
    char *filename;
    bool refresh;
    struct pool_domain *domain; /* a file on a server that does not answer costs itself only */
    struct rules *rules;
};

static authz_parser *parser;

void authz_set_parser(authz_parser *parse)
{
    parser = parse;
}

static void rules_unref(struct rules *rules)
{
    if (!rules || atomic_fetch_sub(&rules->refs, 1) != 1)
        return;
    arena_fini(&rules->arena);
    free(rules->problem);
    free(rules);
}
DEFINE_CLEANUP(rules_unref, struct rules *)

static struct rules *rules_ref(struct rules *rules)
{
    atomic_fetch_add(&rules->refs, 1);
    return rules;
}

static struct list_file *list_file_of(const struct object *object)
{
    return *(struct list_file **)object_state(object);
}

static void list_file_unref(struct list_file *file)
{
    if (--file->refs > 0)
        return;
    rules_unref(file->rules);
    pool_domain_unref(file->domain);
    free(file->filename);
    free(file);
}
DEFINE_CLEANUP(list_file_unref, struct list_file *)

/* Reading, on the pool ---------------------------------------------------------------------------------------- */

struct reading {
    const char *filename;
    const struct rules *known; /* NULL: nothing */
    struct rules *read;        /* result; NULL: what is known still counts */
};

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static struct error *parse(struct rules *rules, const char *text, size_t bytes)
{
    struct error *err = parser(text, bytes, &rules->arena, &rules->list);
    if (!err)
        err = authz_check_rules(rules->list);
    if (err)
        rules->list = NULL;
    return err;
}

static struct error *read_rules(const char *filename, struct rules *rules)
{
    CLEANUP(free) char *text = NULL;
    size_t bytes;
    struct error *refusal = NULL;
    int ret = path_stat(filename, &rules->from, &refusal);
    if (refusal)
        return refusal;
    if (ret < 0)
        return error_errno(-ret, "cannot read '%s'", filename);
    rules->fresh = rules->from.st_ctim.tv_sec + FRESH_SECONDS >= time(NULL);
    struct error *err = small_file_read_now(filename, AUTHZ_FILE_BYTES_MAX, &text, &bytes);
    return err ? err : error_wrap(parse(rules, text, bytes), "'%s'", filename);
}

static int read_if_changed(void *arg)
{
    struct reading *reading = arg;
    struct stat now;
    bool known = reading->known && !reading->known->fresh && stat(reading->filename, &now) == 0;
    if (known && is_same(&now, &reading->known->from))
        return 0;
    struct rules *rules = xcalloc(1, sizeof(*rules));
    atomic_store(&rules->refs, 1);
    arena_init(&rules->arena, RULES_BYTES_MAX);
    CLEANUP(error_free) struct error *err = read_rules(reading->filename, rules);
    if (err)
        rules->problem = xstrdup(error_message(err));
    reading->read = rules;
    return 0;
}

/* Asking ------------------------------------------------------------------------------------------------------ */

/* What the file holds now. */
static struct rules *current_rules(struct list_file *file)
{
    if (!file->refresh)
        return rules_ref(file->rules);
    CLEANUP(rules_unref) struct rules *known = rules_ref(file->rules);
    struct reading reading = { .filename = file->filename, .known = known };
    co_blocking(file->domain, read_if_changed, &reading);
    if (!reading.read)
        return steal(&known);
    rules_unref(file->rules);
    file->rules = reading.read;
    return rules_ref(file->rules);
}

bool authz_list_file_allows(struct object *object, const char *identity, struct error **why)
{
    CLEANUP(list_file_unref) struct list_file *file = list_file_of(object);
    file->refs++;
    CLEANUP(rules_unref) struct rules *rules = current_rules(file);
    if (rules->list)
        return authz_rules_allow(rules->list, identity);
    *why = error_new("%s", rules->problem);
    return false;
}

/* The kind of object ------------------------------------------------------------------------------------------ */

static struct error *list_file_create(struct object *object, const struct object_options *options)
{
    const struct auth_z_list_file_properties *given = &options->u.authz_list_file;
    if (!parser)
        return error_new("authz-list-file '%s': files cannot be read here", options->id);
    CLEANUP(list_file_unref) struct list_file *file = xcalloc(1, sizeof(*file));
    file->refs = 1;
    file->filename = xstrdup(given->filename);
    file->refresh = !given->has_refresh || given->refresh;
    file->domain = pool_domain_create(given->filename, 0);
    struct reading reading = { .filename = file->filename };
    co_blocking(file->domain, read_if_changed, &reading);
    file->rules = reading.read;
    if (file->rules->problem)
        return error_new("authz-list-file '%s': %s", options->id, file->rules->problem);
    *(struct list_file **)object_state(object) = steal(&file);
    return NULL;
}

static void list_file_destroy(struct object *object)
{
    list_file_unref(list_file_of(object));
}

static void list_file_describe(const struct object *object, struct object_options *now, struct arena *arena)
{
    const struct list_file *file = list_file_of(object);
    (void)arena;
    now->u.authz_list_file = (struct auth_z_list_file_properties){
        .filename = file->filename,
        .has_refresh = true,
        .refresh = file->refresh,
    };
}

const struct object_kind authz_list_file_kind = {
    .type = OBJECT_TYPE_AUTHZ_LIST_FILE,
    .parent = "authz",
    .state_size = sizeof(struct list_file *),
    .create = list_file_create,
    .destroy = list_file_destroy,
    .describe = list_file_describe,
};
