/* url - addresses as people may see them */
#ifndef CAIRN_BASE_URL_H
#define CAIRN_BASE_URL_H

/* @url without the name and password that may stand before the host: "http://me:word@host/a" becomes "http://host/a".
 * Whatever is no such address comes back as it is. The caller frees it. */
char *url_without_user(const char *url);

#endif
