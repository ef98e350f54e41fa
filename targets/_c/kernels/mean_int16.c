/* mean of int16. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_kernels.h"

void leanedge_mean_int16(const leanedge_mean *p, const int16_t *input, int16_t *output)
{
    const int32_t count = p->reduced[0] * p->reduced[1];
    for (int32_t i = 0; i < p->kept[0]; ++i) {
        for (int32_t j = 0; j < p->kept[1]; ++j) {
            for (int32_t k = 0; k < p->kept[2]; ++k) {
                const int16_t *start =
                    input + i * p->kept_strides[0] + j * p->kept_strides[1] + k * p->kept_strides[2];
                int32_t total = -count * p->input_zero;
                for (int32_t m = 0; m < p->reduced[0]; ++m) {
                    for (int32_t n = 0; n < p->reduced[1]; ++n) {
                        total += start[m * p->reduced_strides[0] + n * p->reduced_strides[1]];
                    }
                }
                const int32_t scaled = leanedge_scale(total, p->multiplier, p->power);
                *output++ = (int16_t)leanedge_clamp(scaled + p->output_zero, INT16_MIN, INT16_MAX);
            }
        }
    }
}
