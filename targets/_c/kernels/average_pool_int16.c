/* average_pool of int16: padding is not counted, a half is rounded away from zero. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_kernels.h"

enum { BLOCK = 16 }; /* channels whose sums are held at once */

void leanedge_average_pool_int16(const leanedge_pool *p, const int16_t *input, int16_t *output)
{
    const leanedge_window *const w = &p->window;
    const int32_t channels = w->input_channels;
    for (int32_t out_row = 0; out_row < w->output_rows; ++out_row) {
        for (int32_t out_column = 0; out_column < w->output_columns; ++out_column) {
            for (int32_t start = 0; start < channels; start += BLOCK) {
                const int32_t count = channels - start < BLOCK ? channels - start : BLOCK;
                int32_t totals[BLOCK] = {0};
                int32_t pixels = 0;
                for (int32_t row = 0; row < w->kernel_rows; ++row) {
                    const int32_t y = out_row * w->stride_rows - w->pad_top + row;
                    for (int32_t column = 0; column < w->kernel_columns; ++column) {
                        const int32_t x = out_column * w->stride_columns - w->pad_left + column;
                        if (y < 0 || y >= w->input_rows || x < 0 || x >= w->input_columns) {
                            continue;
                        }
                        const int16_t *pixel = input + (y * w->input_columns + x) * channels + start;
                        for (int32_t i = 0; i < count; ++i) {
                            totals[i] += pixel[i];
                        }
                        ++pixels;
                    }
                }
                for (int32_t i = 0; i < count; ++i) {
                    const int32_t half = totals[i] > 0 ? pixels / 2 : -(pixels / 2);
                    *output++ = (int16_t)leanedge_clamp((totals[i] + half) / pixels, p->low, p->high);
                }
            }
        }
    }
}
