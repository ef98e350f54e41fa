/* tanh of int16, 2 x logistic(2 x) - 1; the output's scale is 1/32768. SPDX-License-Identifier: 0BSD */
#include "leanedge_sigmoid.h"

void leanedge_tanh_int16(const leanedge_sigmoid *p, const int16_t *input, int16_t *output)
{
    for (int32_t i = 0; i < p->count; ++i) {
        const int32_t number = leanedge_sigmoid_input(p, input[i]);
        const uint32_t magnitude = (uint32_t)(number < 0 ? -number : number);
        const int32_t above = (int32_t)leanedge_sigmoid_at(p, magnitude, 8, 0xFFFFu << 8) - (1 << 23);
        const int32_t result = number >= 0 ? above + (1 << 7) : -above + (1 << 7) - 1;
        output[i] = (int16_t)(result >> 8);
    }
}
