#include "blockcore/crypto/base64.h"

#include <string.h>

static int value_of(uint8_t character)
{
    if (character >= 'A' && character <= 'Z')
        return character - 'A';
    if (character >= 'a' && character <= 'z')
        return character - 'a' + 26;
    if (character >= '0' && character <= '9')
        return character - '0' + 52;
    return character == '+' ? 62 : character == '/' ? 63 : -1;
}

bool base64_decode(const uint8_t *text, size_t text_bytes, uint8_t *out, size_t *out_bytes)
{
    uint32_t bits = 0;
    size_t digits = 0;
    size_t padding = 0;
    size_t done = 0;
    for (size_t i = 0; i < text_bytes; i++) {
        if (text[i] && strchr(" \t\r\n", text[i]))
            continue;
        int value = value_of(text[i]);
        if (text[i] == '=')
            padding++;
        else if (value < 0 || padding)
            return false;
        bits = bits << 6 | (value > 0 ? (uint32_t)value : 0);
        if (++digits % 4)
            continue;
        if (padding > 2)
            return false;
        for (unsigned byte = 0; byte < 3 - padding; byte++)
            out[done++] = (uint8_t)(bits >> (16 - 8 * byte));
        bits = 0;
    }
    *out_bytes = done;
    return digits % 4 == 0 && (padding == 0 || digits > 0);
}
