#include "clients/cli/words.h"

#include "blockcore/base/memory.h"

#include <ctype.h>
#include <string.h>

/* Copies one word from *@from to *@to, quotes dropped, and moves both behind it. */
static struct error *take_word(const char **from, char **to)
{
    char quote = '\0';

    for (; **from && (quote || !isspace((unsigned char)**from)); (*from)++) {
        char c = **from;
        if (quote && c == quote)
            quote = '\0';
        else if (!quote && (c == '\'' || c == '"'))
            quote = c;
        else
            *(*to)++ = c;
    }
    *(*to)++ = '\0';
    return quote ? error_new("a %c is not closed", quote) : NULL;
}

struct error *words_split(const char *line, struct words *words)
{
    words->text = xmalloc(strlen(line) + 1);
    words->count = 0;

    char *to = words->text;
    for (;;) {
        while (isspace((unsigned char)*line))
            line++;
        if (!*line)
            return NULL;
        if (words->count == WORDS_MAX)
            return error_new("more than %d words", WORDS_MAX);
        words->items[words->count++] = to;
        if (*line == '{') {
            strcpy(to, line);
            return NULL;
        }
        struct error *err = take_word(&line, &to);
        if (err)
            return err;
    }
}

void words_fini(struct words *words)
{
    free(words->text);
}
