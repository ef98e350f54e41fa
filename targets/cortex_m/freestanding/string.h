/* What the C library has of this header and generated C uses; for compilers that come without a C library. */
#ifndef LEANEDGE_FREESTANDING_STRING_H
#define LEANEDGE_FREESTANDING_STRING_H

#include <stddef.h>

void *memcpy(void *to, const void *from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *left, const void *right, size_t bytes);

#endif
