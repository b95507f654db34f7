/* size - numbers of bytes, as people write and read them */
#ifndef CAIRN_CLI_SIZE_H
#define CAIRN_CLI_SIZE_H

#include <stdbool.h>
#include <stdint.h>

#define SIZE_TEXT_MAX 16

/* A number (decimal, or 0x...), which may end in k, M, G, T, P or E: powers of 1024; then it may have a fraction. False
 * when @text is none or does not fit. */
bool size_parse(const char *text, uint64_t *out);

/* "1.5 GiB", into @buffer, which is returned. */
const char *size_format(uint64_t bytes, char buffer[SIZE_TEXT_MAX]);

#endif
