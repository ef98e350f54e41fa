"""A Program's generated C as an image: its outputs are the reference's, by every compiler and emulator."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from layers import conv
from leanedge.targets.cortex_m.image import build_image, run_image
from leanedge.targets.cortex_m.kernels import KERNELS
from leanedge.targets.cortex_m.link_script import MemoryMap
from leanedge.targets.cortex_m.model_sources import write_model_sources

from leanedge.export.c_source import emit, make_kernels, make_layers, portable_kernel
from leanedge.program.simulate import simulate
from leanedge.program.types import Port, Program

if TYPE_CHECKING:
    from pathlib import Path

MAP = MemoryMap(0x0800_0000, 256 * 1024, 0x2000_0000, 64 * 1024)


def convolution() -> Program:
    program = conv((6, 6, 8), 12, kernel=(3, 3), pads=(1, 1, 1, 1), seed=3)
    return replace(program, inputs=(Port("image", "x0"),), outputs=(Port("result", "y"),))


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_an_image_computes_what_the_program_does(core: str, compiler: Literal["zig", "gcc"], tmp_path: Path) -> None:
    program = convolution()
    source = emit(program, make_kernels(make_layers(program, "net", core), [*KERNELS, portable_kernel]), "net")
    image = build_image(write_model_sources(source, tmp_path), core, MAP, compiler)
    samples = np.random.default_rng(0).integers(-128, 128, (3, 1, 6, 6, 8), np.int8)
    run = run_image(image, [[sample.tobytes()] for sample in samples])
    for sample, (found,) in zip(samples, run.outputs, strict=True):
        assert found == simulate(program, {"image": sample})["result"].tobytes()
    assert image.ram_bytes >= source.plan.arena_bytes + image.stack_bytes
    assert run.stack_bytes <= image.stack_bytes
