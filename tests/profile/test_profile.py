"""Device profiles: each shipped one loads, each number has its source, each mistake is named with its line."""

from __future__ import annotations

import ast
import itertools
import re
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import pytest
from leanedge.targets.cortex_m.cores import core_named
from leanedge.targets.cortex_m.image import memory_map
from pydantic import BaseModel

from leanedge import resources
from leanedge.errors import ProfileError
from leanedge.profile import DeviceProfile, LatencyCell, list_profiles, load_profile

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = resources.folder("device_profiles")
FILES = sorted(FOLDER.glob("*.yaml"))
BOARDS = [
    "nrf52840-dk",
    "nucleo-f746zg",
    "nucleo-g0b1re",
    "nucleo-h7a3zi-q",
    "nucleo-l4r5zi",
    "nucleo-u575zi-q",
    "rp2040",
    "rp2350",
]
SHIPPED = sorted([*BOARDS, "aarch64-generic", "rpi-zero-2w", "rpi3", "rpi4", "rpi5", "x86-avx2", "x86-vnni"])


def _smallest(**changes: str) -> str:
    lines = {
        "schema": "1",
        "name": "board",
        "title": "a board",
        "cpu": "{core: null, isa: aarch64, cores: 2, clock_hz: 1e9, features: [asimd], source: data sheet 1}",
        "memory": "[{name: sdram, kind: ram, bytes: 1000, source: data sheet 1}]",
        "caches": "[]",
        "runtimes": "[{target: linux_onnxruntime, runtime: onnxruntime, installed_bytes: null, source: not measured,"
        " gains: [{scheme: w8a8, pattern: dense, why: because}]}]",
        "emulator": "null",
        "power": "null",
        "latency": "[]",
    }
    return "\n".join(f"{key}: {value}" for key, value in (lines | changes).items()) + "\n"


def _load(tmp_path: Path, text: str) -> DeviceProfile:
    path = tmp_path / "board.yaml"
    path.write_text(text, encoding="utf-8")
    return load_profile(path)


def test_the_shipped_profiles_are_these_and_host() -> None:
    assert sorted(path.stem for path in FILES) == SHIPPED
    assert list_profiles() == (*SHIPPED, "host")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_file_loads_under_its_own_name(path: Path) -> None:
    profile = load_profile(path.stem)
    assert profile.name == path.stem
    assert profile == load_profile(path)
    assert profile.schema_version == 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_profile_agrees_with_itself(path: Path) -> None:
    profile = load_profile(path)
    if profile.emulator is not None:
        assert set(profile.cpu.features) <= set(profile.emulator.features)
        assert profile.cpu.core in (None, profile.emulator.cpu)
        assert profile.cpu.cores in (None, profile.emulator.cores)
        assert profile.cpu.clock_hz in (None, profile.emulator.max_hz)
    for cache in profile.caches:
        assert cache.shared_by <= (profile.cpu.cores or 4)
    names = {entry.runtime for entry in profile.runtimes}
    for cell in profile.latency:
        assert cell.runtime in names
        assert cell.threads <= profile.threads


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dot_product_gains_are_claimed_only_where_the_flag_is(path: Path) -> None:
    profile = load_profile(path)
    flags = set(profile.emulator.features if profile.emulator else profile.cpu.features)
    for entry in profile.runtimes:
        for gain in entry.gains:
            if "dot product" in gain.why:
                assert flags & {"asimddp", "avx512_vnni", "avx_vnni"}


@pytest.mark.parametrize("name", BOARDS)
def test_images_can_be_linked_for_each_board(name: str) -> None:
    profile = load_profile(name)
    assert profile.is_microcontroller
    core = core_named(profile.cpu.core or "")
    assert core.dsp == ("dsp" in profile.cpu.features)
    assert core.fpu == ("fpu" in profile.cpu.features)
    memory = memory_map(profile)
    assert memory.flash_bytes == profile.region_bytes("flash")
    assert memory.ram_bytes <= (profile.region_bytes("ram") or 0)
    regions = sorted((region.address or 0, region.bytes) for region in profile.memory)
    assert all(begin + size <= following for (begin, size), (following, _) in itertools.pairwise(regions))


def test_a_microcontroller_without_an_address_is_refused(tmp_path: Path) -> None:
    cpu = "{core: cortex-m4, isa: armv7e-m, cores: 1, clock_hz: 1e8, features: [], source: data sheet 1}"
    ram = "{name: sram, kind: ram, address: 0x20000000, bytes: 1000, source: data sheet 1}"
    flash = "{name: flash, kind: flash, bytes: 1000, source: data sheet 1}"
    with pytest.raises(ProfileError, match="region of kind 'flash' with its 'address'"):
        _load(tmp_path, _smallest(cpu=cpu, memory=f"[{flash}, {ram}]"))
    placed = flash.replace("bytes", "address: 0, bytes")
    assert _load(tmp_path, _smallest(cpu=cpu, memory=f"[{placed}, {ram}]")).is_microcontroller


def test_the_energy_of_a_cycle_is_within_what_was_published(tmp_path: Path) -> None:
    energy = "{pj: 10, low: 11, high: 12, conditions: 3 V, source: data sheet 1}"
    with pytest.raises(ProfileError, match="'pj' must be between"):
        _load(tmp_path, _smallest(cycle_energy=energy))


def _models(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for argument in get_args(kind) for model in _models(argument)]


def _is_number(kind: Any) -> bool:
    if get_origin(kind) is Annotated or get_origin(kind) in (Union, UnionType, tuple):
        return any(_is_number(argument) for argument in get_args(kind))
    return kind in (int, float)


def test_the_schema_itself_asks_for_a_source_beside_every_number() -> None:
    todo: list[type[BaseModel]] = [DeviceProfile]
    seen: set[type[BaseModel]] = set()
    with_numbers = set()
    while todo:
        model = todo.pop()
        if model in seen:
            continue
        seen.add(model)
        for name, field in model.model_fields.items():
            todo += _models(field.annotation)
            if _is_number(field.annotation) and name != "schema_version":
                with_numbers.add(model)
                assert model.model_fields["source"].is_required(), f"{model.__name__}.{name} has no source"
    assert {model.__name__ for model in with_numbers} == {
        "Cpu", "Region", "Cache", "RuntimeEntry", "Emulator", "Power", "LatencyCell", "FlashTiming", "CycleEnergy",
    }  # fmt: skip


def test_a_number_without_its_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"board\.yaml:5: key 'memory\[0\]\.source' is missing"):
        _load(tmp_path, _smallest(memory="[{name: sdram, kind: ram, bytes: 1000}]"))
    with pytest.raises(ProfileError, match="source"):
        _load(tmp_path, _smallest(memory='[{name: sdram, kind: ram, bytes: 1000, source: ""}]'))


def test_the_smallest_profile_loads(tmp_path: Path) -> None:
    profile = _load(tmp_path, _smallest())
    assert profile.threads == 2
    assert profile.cpu.clock_hz == 1_000_000_000
    assert profile.region_bytes("ram") == 1000
    assert profile.region_bytes("flash") is None
    assert profile.gains("onnxruntime", "w8a8", "dense")
    assert not profile.gains("onnxruntime", "fp32", "channel")
    with pytest.raises(ProfileError, match=r"no runtime 'onxruntime'(.|\n)*did you mean 'onnxruntime'"):
        profile.runtime("onxruntime")


def test_a_typo_names_file_line_and_the_nearest_key(tmp_path: Path) -> None:
    text = _smallest().replace("memory:", "memry:")
    with pytest.raises(ProfileError) as error:
        _load(tmp_path, text)
    assert f"{tmp_path / 'board.yaml'}:5:" in str(error.value)
    assert "did you mean 'memory'?" in str(error.value)


def test_a_typo_inside_a_list_is_found_too(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"board\.yaml:5: unknown key 'memory\[0\]\.byts'(.|\n)*'bytes'"):
        _load(tmp_path, _smallest(memory="[{name: sdram, kind: ram, byts: 1000, source: data sheet 1}]"))


def test_a_key_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"board\.yaml:11: key 'power' is given twice"):
        _load(tmp_path, _smallest() + "power: null\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "2"}, "schema"),
        ({"name": "My Board"}, "name"),
        ({"runtimes": "[]"}, "runtimes"),
        ({"memory": "[{name: a, kind: ram, bytes: 0, source: data sheet 1}]"}, "bytes"),
        ({"memory": "[{name: a, kind: ram, bytes: 1.5, source: data sheet 1}]"}, "whole number"),
        ({"memory": '[{name: a, kind: ram, bytes: "1", source: data sheet 1}]'}, "whole number"),
        (
            {"memory": "[" + ", ".join(["{name: a, kind: ram, bytes: 1, source: data sheet 1}"] * 2) + "]"},
            "a is given twice",
        ),
    ],
)
def test_a_wrong_value_is_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        _load(tmp_path, _smallest(**changes))


def test_the_emulator_can_not_be_a_core_that_does_not_exist(tmp_path: Path) -> None:
    emulator = (
        "{cpu: max, cores: 1, max_hz: 1e9, implementer: 0x41, architecture: 8, variant: 0, part: 0xd08, revision: 3,"
        " features: [fp], hardware: null, board_revision: null, model: null, source: data sheet 1}"
    )
    with pytest.raises(ProfileError, match="'max' is no core"):
        _load(tmp_path, _smallest(emulator=emulator))


def test_an_unknown_target_lists_all_and_the_nearest() -> None:
    with pytest.raises(ProfileError) as error:
        load_profile("rpi44")
    assert "unknown target 'rpi44'" in str(error.value)
    assert "did you mean 'rpi4'?" in str(error.value)
    for name in list_profiles():
        assert name in str(error.value)
    assert error.value.exit_code == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"nowhere\.yaml"):
        load_profile(tmp_path / "nowhere.yaml")


CELL = {
    "runtime": "onnxruntime", "dtype": "fp32", "threads": 4, "ns_per_instruction": 0.3, "low": 0.8, "high": 1.25,
    "error": 0.1, "models": 5, "borrowed": None, "decides": True, "source": "a benchmark",
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"low": 1.1},
        {"high": 0.9},
        {"models": 3},
        {"models": 3, "borrowed": "the spread"},
        {"models": 3, "decides": False},
        {"ns_per_instruction": 0.0},
        {"ns_per_instruction": float("nan")},
    ],
)
def test_a_latency_cell_can_not_claim_more_than_it_knows(changes: dict[str, Any]) -> None:
    LatencyCell(**CELL)
    with pytest.raises(ValueError):
        LatencyCell(**CELL | changes)


def _words_of_code(path: Path) -> list[tuple[int, str]]:
    """Names and text of a Python file with their lines; sentences, which may show a device as an example, left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    words = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value.strip():
            words.append((node.lineno, node.value))
        elif isinstance(node, ast.Name):
            words.append((node.lineno, node.id))
        elif isinstance(node, ast.Attribute):
            words.append((node.lineno, node.attr))
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            words.append((node.lineno, hex(node.value)))
    return words


def test_no_device_name_in_code() -> None:
    """Devices are YAML. Code that names one would work for that one only."""
    names = [name for name in SHIPPED if name != "x86-avx2"]
    names += ["raspberry", r"bcm2[78]\d", r"cortex-a\d", r"0xd0[38b]\b"]
    pattern = re.compile("|".join(rf"(?<![a-z0-9]){name}" for name in names), re.IGNORECASE)
    files = [path for folder in ("leanedge", "targets") for path in sorted((FOLDER.parent / folder).rglob("*.py"))]
    assert len(files) > 10
    found = [
        f"{path.relative_to(FOLDER.parent)}:{line}: {word[:60]!r}"
        for path in files
        for line, word in _words_of_code(path)
        if pattern.search(word)
    ]
    assert found == []
