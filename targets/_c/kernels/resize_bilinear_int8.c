/* resize_bilinear of int8: weights of 10 bits, a half rounded away from zero. SPDX-License-Identifier: 0BSD */
#include "leanedge_kernels.h"

void leanedge_resize_bilinear_int8(const leanedge_resize_bilinear *p, const int8_t *input, int8_t *output)
{
    for (int32_t row = 0; row < p->output_rows; ++row) {
        const int16_t *y = p->rows + 3 * row;
        const int8_t *upper = input + y[0] * p->input_columns * p->channels;
        const int8_t *lower = input + y[1] * p->input_columns * p->channels;
        for (int32_t column = 0; column < p->output_columns; ++column) {
            const int16_t *x = p->columns + 3 * column;
            const int32_t first = x[0] * p->channels;
            const int32_t second = x[1] * p->channels;
            for (int32_t i = 0; i < p->channels; ++i) {
                const int32_t above = upper[first + i] * (1024 - x[2]) + upper[second + i] * x[2];
                const int32_t below = lower[first + i] * (1024 - x[2]) + lower[second + i] * x[2];
                const int32_t total = above * (1024 - y[2]) + below * y[2];
                *output++ = (int8_t)((total + (total > 0 ? 1 << 19 : -(1 << 19))) / (1 << 20));
            }
        }
    }
}
