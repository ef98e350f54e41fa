"""What docs/profiles.md and docs/figures.md say is so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from leanedge import resources
from leanedge.budget import KEYS, UNITS, parse_budget
from leanedge.profile import (
    Cpu,
    CycleEnergy,
    DeviceProfile,
    Emulator,
    FlashTiming,
    LatencyCell,
    Power,
    list_profiles,
    load_profile,
)

if TYPE_CHECKING:
    from pathlib import Path

DOCS = resources.folder("device_profiles").parent / "docs"
PROFILES = (DOCS / "profiles.md").read_text(encoding="utf-8")
FIGURES = (DOCS / "figures.md").read_text(encoding="utf-8")


def test_the_table_lists_every_profile_as_it_is() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \| (.+) \| (.+) \| (.+) \|$", PROFILES, re.MULTILINE)
    listed = {row[0]: row for row in rows}
    assert set(listed) == set(list_profiles())
    for name, row in listed.items():
        profile = load_profile(name)
        assert (profile.emulator is not None or profile.is_microcontroller) == row[2].startswith("Cortex")
        assert bool(profile.latency or profile.flash_timing) == row[3].startswith("yes"), name
        assert bool(profile.power or profile.cycle_energy) == (row[4] == "yes"), name


def test_every_key_is_described() -> None:
    for name, field in DeviceProfile.model_fields.items():
        assert f"| `{field.alias or name}` |" in PROFILES
    for model in (Cpu, CycleEnergy, Emulator, FlashTiming, Power):
        for name in model.model_fields:
            assert f"`{name}`" in PROFILES, f"{model.__name__}.{name}"
    for name in ("ns_per_instruction", "low", "high", "error", "models", "borrowed", "decides"):
        assert name in LatencyCell.model_fields
        assert f"`{name}`" in FIGURES


def test_the_example_profile_loads(tmp_path: Path) -> None:
    example = re.findall(r"```yaml\n(.*?)```", PROFILES, re.DOTALL)
    assert len(example) == 1
    (tmp_path / "my-board.yaml").write_text(example[0])
    profile = load_profile(tmp_path / "my-board.yaml")
    assert profile.region_bytes("ram") == 1 << 30
    assert profile.cpu.clock_hz == 1_800_000_000


def test_the_budget_line_parses_and_every_unit_is_named() -> None:
    line = re.search(r"--budget (\S+)", FIGURES)
    assert line is not None
    parse_budget(line[1])
    keys = re.search(r"^Keys: .*$", FIGURES, re.MULTILINE)
    assert keys is not None
    for key, field in KEYS.items():
        assert f"`{key}`" in keys[0]
        for unit in UNITS[field]:
            assert re.search(rf"\b{unit}\b", keys[0])
