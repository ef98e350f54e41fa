"""Images: what is linked where, what runs, what does not fit, and the stack that was proved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from leanedge.targets.cortex_m.cores import CORES
from leanedge.targets.cortex_m.emulator import EmulationFault
from leanedge.targets.cortex_m.flash import CacheShape, FlashModel
from leanedge.targets.cortex_m.image import Image, ImageTooLarge, build_image, memory_map, run_image
from leanedge.targets.cortex_m.link_script import MemoryMap
from leanedge.targets.cortex_m.stack import UnprovableStack
from small_model import small_model, small_model_output

from leanedge import resources
from leanedge.profile import load_profile

if TYPE_CHECKING:
    from pathlib import Path

MAP = MemoryMap(0x0800_0000, 64 * 1024, 0x2000_0000, 16 * 1024)
BOARDS = [
    path for path in sorted(resources.folder("device_profiles").glob("*.yaml")) if load_profile(path).is_microcontroller
]
NOISE = [[np.random.default_rng(seed).bytes(64)] for seed in range(3)]


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
@pytest.mark.parametrize("core", CORES)
def test_an_image_computes_counts_by_layer_and_keeps_to_its_stack(
    core: str, compiler: Literal["zig", "gcc"], tmp_path: Path
) -> None:
    image = build_image(small_model(tmp_path), core, MAP, compiler)
    run = run_image(image, NOISE)
    assert run.outputs == tuple((small_model_output(given),) for (given,) in NOISE)
    assert set(run.by_layer) == {"", "first", "second"}
    assert sum(part.instructions for part in run.by_layer.values()) == run.counts.instructions
    assert run.by_layer["first"].by_class["store"] >= 16
    assert 64 <= run.stack_bytes <= image.stack_bytes <= run.stack_bytes + 64
    assert compiler in image.compiler
    names = {section.name: section for section in image.elf.sections}
    assert names[".vectors"].address == MAP.flash_address
    assert names[".data"].nbytes == 4
    assert names[".stack"].address == MAP.ram_address
    assert image.flash_bytes == sum(s.nbytes for s in image.elf.sections if s.address < MAP.ram_address) + 4
    assert 256 + 4 + image.stack_bytes <= image.ram_bytes <= 256 + 4 + image.stack_bytes + 160


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_each_board_runs_an_image_linked_to_its_memory(path: Path, tmp_path: Path) -> None:
    profile = load_profile(path)
    image = build_image(small_model(tmp_path), profile.cpu.core or "", memory_map(profile))
    assert run_image(image, NOISE[:1]).outputs == ((small_model_output(NOISE[0][0]),),)
    assert image.elf.symbols["vectors"] == min(r.address or 0 for r in profile.memory if r.kind == "flash")


def test_waiting_for_flash_is_counted_by_layer(tmp_path: Path) -> None:
    slow = FlashModel(5, 8, False, CacheShape(1, 8, 1), CacheShape(1, 8, 1))
    image = build_image(small_model(tmp_path), "cortex-m4", MAP)
    plain, waiting = run_image(image, NOISE), run_image(image, NOISE, slow)
    assert waiting.outputs == plain.outputs
    assert waiting.counts.cycles == plain.counts.cycles == plain.counts.device_cycles
    assert all(waiting.by_layer[layer].stall_cycles > 64 for layer in ("first", "second"))
    assert waiting.counts.stall_cycles == sum(counts.stall_cycles for counts in waiting.by_layer.values())


def test_the_same_sources_make_the_same_bytes(tmp_path: Path) -> None:
    first, second = (build_image(small_model(tmp_path), "cortex-m4", MAP) for _ in range(2))
    assert first.data == second.data


def test_too_little_memory_says_how_much_is_missing(tmp_path: Path) -> None:
    image = build_image(small_model(tmp_path), "cortex-m4", MAP)
    exact = MemoryMap(0, image.flash_bytes, 0x2000_0000, image.ram_bytes)
    assert build_image(small_model(tmp_path), "cortex-m4", exact).ram_bytes == image.ram_bytes
    for short in (
        MemoryMap(0, image.flash_bytes - 1, 0x2000_0000, image.ram_bytes),
        MemoryMap(0, image.flash_bytes, 0x2000_0000, image.ram_bytes - 1),
    ):
        with pytest.raises(ImageTooLarge, match="by 1 bytes") as error:
            build_image(small_model(tmp_path), "cortex-m4", short)
        assert (error.value.flash_bytes, error.value.ram_bytes) == (image.flash_bytes, image.ram_bytes)


def _faulting(tmp_path: Path, extra: str) -> Image:
    return build_image(small_model(tmp_path, extra=extra), "cortex-m4", MAP)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (f"*(volatile uint8_t *){MAP.ram_address + MAP.ram_bytes:#x}u = 1;", "where no memory is, in turn"),
        (f"(void)*(volatile uint8_t *){MAP.flash_address + MAP.flash_bytes:#x}u;", "read 1 bytes at 0x08010000"),
        (f"*(volatile uint8_t *){MAP.flash_address:#x}u = 1;", "which flash does not allow"),
        (f"*(volatile uint8_t *){MAP.ram_address - 1:#x}u = 1;", "where no memory is"),
    ],
)
def test_a_byte_past_the_memory_faults(extra: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(EmulationFault, match=said):
        run_image(_faulting(tmp_path, extra), NOISE[:1])


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
def test_the_proved_stack_grows_with_the_frames(compiler: Literal["zig", "gcc"], tmp_path: Path) -> None:
    small, large = (build_image(small_model(tmp_path, frame=size), "cortex-m4", MAP, compiler) for size in (64, 1600))
    assert large.stack_bytes - small.stack_bytes == 1600 - 64
    assert large.ram_bytes - small.ram_bytes == 1600 - 64


ASSEMBLY = '__asm__ volatile("push {r4-r7}\\n vpush {s16-s19}\\n sub sp, #256\\n str r0, [sp]\\n add sp, #256\\n" ' \
    '"vpop {s16-s19}\\n pop {r4-r7}" ::: "memory");'  # fmt: skip


def test_assembly_that_pushes_by_itself_is_counted(tmp_path: Path) -> None:
    plain, pushed = (build_image(small_model(tmp_path, extra=extra), "cortex-m4", MAP) for extra in ("", ASSEMBLY))
    assert pushed.stack_bytes == plain.stack_bytes + 16 + 16 + 256
    assert run_image(pushed, NOISE[:1]).stack_bytes > run_image(plain, NOISE[:1]).stack_bytes + 200


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("if (copy[0] == 1) { model_run(); copy[1] = 0; }", "recursion: .*turn"),
        ("((void (*)(void))(uintptr_t)(uint32_t)copy[0])();", "goes where a register says"),
        ("volatile int8_t more[copy[0]]; more[0] = 1;", "computes the stack pointer|bytes on the stack"),
    ],
)
def test_a_stack_without_bound_is_refused(extra: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UnprovableStack, match=said):
        build_image(small_model(tmp_path, extra=extra), "cortex-m4", MAP)
