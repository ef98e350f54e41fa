/* Transposes and slices of int8. SPDX-License-Identifier: 0BSD */
#include "leanedge_kernels.h"

void leanedge_strided_copy_int8(const leanedge_strided_copy *p, const int8_t *input, int8_t *output)
{
    int32_t index[5] = {0, 0, 0, 0, 0};
    const int32_t step = p->strides[5];
    const int8_t *row = input + p->start;
    for (;;) {
        for (int32_t i = 0; i < p->sizes[5]; ++i) {
            *output++ = row[i * step];
        }
        int32_t axis = 4;
        while (axis >= 0 && ++index[axis] == p->sizes[axis]) {
            row -= (p->sizes[axis] - 1) * p->strides[axis];
            index[axis--] = 0;
        }
        if (axis < 0) {
            return;
        }
        row += p->strides[axis];
    }
}
