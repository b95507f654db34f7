#include "clients/cli/terminal.h"

#include "blockcore/base/annotations.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define COLUMNS_DEFAULT 80
#define ROWS_DEFAULT 24
#define SEQUENCE_MAX 8 /* bytes of a key that is more than one */
#define SEQUENCE_MS 50 /* until they are there; an escape key is followed by nothing */

static enum {
    COLOR_AUTO,
    COLOR_ALWAYS,
    COLOR_NEVER,
} color_when;

bool terminal_set_color(const char *when)
{
    static const char *const words[] = { [COLOR_AUTO] = "auto", [COLOR_ALWAYS] = "always", [COLOR_NEVER] = "never" };

    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(words[i], when) == 0) {
            color_when = i;
            return true;
        }
    }
    return false;
}

bool terminal_has_color(void)
{
    const char *refused = getenv("NO_COLOR"); /* no-color.org: any value but none */
    const char *term = getenv("TERM");

    if (color_when != COLOR_AUTO)
        return color_when == COLOR_ALWAYS;
    return !(refused && *refused) && term && strcmp(term, "dumb") != 0 && isatty(STDOUT_FILENO);
}

void terminal_color(FILE *out, const char *color)
{
    if (terminal_has_color())
        fprintf(out, "\033[%sm", color);
}

void terminal_size(int fd, unsigned *columns, unsigned *rows)
{
    struct winsize size = { 0 };
    if (ioctl(fd, TIOCGWINSZ, &size) < 0)
        size = (struct winsize){ 0 };
    *columns = size.ws_col ? size.ws_col : COLUMNS_DEFAULT;
    *rows = size.ws_row ? size.ws_row : ROWS_DEFAULT;
}

static bool begins_character(char byte)
{
    return ((unsigned char)byte & 0xc0) != 0x80;
}

unsigned terminal_width(const char *text)
{
    unsigned width = 0;
    for (; *text; text++)
        width += begins_character(*text);
    return width;
}

static bool is_control(const char *text)
{
    unsigned char byte = (unsigned char)*text;
    bool second_set = byte == 0xc2 && (unsigned char)text[1] < 0xa0; /* U+0080 to U+009F */
    return byte < 0x20 || byte == 0x7f || second_set;
}

static void put_characters(FILE *out, const char *text, unsigned columns)
{
    while (*text && columns-- > 0) {
        if (is_control(text))
            fputc('?', out);
        else
            fputc(*text, out);
        for (bool shown = !is_control(text++); *text && !begins_character(*text); text++)
            if (shown)
                fputc(*text, out);
    }
}

void terminal_put(FILE *out, const char *text, unsigned columns, enum terminal_align align)
{
    unsigned width = terminal_width(text);
    unsigned blanks = width < columns ? columns - width : 0;
    if (align == ALIGN_RIGHT)
        fprintf(out, "%*s", (int)blanks, "");
    put_characters(out, text, columns);
    if (align == ALIGN_LEFT)
        fprintf(out, "%*s", (int)blanks, "");
}

void terminal_print(FILE *out, const char *text)
{
    if (isatty(fileno(out)))
        put_characters(out, text, UINT_MAX);
    else
        fputs(text, out);
}

/* Full screen -------------------------------------------------------------------------------------------------- */

static const int ending_signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

static struct termios before;
static volatile sig_atomic_t taken;
static volatile sig_atomic_t resized;

static void put_all(const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        ssize_t put = write(STDOUT_FILENO, text, left);
        if (put <= 0)
            return;
        text += put;
        left -= (size_t)put;
    }
}

void terminal_end(void)
{
    if (!taken)
        return;
    taken = 0;
    put_all("\033[0m\033[?25h\033[?1049l");
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
}

static void give_back(int signum)
{
    int saved = errno;
    terminal_end();
    signal(signum, SIG_DFL);
    raise(signum);
    errno = saved;
}

static void on_resize(int signum)
{
    (void)signum;
    resized = 1;
}

bool terminal_begin(void)
{
    if (!isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &before) < 0)
        return false;
    struct termios raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    for (size_t i = 0; i < ARRAY_SIZE(ending_signals); i++)
        signal(ending_signals[i], give_back);
    sigaction(SIGWINCH, &(struct sigaction){ .sa_handler = on_resize, .sa_flags = SA_RESTART }, NULL);
    taken = 1;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
    put_all("\033[?1049h\033[?25l");
    return true;
}

/* Of an escape sequence behind its ESC. */
static int key_of_sequence(const char *sequence)
{
    static const struct {
        const char *sequence;
        enum terminal_key key;
    } keys[] = {
        { "[A", KEY_UP },       { "OA", KEY_UP },         { "[B", KEY_DOWN }, { "OB", KEY_DOWN },
        { "[5~", KEY_PAGE_UP }, { "[6~", KEY_PAGE_DOWN }, { "", KEY_ESCAPE },
    };
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (strcmp(keys[i].sequence, sequence) == 0)
            return keys[i].key;
    }
    return 0;
}

static bool has_input(int timeout_ms)
{
    struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
    return poll(&input, 1, timeout_ms) > 0;
}

int terminal_read_key(int timeout_ms)
{
    char bytes[SEQUENCE_MAX + 1] = "";

    /* A size that changes while nobody waits is seen at the next call: frames are drawn by size anyway. */
    bool came = has_input(timeout_ms);
    if (resized) {
        resized = 0;
        return KEY_RESIZE;
    }
    if (!came)
        return KEY_NONE;
    ssize_t count = read(STDIN_FILENO, bytes, 1);
    if (count <= 0)
        return KEY_END;
    if (bytes[0] != '\033')
        return (unsigned char)bytes[0];
    if (!has_input(SEQUENCE_MS))
        return KEY_ESCAPE;
    count = read(STDIN_FILENO, bytes, SEQUENCE_MAX);
    bytes[count > 0 ? count : 0] = '\0';
    return key_of_sequence(bytes);
}
