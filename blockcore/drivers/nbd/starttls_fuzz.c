/* Whatever a server sends before TLS: it is refused with a message, or what was understood is within its bounds. */
#include "blockcore/drivers/nbd/starttls.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t greeting[STARTTLS_GREETING_BYTES];
    uint16_t flags = 0;
    uint16_t again = 0;
    uint32_t bytes = 0;
    bool accepted = false;
    if (size < STARTTLS_GREETING_BYTES + STARTTLS_REPLY_BYTES)
        return 0;
    CLEANUP(error_free) struct error *bad_greeting = starttls_parse_greeting(data, &flags);
    CLEANUP(error_free)
    struct error *bad_reply = starttls_parse_reply(data + STARTTLS_GREETING_BYTES, &accepted, &bytes);
    if ((bad_reply && !*error_message(bad_reply)) || bytes > STARTTLS_REASON_MAX || (accepted && bytes > 0))
        abort();
    if (bad_greeting)
        return 0;
    starttls_write_greeting(greeting, flags);
    CLEANUP(error_free) struct error *bad_copy = starttls_parse_greeting(greeting, &again);
    if (bad_copy || again != flags)
        abort();
    return 0;
}
