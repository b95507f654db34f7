/* hide - what strangers must not read in a log
 *
 * The schema knows which members of a command are secret, and its encoder leaves them out. What stands inside of a
 * string nobody has decoded: addresses with users ("https://me:word@host/a"), descriptions of nodes ("json:{...}").
 * There secrets are looked for in the text as it is, whether it stands in JSON, in JSON inside of JSON, or by itself.
 */
#ifndef CAIRN_RPC_HIDE_H
#define CAIRN_RPC_HIDE_H

#include <stdint.h>

struct text;

enum hide_in {
    HIDE_IN_TEXT,
    HIDE_IN_JSON, /* addresses and descriptions stand in its strings, and it stays JSON */
};

/* In @text from byte @begin on: what stands before the '@' of addresses, and in descriptions the values of members
 * whose names speak of passwords, secrets, keys, cookies and data, becomes "(secret)". */
void hide_secrets(struct text *text, uint64_t begin, enum hide_in in);

#endif
