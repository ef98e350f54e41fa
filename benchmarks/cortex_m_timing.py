"""How far predicted cycles are from published ones: CMSIS-NN's kernels, whose times on a board are known, emulated.

    python -m benchmarks.cortex_m_timing CMSIS_NN [MODELS]

CMSIS_NN is a checkout of github:ARM-software/CMSIS-NN; MODELS holds the MLPerf Tiny .tflite files (LEANEDGE_SHARED's by
default). Convolutions and fully connected layers run in CMSIS-NN, the rest in portable C; compiled with GCC.

Published: MLPerf Tiny v1.1, closed division, Skymizer (ONNC with CMSIS-NN kernels), NUCLEO_L4R5ZI at 120 MHz. Models
are simplified before (vww loses its dead channels), as ONNC does; whether it removes the same is not known.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from leanedge.targets.cortex_m.flash import flash_model
from leanedge.targets.cortex_m.image import build_image, memory_map, run_image
from leanedge.targets.cortex_m.model_sources import write_model_sources

from leanedge.export.c_source import Constant, Kernel, Layer, emit, make_kernels, make_layers, portable_kernel
from leanedge.profile import load_profile
from leanedge.program.simplify import simplify
from leanedge.program.tflite_file import load_tflite
from leanedge.program.weighted import weighted_layer

BOARD = "nucleo-l4r5zi"
PUBLISHED = {"kws": 9.84e6, "vww": 20.66e6, "ic": 35.84e6, "ad": 0.969e6}
"""Cycles."""

_KINDS = {
    "conv_2d": ("conv", "arm_convolve_wrapper_s8"),
    "depthwise_conv_2d": ("dw_conv", "arm_depthwise_conv_wrapper_s8"),
    "fully_connected": ("fc", "arm_fully_connected_s8"),
}
_FOLDERS = ("ConvolutionFunctions", "FullyConnectedFunctions", "NNSupportFunctions")


def cmsis_kernel(layer: Layer) -> Kernel | None:
    """A layer with weights by CMSIS-NN's own choice of kernel."""
    if layer.operator.kind not in _KINDS:
        return None
    numbers, name = weighted_layer(layer.program, layer.operator), layer.prefix
    short, function = _KINDS[layer.operator.kind]
    (height, width, depth), (rows, columns, channels) = numbers.input_shape, numbers.output_shape
    kernel_height, kernel_width = numbers.kernel
    constants = [
        Constant(f"{name}_w", numbers.weights.astype(np.int8), "weights", 16),
        Constant(f"{name}_b", numbers.bias.astype(np.int32), "bias"),
        Constant(f"{name}_m", numbers.multiplier.astype(np.int32), "multipliers"),
        Constant(f"{name}_s", numbers.power.astype(np.int32), "shifts"),
    ]
    offsets = f".input_offset = {-numbers.input_zero}, .output_offset = {numbers.output_zero}, "
    clamp = f".activation = {{{numbers.low}, {numbers.high}}}"
    if short == "fc":
        parameters = f"{{{offsets}{clamp}}}"
        quant = f"cmsis_nn_per_tensor_quant_params quant = {{{int(numbers.multiplier[0])}, {int(numbers.power[0])}}};"
        dims = [(width, 1, 1, depth), (depth, 1, 1, channels), (1, 1, 1, channels), (columns, 1, 1, channels)]
    else:
        (stride_v, stride_h), (dil_v, dil_h), (top, _, left, _) = numbers.strides, numbers.dilations, numbers.pads
        multiple = f".ch_mult = {channels // depth}, " if short == "dw_conv" else ""
        windows = (
            f".stride = {{{stride_h}, {stride_v}}}, .padding = {{{left}, {top}}}, .dilation = {{{dil_h}, {dil_v}}}, "
        )
        parameters = f"{{{offsets}{multiple}{windows}{clamp}}}"
        quant = f"cmsis_nn_per_channel_quant_params quant = {{(int32_t *){name}_m, (int32_t *){name}_s}};"
        first = 1 if short == "dw_conv" else channels
        filters = (first, kernel_height, kernel_width, depth if short == "conv" else channels)
        dims = [(1, height, width, depth), filters, (1, 1, 1, channels), (1, rows, columns, channels)]
    shapes = "".join(
        f"    const cmsis_nn_dims {what} = {{{', '.join(map(str, shape))}}};\n"
        for what, shape in zip(("in", "filter", "bias", "out"), dims, strict=True)
    )
    source = f"""#include "arm_nnfunctions.h"
static void {name}_run(const int8_t *from, int8_t *to, void *scratch)
{{
    const cmsis_nn_{short}_params parameters = {parameters};
    const {quant}
{shapes}    const cmsis_nn_context context = {{scratch, 0}};
    (void){function}(&context, &parameters, &quant, &in, from, &filter, {name}_w, &bias, {name}_b, &out, to);
}}"""
    call = f"{name}_run({{input0}}, {{output0}}, {{scratch}});"
    scratch = 8 * kernel_height * kernel_width * max(depth, channels) + 4 * channels + 256
    return Kernel("cmsis_nn", call, tuple(constants), source, (), scratch, (None,))


def main(arguments: list[str]) -> None:
    cmsis = Path(arguments[0]).absolute()
    models = Path(arguments[1]) if len(arguments) > 1 else Path(os.environ["LEANEDGE_SHARED"]) / "models/mlperf_tiny"
    profile = load_profile(BOARD)
    core = profile.cpu.core or ""
    print("model  instructions  cycles without waiting  with waiting  published  difference")
    for name, published in PUBLISHED.items():
        program = simplify(load_tflite(models / f"{name}.tflite")).program
        source = emit(program, make_kernels(make_layers(program, name, core), [cmsis_kernel, portable_kernel]), name)
        with tempfile.TemporaryDirectory() as work:
            sources = write_model_sources(source, Path(work))
            files = [path for folder in _FOLDERS for path in sorted((cmsis / "Source" / folder).glob("arm_*s8*.c"))]
            files += sorted((cmsis / "Source" / "NNSupportFunctions").glob("arm_*q7*.c"))
            text = "#pragma GCC system_header\n" + "".join(f'#include "{path}"\n' for path in dict.fromkeys(files))
            (Path(work) / "cmsis_nn_sources.h").write_text(text)
            (Path(work) / "cmsis_nn.c").write_text('#include "cmsis_nn_sources.h"\n')
            sources = replace(
                sources,
                files=(*sources.files, Path(work) / "cmsis_nn.c"),
                include=(*sources.include, cmsis / "Include"),
            )
            image = build_image(sources, core, memory_map(profile), "gcc")
        noise = [np.random.default_rng(0).integers(-128, 128, nbytes, np.int8).tobytes() for nbytes in image.inputs]
        counts = run_image(image, [noise], flash_model(profile)).counts
        off = counts.device_cycles / published - 1
        print(
            f"{name:5}  {counts.instructions:12,}  {counts.cycles:22,}  {counts.device_cycles:12,}"
            f"  {round(published):9,}  {off:+10.1%}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
