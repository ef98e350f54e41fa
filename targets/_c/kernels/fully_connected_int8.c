/* fully_connected of int8. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_kernels.h"

void leanedge_fully_connected_int8(const leanedge_fully_connected *p, const int8_t *input, int8_t *output)
{
    for (int32_t row = 0; row < p->rows; ++row, input += p->depth) {
        const int8_t *weights = p->weights;
        for (int32_t out = 0; out < p->outputs; ++out, weights += p->depth) {
            int32_t total = p->bias[out];
            for (int32_t i = 0; i < p->depth; ++i) {
                total += input[i] * weights[i];
            }
            const int32_t factor = out * p->factor_step;
            *output++ = leanedge_requantize(total, p->multiplier[factor], p->power[factor], p->output_zero, p->low,
                                            p->high);
        }
    }
}
