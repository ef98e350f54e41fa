/* Copies bytes between regions that may overlap. SPDX-License-Identifier: 0BSD */
#include "leanedge_kernels.h"

void leanedge_move_bytes(const void *input, void *output, size_t bytes)
{
    const uint8_t *from = (const uint8_t *)input;
    uint8_t *to = (uint8_t *)output;
    if ((uintptr_t)to <= (uintptr_t)from) {
        for (size_t i = 0; i < bytes; ++i) {
            to[i] = from[i];
        }
    } else {
        for (size_t i = bytes; i > 0; --i) {
            to[i - 1] = from[i - 1];
        }
    }
}
