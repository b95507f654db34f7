/* What the checks of shape share. */
#ifndef SCHEMAC_CHECK_PRIVATE_H
#define SCHEMAC_CHECK_PRIVATE_H

#include "schema/compiler/syntax.h"

struct checker {
    struct compilation *compilation;
    const struct program *program;
    const struct definition *definition; /* the one being checked */
};

/* Keys of an object; the lists end with NULL. */
struct keys {
    const char *required[5];
    const char *optional[11];
    const char *extended[11]; /* only under language 1 */
};

extern const struct keys member_keys;

/* An error of the definition as a whole: at the line where it begins, as QEMU's tools say it. A note follows that says
 * where in the definition. Returns false. */
bool check_failed(struct checker *checker, struct location at, const char *format, ...) PRINTF_LIKE(3, 4);

/* All required keys, and none but those listed. */
bool check_keys(struct checker *checker, const struct syntax *object, const char *what, const struct keys *keys);

/* What a name is of decides its letters. */
bool check_name_form(struct checker *checker, struct location at, const char *name, const char *what);
bool check_name_lower(struct checker *checker, struct location at, const char *name, const char *what, bool upper_ok,
                      bool score_ok);
bool check_name_upper(struct checker *checker, struct location at, const char *name, const char *what);
bool check_name_camel(struct checker *checker, struct location at, const char *name, const char *what);

bool check_if(struct checker *checker, const struct syntax *object, const char *what);
bool check_features(struct checker *checker, const struct syntax *object);

/* A type where no definition may stand in its place; @type may be NULL: there is none. */
bool check_type(struct checker *checker, const struct syntax *type, const char *what, bool array_ok);

/* The type inside a member's value, which may be { 'type': ... }. */
const struct syntax *member_type(const struct syntax *value);

/* { 'name': TYPE, ... } */
bool check_members(struct checker *checker, const struct syntax *data, const char *what);

/* What language 1 adds to members and named scalars, to commands, to events. */
bool check_constraints(struct checker *checker, const struct syntax *object, const char *what);
bool check_command_extensions(struct checker *checker);
bool check_event_extensions(struct checker *checker);

#endif
