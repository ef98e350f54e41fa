/* transpose_conv of int16 with int8 weights. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_kernels.h"

void leanedge_transpose_conv_int16(const leanedge_conv_16 *p, const int16_t *input, int16_t *output)
{
    const leanedge_window *const w = &p->window;
    const int32_t depth = w->input_channels;
    for (int32_t out_row = 0; out_row < w->output_rows; ++out_row) {
        for (int32_t out_column = 0; out_column < w->output_columns; ++out_column) {
            for (int32_t channel = 0; channel < w->output_channels; ++channel) {
                const int8_t *weights = p->weights + channel * w->kernel_rows * w->kernel_columns * depth;
                int64_t total = p->bias[channel];
                for (int32_t row = 0; row < w->kernel_rows; ++row) {
                    const int32_t down = out_row + w->pad_top - row; /* input row x stride */
                    for (int32_t column = 0; column < w->kernel_columns; ++column, weights += depth) {
                        const int32_t across = out_column + w->pad_left - column;
                        if (down < 0 || across < 0 || down % w->stride_rows != 0 || across % w->stride_columns != 0 ||
                            down / w->stride_rows >= w->input_rows ||
                            across / w->stride_columns >= w->input_columns) {
                            continue;
                        }
                        const int16_t *pixel =
                            input + (down / w->stride_rows * w->input_columns + across / w->stride_columns) * depth;
                        for (int32_t i = 0; i < depth; ++i) {
                            total += pixel[i] * weights[i];
                        }
                    }
                }
                const int32_t factor = channel * p->factor_step;
                *output++ =
                    leanedge_requantize_wide(total, p->multiplier[factor], p->shift[factor], p->low, p->high);
            }
        }
    }
}
