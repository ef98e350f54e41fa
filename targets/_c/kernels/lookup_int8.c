/* Any function of one int8, by its table. SPDX-License-Identifier: 0BSD */
#include "leanedge_kernels.h"

void leanedge_lookup_int8(const int8_t *table, int32_t count, const int8_t *input, int8_t *output)
{
    for (int32_t i = 0; i < count; ++i) {
        output[i] = table[input[i] + 128];
    }
}
