/* gather of int8. SPDX-License-Identifier: 0BSD */
#include "leanedge_kernels.h"

void leanedge_gather_int8(const leanedge_gather *p, const int8_t *input, const int32_t *indices, int8_t *output)
{
    for (int32_t outer = 0; outer < p->outer; ++outer) {
        for (int32_t n = 0; n < p->count; ++n) {
            const int8_t *from = input + (outer * p->size + indices[n]) * p->inner;
            for (int32_t i = 0; i < p->inner; ++i) {
                *output++ = from[i];
            }
        }
    }
}
