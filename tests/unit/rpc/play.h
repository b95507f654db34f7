/* play - sessions over a socket pair, with commands of the test's own
 *
 * "wait" waits until the test lets it go, "echo" gives its text back, "large" gives many bytes, and so on. The daemon's
 * side runs on the control loop, the test speaks the wire from a thread of its own, so that it may block. One play at a
 * time.
 *
 *     static void greeting_script(struct client *one, struct client *two)
 *     {
 *         EXPECT(negotiates(one));
 *         send_text(one, "{'execute':'echo','arguments':{'text':'x'}}");
 *         EXPECT(receives(one, "{\"return\": \"x\"}"));
 *     }
 *     ... play_run(greeting_script); */
#ifndef CAIRN_TESTS_PLAY_H
#define CAIRN_TESTS_PLAY_H

#include "blockcore/runtime/coroutine.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct client {
    int fd;
    char input[1 << 20];
    size_t length;
};

/* @one may do everything, @two only operate. */
typedef void script_function(struct client *one, struct client *two);

struct play {
    script_function *script;
    struct client clients[2];
    struct co_event over;
    char failure[2048];
};

extern struct play play;
extern char play_log[16384];          /* lines of the log */
extern _Atomic unsigned executed;     /* commands that count themselves */
extern _Atomic bool paused;           /* "pause" holds the control thread */
extern _Atomic bool unpaused;         /* let it go */
extern _Atomic unsigned busy_at_echo; /* how many "busy" had run by the last "echo" */

/* In the script's thread cmocka's assertions cannot be used: they jump. */
#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            snprintf(play.failure, sizeof(play.failure), "line %d: %s; got %.400s", __LINE__, #condition,              \
                     play.clients[0].input);                                                                           \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

void send_text(struct client *client, const char *text);

/* The next line without its CR LF, or NULL at the end of the connection. Stays in place until the next call. */
char *receive(struct client *client);

/* Is it this line that comes next? */
bool receives(struct client *client, const char *expected);
bool is_silent(struct client *client);

bool negotiates(struct client *client);
bool negotiates_oob(struct client *client);

/* Runs a server with two clients until the script has ended; the test fails where the script did. */
void play_run(script_function *script);

#endif
