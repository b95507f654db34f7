/* authz_private - what the kinds of authz objects have in common */
#ifndef CAIRN_OBJECTS_AUTHZ_PRIVATE_H
#define CAIRN_OBJECTS_AUTHZ_PRIVATE_H

#include "blockcore/objects/authz.h"
#include "schema/cairn_types.h"

/* Are there too many rules, or too long ones? */
struct error *authz_check_rules(const struct auth_z_list_properties *rules) MUST_CHECK;

/* The first rule that fits decides. */
bool authz_rules_allow(const struct auth_z_list_properties *rules, const char *identity);

/* authz_allows() of the kinds. */
bool authz_list_allows(const struct object *object, const char *identity);
bool authz_list_file_allows(struct object *object, const char *identity, struct error **why) CO_FN CONTROL_FN;

#endif
