/* terminal - what goes to a terminal and what comes from it
 *
 * Colours where somebody sees them, names that cannot play tricks, and a full-screen mode that always gives the
 * terminal back: at the end, and when a signal ends the program. */
#ifndef CAIRN_CLI_TERMINAL_H
#define CAIRN_CLI_TERMINAL_H

#include <stdbool.h>
#include <stdio.h>

/* "auto", "always" or "never"; false for anything else. With "auto", colours are for a standard output that is a
 * terminal, unless NO_COLOR is set or TERM is "dumb". */
bool terminal_set_color(const char *when);

/* Is what is printed coloured? "auto" until terminal_set_color() said otherwise. */
bool terminal_has_color(void);

#define COLOR_NONE "0"
#define COLOR_BOLD "1"
#define COLOR_FAINT "2"
#define COLOR_RED "31"
#define COLOR_GREEN "32"
#define COLOR_YELLOW "33"
#define COLOR_BLUE "34"
#define COLOR_MAGENTA "35"
#define COLOR_CYAN "36"

/* What is printed from here on, until COLOR_NONE; nothing where there are no colours. */
void terminal_color(FILE *out, const char *color);

/* Columns and rows of the terminal behind @fd, or 80 and 24. */
void terminal_size(int fd, unsigned *columns, unsigned *rows);

/* Columns that @text takes: its characters, each counted as one. */
unsigned terminal_width(const char *text);

/* @text in @columns columns, filled up with blanks, left or right of it; what is too long is cut. Control characters
 * become '?'. */
enum terminal_align {
    ALIGN_LEFT,
    ALIGN_RIGHT,
};
void terminal_put(FILE *out, const char *text, unsigned columns, enum terminal_align align);

/* All of @text: control characters become '?' where that is a terminal. Files get it as it is. */
void terminal_print(FILE *out, const char *text);

/* Full screen -------------------------------------------------------------------------------------------------- */

/* Takes the terminal: another screen, keys without their echo, no cursor. False when standard input or output is none.
 * Signals that end the program give it back first. */
bool terminal_begin(void);
void terminal_end(void);

enum terminal_key {
    KEY_NONE = -1,   /* none in time */
    KEY_RESIZE = -2, /* the terminal has another size */
    KEY_END = -3,    /* the terminal is gone */
    KEY_UP = 256,
    KEY_DOWN,
    KEY_PAGE_UP,
    KEY_PAGE_DOWN,
    KEY_ESCAPE,
};

/* The next key, as its byte or an enum terminal_key; waits at most @timeout_ms. */
int terminal_read_key(int timeout_ms);

#endif
