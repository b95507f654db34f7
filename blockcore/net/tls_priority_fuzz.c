/* Any priority string, for each kind of credentials: it is refused with a message, or leaves something to talk with. */
#include "blockcore/net/tls_priority.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    for (enum tls_proof proof = TLS_PROOF_NONE; proof <= TLS_PROOF_CERTIFICATE; proof++) {
        struct tls_priority priority;
        CLEANUP(error_free) struct error *err = tls_priority_parse(text, proof, &priority);
        if (err && !*error_message(err))
            abort();
        if (!err && ((!priority.tls12 && !priority.tls13) || !*priority.groups ||
                     (priority.tls12 && !*priority.ciphers) || (priority.tls13 && !*priority.suites)))
            abort();
    }
    free(text);
    return 0;
}
