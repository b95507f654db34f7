#include "daemon/config_files.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/path_policy.h"
#include "daemon/yaml_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct texts {
    struct config_source *list;
    size_t count;
    bool by_client; /* who names them: the policy of paths holds */
};

/* Also what is no regular file and does not tell its length. */
static struct error *read_stream(FILE *file, const char *path, char **text, size_t *length)
{
    size_t capacity = 64 * 1024;
    char *data = xmalloc(capacity);
    size_t bytes = 0;
    size_t count;
    while (bytes <= YAML_BYTES_MAX && (count = fread(data + bytes, 1, capacity - bytes, file)) > 0) {
        bytes += count;
        if (bytes == capacity)
            data = xrealloc_array(data, capacity *= 2, 1);
    }
    struct error *err = ferror(file) ? error_errno(errno, "cannot read '%s'", path) : NULL;
    if (err)
        free(data);
    else
        *text = data;
    *length = bytes;
    return err;
}

static struct error *open_file(const struct texts *texts, const char *path, FILE **out)
{
    struct error *refusal = NULL;
    CLEANUP(close_fd) int fd = -1;
    if (texts->by_client)
        fd = path_open(path, O_RDONLY, 0, &refusal);
    else if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        fd = -errno;
    if (refusal)
        return refusal;
    *out = fd < 0 ? NULL : fdopen(fd, "r");
    if (!*out)
        return error_errno(fd < 0 ? -fd : errno, "cannot open '%s'", path);
    (void)steal_fd(&fd);
    return NULL;
}

static struct error *read_file(struct texts *texts, const char *path)
{
    if (texts->count == CONFIG_FILES_MAX)
        return error_new("'%s': more than %d configuration files", path, CONFIG_FILES_MAX);
    FILE *file;
    struct error *refusal = open_file(texts, path, &file);
    if (refusal)
        return refusal;
    char *text = NULL;
    size_t length = 0;
    struct error *err = read_stream(file, path, &text, &length);
    fclose(file);
    if (err)
        return err;
    texts->list = xrealloc_array(texts->list, texts->count + 1, sizeof(*texts->list));
    texts->list[texts->count++] = (struct config_source){ .name = xstrdup(path), .text = text, .length = length };
    return NULL;
}

static int is_yaml(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return *entry->d_name != '.' && length > 5 && strcmp(entry->d_name + length - 5, ".yaml") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static struct error *read_directory(struct texts *texts, const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, is_yaml, by_bytes);
    if (count < 0)
        return error_errno(errno, "cannot read the directory '%s'", path);
    struct error *err = NULL;
    for (int i = 0; i < count; i++) {
        CLEANUP(free) char *file = xasprintf("%s/%s", path, entries[i]->d_name);
        if (!err)
            err = read_file(texts, file);
        free(entries[i]);
    }
    free(entries);
    return err;
}

static struct error *read_path(struct texts *texts, const char *path)
{
    struct stat st;
    struct error *refusal = NULL;
    int ret = texts->by_client ? path_stat(path, &st, &refusal) : stat(path, &st);
    if (refusal)
        return refusal;
    return ret == 0 && S_ISDIR(st.st_mode) ? read_directory(texts, path) : read_file(texts, path);
}

struct error *config_files_read(const char *const *paths, size_t count, bool by_client, struct config_source **out,
                                size_t *out_count)
{
    struct texts texts = { .by_client = by_client };
    struct error *err = NULL;
    for (size_t i = 0; i < count && !err; i++)
        err = read_path(&texts, paths[i]);
    *out = texts.list;
    *out_count = texts.count;
    return err;
}

void config_files_free(struct config_source *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free((char *)(uintptr_t)texts[i].name);
        free((char *)(uintptr_t)texts[i].text);
    }
    free(texts);
}
