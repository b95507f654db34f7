#include "blockcore/filters/blkdebug_config.h"

#include "blockcore/base/memory.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES_MAX 1024
#define ERRNO_MAX 4095
#define SECTOR_MAX (INT64_MAX / 512)

enum section {
    SECTION_NONE,
    SECTION_INJECT_ERROR,
    SECTION_SET_STATE,
};

/* What is being read. The rule that is begun is the last one of its list. */
struct parser {
    struct blkdebug_config *config;
    enum section section;
    bool has_event;
    bool has_new_state;
};

/* Values -------------------------------------------------------------------------------------------------------- */

static struct error *take_number(const char *value, int64_t min, int64_t max, int64_t *out)
{
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 0);
    if (end == value || *end || errno || isspace((unsigned char)*value))
        return error_new("'%s' is not a number", value);
    if (number < min || number > max)
        return error_new("%lld is not between %lld and %lld", number, (long long)min, (long long)max);
    *out = number;
    return NULL;
}

static struct error *take_bool(const char *value, bool *out)
{
    static const char *const words[][2] = { { "off", "on" }, { "no", "yes" }, { "false", "true" }, { "n", "y" } };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        for (int truth = 0; truth < 2; truth++) {
            if (strcmp(value, words[i][truth]) == 0) {
                *out = truth;
                return NULL;
            }
        }
    }
    return error_new("'%s' is not 'on' or 'off'", value);
}

static struct error *take_event(const char *value, enum blkdebug_event *out)
{
    for (int i = 0; i < BLKDEBUG_EVENT__MAX; i++) {
        if (strcmp(blkdebug_event_name((enum blkdebug_event)i), value) == 0) {
            *out = (enum blkdebug_event)i;
            return NULL;
        }
    }
    return error_new("Invalid event name \"%s\"", value);
}

static struct error *take_iotype(const char *value, enum blkdebug_io_type *out)
{
    for (int i = 0; i < BLKDEBUG_IO_TYPE__MAX; i++) {
        if (strcmp(blkdebug_io_type_name((enum blkdebug_io_type)i), value) == 0) {
            *out = (enum blkdebug_io_type)i;
            return NULL;
        }
    }
    return error_new("'%s' is not a kind of request", value);
}

/* Members ------------------------------------------------------------------------------------------------------- */

static struct error *take_injection_member(struct blkdebug_inject_error_options *rule, const char *name,
                                           const char *value)
{
    if (strcmp(name, "state") == 0) {
        rule->has_state = true;
        return take_number(value, INT_MIN, INT_MAX, &rule->state);
    }
    if (strcmp(name, "iotype") == 0) {
        rule->has_iotype = true;
        return take_iotype(value, &rule->iotype);
    }
    if (strcmp(name, "errno") == 0) {
        rule->has_errno = true;
        return take_number(value, 0, ERRNO_MAX, &rule->errno_);
    }
    if (strcmp(name, "sector") == 0) {
        rule->has_sector = true;
        return take_number(value, -1, SECTOR_MAX, &rule->sector);
    }
    if (strcmp(name, "once") == 0) {
        rule->has_once = true;
        return take_bool(value, &rule->once);
    }
    if (strcmp(name, "immediately") == 0) {
        rule->has_immediately = true;
        return take_bool(value, &rule->immediately);
    }
    return error_new("Invalid parameter '%s'", name);
}

static struct error *take_transition_member(struct parser *parser, struct blkdebug_set_state_options *rule,
                                            const char *name, const char *value)
{
    if (strcmp(name, "state") == 0) {
        rule->has_state = true;
        return take_number(value, INT_MIN, INT_MAX, &rule->state);
    }
    if (strcmp(name, "new_state") != 0)
        return error_new("Invalid parameter '%s'", name);
    parser->has_new_state = true;
    return take_number(value, INT_MIN, INT_MAX, &rule->new_state);
}

static struct error *take_member(struct parser *parser, const char *name, const char *value)
{
    struct blkdebug_config *config = parser->config;
    if (parser->section == SECTION_NONE)
        return error_new("no group defined");
    bool injects = parser->section == SECTION_INJECT_ERROR;
    if (strcmp(name, "event") == 0) {
        parser->has_event = true;
        return take_event(value, injects ? &config->injections[config->injections_count - 1].event
                                         : &config->transitions[config->transitions_count - 1].event);
    }
    return injects ? take_injection_member(&config->injections[config->injections_count - 1], name, value)
                   : take_transition_member(parser, &config->transitions[config->transitions_count - 1], name, value);
}

/* Rules --------------------------------------------------------------------------------------------------------- */

static struct error *end_rule(const struct parser *parser)
{
    if (parser->section != SECTION_NONE && !parser->has_event)
        return error_new("Missing event name for rule");
    if (parser->section == SECTION_SET_STATE && !parser->has_new_state)
        return error_new("the rule lacks 'new_state'");
    return NULL;
}

static struct error *begin_rule(struct parser *parser, const char *kind)
{
    struct blkdebug_config *config = parser->config;
    struct error *err = end_rule(parser);
    if (err)
        return err;
    parser->has_event = parser->has_new_state = false;
    if (config->injections_count == BLKDEBUG_CONFIG_RULES_MAX || config->transitions_count == BLKDEBUG_CONFIG_RULES_MAX)
        return error_new("more than %d rules", BLKDEBUG_CONFIG_RULES_MAX);
    if (strcmp(kind, "inject-error") == 0) {
        parser->section = SECTION_INJECT_ERROR;
        config->injections =
            xrealloc_array(config->injections, config->injections_count + 1, sizeof(*config->injections));
        config->injections[config->injections_count++] =
            (struct blkdebug_inject_error_options){ .errno_ = EIO, .sector = -1 };
    } else if (strcmp(kind, "set-state") == 0) {
        parser->section = SECTION_SET_STATE;
        config->transitions =
            xrealloc_array(config->transitions, config->transitions_count + 1, sizeof(*config->transitions));
        config->transitions[config->transitions_count++] = (struct blkdebug_set_state_options){ 0 };
    } else {
        return error_new("There is no option group '%s'", kind);
    }
    return NULL;
}

/* Lines --------------------------------------------------------------------------------------------------------- */

static char *skip_blanks(char *at)
{
    return at + strspn(at, " \t\r\f\v");
}

/* "KIND]" or 'KIND "NAME"]'. */
static struct error *take_section(struct parser *parser, char *at)
{
    char *kind = skip_blanks(at);
    char *end = kind + strcspn(kind, " \t\"]");
    char *rest = skip_blanks(end);
    if (*rest == '"') {
        rest = strchr(rest + 1, '"');
        rest = rest ? skip_blanks(rest + 1) : end;
    }
    if (end == kind || *rest != ']' || *skip_blanks(rest + 1))
        return error_new("'[' begins no group");
    *end = '\0';
    return begin_rule(parser, kind);
}

/* NAME = "VALUE" */
static struct error *take_assignment(struct parser *parser, char *at)
{
    char *name_end = at + strcspn(at, " \t=");
    char *equals = skip_blanks(name_end);
    char *open = *equals == '=' ? skip_blanks(equals + 1) : equals;
    char *close = *open == '"' ? strchr(open + 1, '"') : NULL;
    if (name_end == at || !close || *skip_blanks(close + 1))
        return error_new("parse error: neither a group nor NAME = \"VALUE\"");
    *name_end = '\0';
    *close = '\0';
    return error_wrap(take_member(parser, at, open + 1), "%s", at);
}

static struct error *take_line(struct parser *parser, const char *text, size_t bytes)
{
    char line[LINE_BYTES_MAX + 1];
    if (bytes > LINE_BYTES_MAX)
        return error_new("the line is longer than %d bytes", LINE_BYTES_MAX);
    if (memchr(text, '\0', bytes))
        return error_new("a zero byte is no text");
    memcpy(line, text, bytes);
    line[bytes] = '\0';
    char *at = skip_blanks(line);
    if (!*at || *at == '#')
        return NULL;
    return *at == '[' ? take_section(parser, at + 1) : take_assignment(parser, at);
}

struct error *blkdebug_config_parse(const char *text, size_t bytes, struct blkdebug_config *config)
{
    struct parser parser = { .config = config };
    struct error *err = NULL;
    unsigned number = 0;
    *config = (struct blkdebug_config){ 0 };
    if (bytes > BLKDEBUG_CONFIG_BYTES_MAX)
        return error_new("more than %d bytes", BLKDEBUG_CONFIG_BYTES_MAX);
    for (size_t at = 0; at < bytes && !err;) {
        const char *end = memchr(text + at, '\n', bytes - at);
        size_t length = end ? (size_t)(end - text) - at : bytes - at;
        number++;
        err = take_line(&parser, text + at, length);
        at += length + 1;
    }
    if (!err)
        err = end_rule(&parser);
    return error_wrap(err, "line %u", number);
}

void blkdebug_config_fini(struct blkdebug_config *config)
{
    free(config->injections);
    free(config->transitions);
    *config = (struct blkdebug_config){ 0 };
}
