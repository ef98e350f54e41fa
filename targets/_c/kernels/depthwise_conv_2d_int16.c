/* depthwise_conv_2d of int16 with int8 weights. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_kernels.h"

void leanedge_depthwise_conv_2d_int16(const leanedge_conv_16 *p, const int16_t *input, int16_t *output)
{
    const leanedge_window *const w = &p->window;
    const int32_t per_input = w->output_channels / w->input_channels;
    for (int32_t out_row = 0; out_row < w->output_rows; ++out_row) {
        const int32_t top = out_row * w->stride_rows - w->pad_top;
        for (int32_t out_column = 0; out_column < w->output_columns; ++out_column) {
            const int32_t left = out_column * w->stride_columns - w->pad_left;
            for (int32_t channel = 0; channel < w->output_channels; ++channel) {
                const int8_t *weights = p->weights + channel;
                int64_t total = p->bias[channel];
                for (int32_t row = 0; row < w->kernel_rows; ++row) {
                    const int32_t y = top + row * w->dilation_rows;
                    for (int32_t column = 0; column < w->kernel_columns; ++column, weights += w->output_channels) {
                        const int32_t x = left + column * w->dilation_columns;
                        if (y >= 0 && y < w->input_rows && x >= 0 && x < w->input_columns) {
                            const int32_t at = (y * w->input_columns + x) * w->input_channels + channel / per_input;
                            total += input[at] * *weights;
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
