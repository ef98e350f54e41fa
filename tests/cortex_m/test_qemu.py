"""The second emulator agrees with the first: outputs to the bit, executed instructions but for the main loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from leanedge.targets.cortex_m.cores import CORES
from leanedge.targets.cortex_m.emulator import EmulationFault
from leanedge.targets.cortex_m.image import build_image, run_image
from leanedge.targets.cortex_m.link_script import MemoryMap
from leanedge.targets.cortex_m.qemu import QEMU, run_in_qemu
from small_model import small_model, small_model_output

if TYPE_CHECKING:
    from pathlib import Path

MAP = MemoryMap(0x0800_0000, 64 * 1024, 0x2000_0000, 16 * 1024)
NOISE = [[np.random.default_rng(seed).bytes(64)] for seed in range(3)]


@pytest.fixture(scope="module", autouse=True)
def _qemu() -> None:
    QEMU.get()


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
@pytest.mark.parametrize("core", CORES)
def test_both_emulators_agree(core: str, compiler: Literal["zig", "gcc"], tmp_path: Path) -> None:
    sources = small_model(tmp_path)
    first = run_image(build_image(sources, core, MAP, compiler), NOISE)
    second = run_in_qemu(sources, core, NOISE, compiler)
    assert second.outputs == first.outputs == tuple((small_model_output(given),) for (given,) in NOISE)
    assert first.counts.instructions > 150
    # Between the marks stand a return and a call; one main loop counts its inferences.
    for kind in ("multiply", "fp_move", "fp_arithmetic"):
        assert second.counts.by_class[kind] == first.counts.by_class[kind]
    assert abs(second.counts.instructions - first.counts.instructions) <= 16
    assert abs(second.counts.cycles - first.counts.cycles) <= 32


def test_a_crash_is_said(tmp_path: Path) -> None:
    sources = small_model(tmp_path, extra="*(volatile uint32_t *)0xF0000000u = 1;")
    with pytest.raises(EmulationFault, match=r"did not end|ended with"):
        run_in_qemu(sources, "cortex-m4", NOISE[:1], seconds=1)
