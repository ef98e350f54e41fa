/* conv_2d of int8. SPDX-License-Identifier: 0BSD */
#include "leanedge_dots.h"
#include "leanedge_fixed_point.h"
#include "leanedge_kernels.h"

static inline int32_t smaller(int32_t left, int32_t right)
{
    return left < right ? left : right;
}

/* First tap at or after the image's edge, and one past the last tap inside it. */
static inline int32_t first_tap(int32_t start, int32_t dilation)
{
    return start < 0 ? (dilation - 1 - start) / dilation : 0;
}

static inline int32_t end_tap(int32_t start, int32_t dilation, int32_t size, int32_t taps)
{
    return size <= start ? 0 : smaller(taps, (size - start + dilation - 1) / dilation);
}

static inline int32_t sum(const int8_t *numbers, int32_t count)
{
    int32_t total = 0;
    for (int32_t i = 0; i < count; ++i) {
        total += numbers[i];
    }
    return total;
}

void leanedge_conv_2d_int8(const leanedge_conv *p, const int8_t *input, int8_t *output)
{
    const leanedge_window *const w = &p->window;
    const int32_t depth = w->input_channels / p->groups;
    const int32_t group_outputs = w->output_channels / p->groups;
    const int32_t kernel_row = w->kernel_columns * depth;
    /* Taps of one row follow each other in memory where nothing lies between them. */
    const int32_t contiguous = w->dilation_columns == 1 && p->groups == 1;
    for (int32_t out_row = 0; out_row < w->output_rows; ++out_row) {
        const int32_t top = out_row * w->stride_rows - w->pad_top;
        const int32_t first_row = first_tap(top, w->dilation_rows);
        const int32_t end_row = end_tap(top, w->dilation_rows, w->input_rows, w->kernel_rows);
        for (int32_t out_column = 0; out_column < w->output_columns; ++out_column) {
            const int32_t left = out_column * w->stride_columns - w->pad_left;
            const int32_t first = first_tap(left, w->dilation_columns);
            const int32_t end = end_tap(left, w->dilation_columns, w->input_columns, w->kernel_columns);
            const int32_t inside =
                first_row == 0 && end_row == w->kernel_rows && first == 0 && end == w->kernel_columns;
            int32_t channel = 0;
            for (; inside && contiguous && channel + 4 <= w->output_channels; channel += 4) {
                const int32_t step = w->kernel_rows * kernel_row;
                const int8_t *weights = p->weights + channel * step;
                const int32_t *bias = p->bias + channel;
                int32_t totals[4] = {bias[0], bias[1], bias[2], bias[3]};
                for (int32_t row = 0; row < w->kernel_rows; ++row, weights += kernel_row) {
                    const int32_t at = ((top + row * w->dilation_rows) * w->input_columns + left) * w->input_channels;
                    leanedge_four_dots(input + at, weights, step, kernel_row, totals);
                }
                for (int32_t i = 0; i < 4; ++i) {
                    *output++ = leanedge_requantize(totals[i], p->multiplier[channel + i], p->power[channel + i],
                                                    p->output_zero, p->low, p->high);
                }
            }
            for (; channel < w->output_channels; ++channel) {
                const int32_t in_channel = channel / group_outputs * depth;
                const int8_t *weights = p->weights + channel * w->kernel_rows * kernel_row;
                int32_t total = p->bias[channel];
                for (int32_t row = 0; row < w->kernel_rows; ++row, weights += kernel_row) {
                    if (row < first_row || row >= end_row || first >= end) {
                        total += p->input_zero * sum(weights, kernel_row);
                        continue;
                    }
                    const int32_t at = ((top + row * w->dilation_rows) * w->input_columns + left) * w->input_channels;
                    if (contiguous) {
                        total += leanedge_dot(input + at + first * depth, weights + first * depth, (end - first) * depth);
                    } else {
                        for (int32_t tap = first; tap < end; ++tap) {
                            const int32_t place = at + tap * w->dilation_columns * w->input_channels + in_channel;
                            total += leanedge_dot(input + place, weights + tap * depth, depth);
                        }
                    }
                    /* Padding holds the input's zero point, which the bias has subtracted for every tap. */
                    if (first > 0) {
                        total += p->input_zero * sum(weights, first * depth);
                    }
                    if (end < w->kernel_columns) {
                        total += p->input_zero * sum(weights + end * depth, (w->kernel_columns - end) * depth);
                    }
                }
                *output++ = leanedge_requantize(total, p->multiplier[channel], p->power[channel], p->output_zero,
                                                p->low, p->high);
            }
        }
    }
}
