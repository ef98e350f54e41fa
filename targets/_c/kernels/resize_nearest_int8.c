/* resize_nearest of int8. SPDX-License-Identifier: 0BSD */
#include "leanedge_kernels.h"

void leanedge_resize_nearest_int8(const leanedge_resize_nearest *p, const int8_t *input, int8_t *output)
{
    for (int32_t row = 0; row < p->output_rows; ++row) {
        for (int32_t column = 0; column < p->output_columns; ++column) {
            const int8_t *pixel = input + (p->rows[row] * p->input_columns + p->columns[column]) * p->channels;
            for (int32_t i = 0; i < p->channels; ++i) {
                *output++ = pixel[i];
            }
        }
    }
}
