/* depthwise_conv_2d of int8. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_kernels.h"

enum { BLOCK = 16 }; /* channels whose sums are held at once */

void leanedge_depthwise_conv_2d_int8(const leanedge_conv *p, const int8_t *input, int8_t *output)
{
    const leanedge_window *const w = &p->window;
    const int32_t per_input = w->output_channels / w->input_channels;
    for (int32_t out_row = 0; out_row < w->output_rows; ++out_row) {
        const int32_t top = out_row * w->stride_rows - w->pad_top;
        for (int32_t out_column = 0; out_column < w->output_columns; ++out_column) {
            const int32_t left = out_column * w->stride_columns - w->pad_left;
            for (int32_t start = 0; start < w->output_channels; start += BLOCK) {
                const int32_t rest = w->output_channels - start;
                const int32_t count = rest < BLOCK ? rest : BLOCK;
                int32_t totals[BLOCK];
                for (int32_t i = 0; i < count; ++i) {
                    totals[i] = p->bias[start + i];
                }
                for (int32_t row = 0; row < w->kernel_rows; ++row) {
                    const int32_t y = top + row * w->dilation_rows;
                    for (int32_t column = 0; column < w->kernel_columns; ++column) {
                        const int32_t x = left + column * w->dilation_columns;
                        const int8_t *weights =
                            p->weights + (row * w->kernel_columns + column) * w->output_channels + start;
                        if (y < 0 || y >= w->input_rows || x < 0 || x >= w->input_columns) {
                            /* Padding holds the input's zero point, which the bias has subtracted for every tap. */
                            for (int32_t i = 0; i < count; ++i) {
                                totals[i] += p->input_zero * weights[i];
                            }
                            continue;
                        }
                        const int8_t *pixel = input + (y * w->input_columns + x) * w->input_channels;
                        if (per_input == 1) {
                            for (int32_t i = 0; i < count; ++i) {
                                totals[i] += pixel[start + i] * weights[i];
                            }
                        } else {
                            for (int32_t i = 0; i < count; ++i) {
                                totals[i] += pixel[(start + i) / per_input] * weights[i];
                            }
                        }
                    }
                }
                for (int32_t i = 0; i < count; ++i) {
                    *output++ = leanedge_requantize(totals[i], p->multiplier[start + i], p->power[start + i],
                                                    p->output_zero, p->low, p->high);
                }
            }
        }
    }
}
