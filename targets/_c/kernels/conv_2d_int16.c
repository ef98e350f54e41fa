/* conv_2d of int16 with int8 weights; fully_connected is one of a single pixel a row. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_kernels.h"

void leanedge_conv_2d_int16(const leanedge_conv_16 *p, const int16_t *input, int16_t *output)
{
    const leanedge_window *const w = &p->window;
    const int32_t depth = w->input_channels / p->groups;
    const int32_t group_outputs = w->output_channels / p->groups;
    for (int32_t out_row = 0; out_row < w->output_rows; ++out_row) {
        const int32_t top = out_row * w->stride_rows - w->pad_top;
        for (int32_t out_column = 0; out_column < w->output_columns; ++out_column) {
            const int32_t left = out_column * w->stride_columns - w->pad_left;
            const int8_t *weights = p->weights;
            for (int32_t channel = 0; channel < w->output_channels; ++channel) {
                const int32_t in_channel = channel / group_outputs * depth;
                int64_t total = p->bias[channel];
                for (int32_t row = 0; row < w->kernel_rows; ++row) {
                    const int32_t y = top + row * w->dilation_rows;
                    for (int32_t column = 0; column < w->kernel_columns; ++column, weights += depth) {
                        const int32_t x = left + column * w->dilation_columns;
                        if (y < 0 || y >= w->input_rows || x < 0 || x >= w->input_columns) {
                            continue;
                        }
                        const int16_t *pixel = input + (y * w->input_columns + x) * w->input_channels + in_channel;
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
