/* fully_connected of int8. SPDX-License-Identifier: 0BSD */
#include "leanedge_dots.h"
#include "leanedge_fixed_point.h"
#include "leanedge_kernels.h"

void leanedge_fully_connected_int8(const leanedge_fully_connected *p, const int8_t *input, int8_t *output)
{
    for (int32_t row = 0; row < p->rows; ++row, input += p->depth) {
        const int8_t *weights = p->weights;
        int32_t out = 0;
        for (; out + 4 <= p->outputs; out += 4, weights += 4 * p->depth) {
            int32_t totals[4] = {p->bias[out], p->bias[out + 1], p->bias[out + 2], p->bias[out + 3]};
            leanedge_four_dots(input, weights, p->depth, p->depth, totals);
            for (int32_t i = 0; i < 4; ++i) {
                const int32_t factor = (out + i) * p->factor_step;
                *output++ = leanedge_requantize(totals[i], p->multiplier[factor], p->power[factor], p->output_zero,
                                                p->low, p->high);
            }
        }
        for (; out < p->outputs; ++out, weights += p->depth) {
            const int32_t total = p->bias[out] + leanedge_dot(input, weights, p->depth);
            const int32_t factor = out * p->factor_step;
            *output++ = leanedge_requantize(total, p->multiplier[factor], p->power[factor], p->output_zero, p->low,
                                            p->high);
        }
    }
}
