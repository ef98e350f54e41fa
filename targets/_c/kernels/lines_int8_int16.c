/* Two straight lines that meet at the zero point: relu, leaky_relu, quantize. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_kernels.h"

void leanedge_lines_int8_int16(const leanedge_lines *p, const int8_t *input, int16_t *output)
{
    for (int32_t n = 0; n < p->count; ++n) {
        const int32_t value = input[n] - p->input_zero;
        const int32_t scaled = value >= 0 ? leanedge_scale(value, p->above_multiplier, p->above_power)
                                          : leanedge_scale(value, p->below_multiplier, p->below_power);
        output[n] = (int16_t)leanedge_clamp(scaled + p->output_zero, p->low, p->high);
    }
}
