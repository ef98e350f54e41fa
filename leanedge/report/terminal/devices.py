"""Devices on the console: the list, and all that one has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from leanedge.report import wording
from leanedge.report.terminal.rows import print_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console

    from leanedge.profile import DeviceProfile, Region

__all__ = ["print_target", "print_targets"]


def print_targets(console: Console, profiles: Sequence[DeviceProfile]) -> None:
    """One line a device: its name, what it is, its runtimes, and how its latency becomes known."""
    rows = [
        (
            profile.name,
            profile.title,
            ", ".join(dict.fromkeys(entry.runtime for entry in profile.runtimes)),
            _emulation(profile),
        )
        for profile in profiles
    ]
    print_rows(console, ("target", "device", "runtimes", "checked here by"), rows)
    if console.is_terminal:
        console.print(Text("leanedge targets show NAME tells all that one has; a .yaml file of your own works too"))


def _emulation(profile: DeviceProfile) -> str:
    if profile.emulator is not None:
        return f"emulation ({profile.emulator.cpu})"
    if profile.is_microcontroller:
        return f"emulation ({profile.cpu.core})"
    return "running it" if profile.name == "host" else "nothing"


def print_target(console: Console, profile: DeviceProfile) -> None:
    """All that a device has, each number with its source."""
    console.print(Text.assemble((profile.name, "bold"), f"  {profile.title}"), soft_wrap=True)
    for title, lines in _facts(profile):
        console.print(Text(f"\n{title}", style="bold"))
        for text, source in lines:
            console.print(
                Text.assemble("  ", text, (f"  [{source}]" if source else "", "bright_black")), soft_wrap=True
            )


def _frequency(hertz: int) -> str:
    return f"{hertz / 1e9:g} GHz" if hertz >= 1e9 else f"{hertz / 1e6:g} MHz"


def _region(region: Region) -> str:
    place = "" if region.address is None else f" at {region.address:#010x}"
    return f"{region.name}: {wording.quantity(region.bytes, 'bytes')} {region.kind}{place}"


def _facts(profile: DeviceProfile) -> Iterator[tuple[str, Iterable[tuple[str, str]]]]:
    cpu = profile.cpu
    core = f"{cpu.cores if cpu.cores else 'an unknown number of'} x {cpu.core or 'generic'} ({cpu.isa})"
    clock = f", {_frequency(cpu.clock_hz)}" if cpu.clock_hz else ", clock unknown"
    features = f"; {', '.join(cpu.features)}" if cpu.features else ""
    yield "processor", [(core + clock + features, cpu.source)]
    if profile.memory:
        yield (
            "memory",
            [(_region(region), region.source) for region in profile.memory],
        )
    if profile.caches:
        yield (
            "caches",
            [
                (
                    f"L{cache.level} {cache.kind}: {wording.quantity(cache.bytes, 'bytes')}, "
                    f"shared by {cache.shared_by}, lines of {cache.line_bytes} B",
                    cache.source,
                )
                for cache in profile.caches
            ],
        )
    for entry in profile.runtimes:
        size = "size unknown" if entry.installed_bytes is None else wording.quantity(entry.installed_bytes, "bytes")
        gains = [(f"gains from {gain.scheme}, {gain.pattern}: {gain.why}", "") for gain in entry.gains]
        yield f"runtime {entry.runtime}", [(f"target kind {entry.target}, installed {size}", entry.source), *gains]
    emulator, power = profile.emulator, profile.power
    if emulator is not None:
        yield "emulation", [(f"{emulator.cores} x {emulator.cpu}, {emulator.max_hz / 1e9:g} GHz", emulator.source)]
    if power is not None:
        yield "power", [(f"{power.load_watts:g} W for the whole board while all cores compute", power.source)]
    if profile.flash_timing is not None:
        flash = profile.flash_timing
        ahead = ", the next prefetched" if flash.prefetch else ""
        text = f"{flash.wait_states} wait states for each {flash.width_bytes} B{ahead}"
        yield "flash timing", [(text, flash.source)]
    if profile.cycle_energy is not None:
        energy = profile.cycle_energy
        text = f"{energy.pj:g} pJ a cycle ({energy.low:g} to {energy.high:g} published), {energy.conditions}"
        yield "energy", [(text, energy.source)]
    if profile.latency:
        yield (
            "latency constants",
            [
                (
                    f"{cell.runtime} {cell.dtype}, {cell.threads} threads: {cell.ns_per_instruction:.4g} ns an "
                    f"instruction, from {cell.models} models"
                    + ("" if cell.error is None else f", typical error {cell.error * 100:.0f} %")
                    + (f"; borrowed: {cell.borrowed}" if cell.borrowed else ""),
                    cell.source,
                )
                for cell in profile.latency
            ],
        )
