/* logistic of int16; the output's scale is 1/32768. SPDX-License-Identifier: 0BSD */
#include "leanedge_sigmoid.h"

void leanedge_logistic_int16(const leanedge_sigmoid *p, const int16_t *input, int16_t *output)
{
    for (int32_t i = 0; i < p->count; ++i) {
        const int32_t number = leanedge_sigmoid_input(p, input[i]);
        const uint32_t magnitude = (uint32_t)(number < 0 ? -number : number);
        const int32_t above = (int32_t)leanedge_sigmoid_at(p, magnitude, 9, 0x7FFFu << 10);
        const int32_t result = number >= 0 ? above + (1 << 9) : (1 << 25) - above + (1 << 9) - 1;
        output[i] = (int16_t)(result >> 10);
    }
}
