/* sanitizer - WITH_ASAN and WITH_TSAN are defined in builds with these sanitizers, by either compiler */
#ifndef CAIRN_BASE_SANITIZER_H
#define CAIRN_BASE_SANITIZER_H

#ifdef __SANITIZE_ADDRESS__
#define WITH_ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define WITH_TSAN 1
#endif
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#endif

#endif
