"""A device as data: what it has, what its runtimes gain from, and where each number was read.

One YAML file a device, in ``device_profiles/`` or anywhere the user likes. Every mapping that holds a number must also
hold its ``source``; what has no source stays out of the file or is null.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from leanedge import resources
from leanedge.errors import ProfileError, nearest
from leanedge.names import Pattern, Scheme  # noqa: TC001 (pydantic reads the annotations)
from leanedge.yaml_file import StrictModel, parse

__all__ = [
    "SCHEMA",
    "Cache",
    "Cpu",
    "CycleEnergy",
    "DeviceProfile",
    "Emulator",
    "FlashTiming",
    "Gain",
    "LatencyCell",
    "Power",
    "Region",
    "RuntimeEntry",
    "list_profiles",
    "load_profile",
]

SCHEMA = 1
HOST = "host"

Source = Annotated[str, Field(min_length=8)]
"""Where a mapping's numbers were read: a document, a kernel file, a dump, or the command that measured them."""

Count = Annotated[int, Field(gt=0)]
Ratio = Annotated[float, Field(gt=0)]


class Cpu(StrictModel):
    """The processor that inference runs on.

    Attributes:
        core: Arm's or the vendor's name of the core, lower case; null for a generic profile.
        isa: Instruction set.
        cores: Cores of that kind, the default number of threads; null when it is not known.
        clock_hz: Highest clock it ships with; null when it is not known.
        features: Flags of /proc/cpuinfo that kernels need or choose by. A host without them can't stand in for it.
    """

    core: str | None
    isa: Literal["aarch64", "x86_64", "armv6-m", "armv7e-m", "armv8-m.main"]
    cores: Count | None
    clock_hz: Count | None
    features: tuple[str, ...]
    source: Source


class Region(StrictModel):
    """A named piece of memory. There is never one "RAM" number: see `DeviceProfile.region_bytes`.

    `address` is where the device's processor sees it, for devices whose images are linked to it.
    """

    name: str
    kind: Literal["ram", "flash", "storage"]
    address: Annotated[int, Field(ge=0)] | None = None
    bytes: Count
    source: Source


class Cache(StrictModel):
    """One cache, as Linux describes it in sysfs. `shared_by` is the number of cores that share it."""

    level: Annotated[int, Field(ge=1, le=4)]
    kind: Literal["data", "instruction", "unified"]
    bytes: Count
    line_bytes: Count
    shared_by: Count
    source: Source


class Gain(StrictModel):
    """A combination that this runtime's kernels execute faster than dense fp32 on this device, and why."""

    scheme: Scheme
    pattern: Pattern
    why: str


class RuntimeEntry(StrictModel):
    """A runtime that the device can have.

    Attributes:
        target: Target kind, a folder of ``targets/``.
        runtime: The runtime as the device-side runner names it.
        installed_bytes: What it takes on the device's storage, without what it shares with others; null if unknown.
        gains: What its kernels gain speed from.
    """

    target: str
    runtime: str
    installed_bytes: Count | None
    source: Source
    gains: tuple[Gain, ...]


class Emulator(StrictModel):
    """How the device looks to a program: what the emulator's view of /proc/cpuinfo and sysfs is made of.

    Attributes:
        cpu: The emulator's name of the core. Never ``max``: it has features that no named core has together.
        cores: How many there are, all alike.
        max_hz: The highest clock that sysfs shows.
        implementer: MIDR_EL1 fields, as /proc/cpuinfo shows them.
        architecture: The same.
        variant: The same.
        part: The same.
        revision: The same.
        features: The ``Features`` line.
        hardware: The ``Hardware`` line, null where the kernel prints none.
        board_revision: The ``Revision`` line, hexadecimal text.
        model: The ``Model`` line.
    """

    cpu: str
    cores: Count
    max_hz: Count
    implementer: int
    architecture: int
    variant: int
    part: int
    revision: int
    features: tuple[str, ...]
    hardware: str | None
    board_revision: str | None
    model: str | None
    source: Source

    @field_validator("cpu")
    @classmethod
    def _named_core(cls, cpu: str) -> str:
        if cpu == "max":
            raise ValueError("'max' is no core that exists, and runtimes compute wrongly on it; name the device's core")
        return cpu


class Power(StrictModel):
    """Power of the whole board while all cores compute."""

    load_watts: Ratio
    source: Source


class LatencyCell(StrictModel):
    """Nanoseconds for one executed instruction, for one runtime, dtype and number of threads on this device.

    Attributes:
        runtime: The runtime, as the runner names it.
        dtype: What the bulk of the arithmetic is done in.
        threads: Number of threads.
        ns_per_instruction: Latency divided by the instructions that all threads executed.
        low: Factor on the prediction that the published latency stayed above, in 9 of 10 cases.
        high: Factor that it stayed below.
        error: Median relative error, each model predicted by the others; null where there are no others.
        models: Models of published latency that the constant comes from. 0: all of it is borrowed.
        borrowed: What was taken from another cell and why; null when nothing was.
        decides: Whether it may decide between candidates whose predictions are close.
    """

    runtime: str
    dtype: Literal["fp32", "int8"]
    threads: Count
    ns_per_instruction: Ratio
    low: Ratio
    high: Ratio
    error: Ratio | None
    models: Annotated[int, Field(ge=0)]
    borrowed: str | None
    decides: bool
    source: Source

    @model_validator(mode="after")
    def _honest(self) -> LatencyCell:
        if not self.low <= 1 <= self.high:
            raise ValueError("'low' must be at most 1 and 'high' at least 1: factors around the prediction")
        if self.models < 4 and (self.borrowed is None or self.decides):
            raise ValueError("a cell of fewer than 4 models says what it borrowed and has 'decides: false'")
        return self


class FlashTiming(StrictModel):
    """What reading flash costs the core at `Cpu.clock_hz`, beside what caches save.

    Attributes:
        wait_states: Cycles that a read of flash takes beyond the first.
        width_bytes: What one read brings.
        prefetch: Whether the next piece of code is read while this one is executed.
    """

    wait_states: Annotated[int, Field(ge=0)]
    width_bytes: Count
    prefetch: bool
    source: Source


class CycleEnergy(StrictModel):
    """Energy of one cycle of the core while it computes, the memories' included.

    Attributes:
        pj: Picojoules.
        low: The least that was published for the board.
        high: The most.
        conditions: Supply and clock that it holds for.
    """

    pj: Ratio
    low: Ratio
    high: Ratio
    conditions: str
    source: Source

    @model_validator(mode="after")
    def _in_order(self) -> CycleEnergy:
        if not self.low <= self.pj <= self.high:
            raise ValueError("'pj' must be between 'low' and 'high'")
        return self


class DeviceProfile(StrictModel):
    """One device.

    Attributes:
        schema_version: ``schema`` in the file; a newer one than this program knows is refused.
        name: What ``--target`` takes.
        title: The exact board or class of machine.
        cpu: The processor.
        memory: Named regions.
        caches: First level first; empty when unknown.
        runtimes: Runtimes, the preferred first.
        emulator: Its view under emulation; null where the device is not emulated.
        power: Board power; null where no source gives it.
        latency: Constants for predicted latency; empty where nothing is published.
        flash_timing: For a microcontroller: what reading its flash costs; null where no source says.
        cycle_energy: For a microcontroller: energy of a cycle; null where no source says.
    """

    schema_version: Literal[1] = Field(alias="schema")
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    title: str
    cpu: Cpu
    memory: tuple[Region, ...]
    caches: tuple[Cache, ...]
    runtimes: Annotated[tuple[RuntimeEntry, ...], Field(min_length=1)]
    emulator: Emulator | None
    power: Power | None
    latency: tuple[LatencyCell, ...]
    flash_timing: FlashTiming | None = None
    cycle_energy: CycleEnergy | None = None

    @model_validator(mode="after")
    def _linkable(self) -> DeviceProfile:
        if self.is_microcontroller:
            if self.cpu.core is None or self.cpu.clock_hz is None:
                raise ValueError("a microcontroller's 'cpu.core' and 'cpu.clock_hz' must be known")
            for kind in ("flash", "ram"):
                if not any(region.kind == kind and region.address is not None for region in self.memory):
                    raise ValueError(f"a microcontroller needs a region of kind '{kind}' with its 'address'")
        return self

    @model_validator(mode="after")
    def _no_doubles(self) -> DeviceProfile:
        _once("memory region", [region.name for region in self.memory])
        _once("runtime", [entry.runtime for entry in self.runtimes])
        _once("latency cell", [f"{cell.runtime} {cell.dtype} x{cell.threads}" for cell in self.latency])
        return self

    @property
    def is_microcontroller(self) -> bool:
        """Whether images are linked for it, instead of files for a runtime on an operating system."""
        return self.cpu.isa in ("armv6-m", "armv7e-m", "armv8-m.main")

    @property
    def threads(self) -> int:
        """Threads to run with unless the user says otherwise: the cores, 1 where they are not known."""
        return self.cpu.cores or 1

    def region_bytes(self, kind: Literal["ram", "flash", "storage"]) -> int | None:
        """All regions of that kind together, in bytes; None when the profile lists none."""
        sizes = [region.bytes for region in self.memory if region.kind == kind]
        return sum(sizes) if sizes else None

    def runtime(self, name: str) -> RuntimeEntry:
        """The entry of that runtime.

        Raises:
            ProfileError: The device has no such runtime.
        """
        for entry in self.runtimes:
            if entry.runtime == name:
                return entry
        names = [entry.runtime for entry in self.runtimes]
        raise ProfileError(
            f"{self.name} has no runtime {name!r}", allowed=", ".join(names), hint=nearest(name, names) or "pick one"
        )

    def gains(self, runtime: str, scheme: Scheme, pattern: Pattern) -> bool:
        """Whether that runtime executes the combination faster than dense fp32 on this device."""
        return any(gain.scheme == scheme and gain.pattern == pattern for gain in self.runtime(runtime).gains)


def list_profiles() -> tuple[str, ...]:
    """Names that ``--target`` takes, the shipped profiles in order and ``host`` last."""
    return (*sorted(path.stem for path in resources.folder("device_profiles").glob("*.yaml")), HOST)


def load_profile(target: str | Path) -> DeviceProfile:
    """Loads a device by its name, or from a YAML file when the text ends in ``.yaml`` or ``.yml``.

    ``host`` is the machine that this runs on, detected.

    Raises:
        ProfileError: No such device, with the nearest name; or the file is wrong, with file, line and the nearest key.
    """
    if str(target) == HOST:
        from leanedge.host import detect_host

        return detect_host()
    if Path(target).suffix in (".yaml", ".yml"):
        return parse(Path(target), DeviceProfile, ProfileError)
    path = resources.folder("device_profiles") / f"{target}.yaml"
    names = list_profiles()
    if str(target) not in names:
        raise ProfileError(
            f"unknown target {str(target)!r}",
            allowed=", ".join(names),
            hint=nearest(str(target), names) or "pick one of these, or give the path of a profile of your own (*.yaml)",
        )
    return parse(path, DeviceProfile, ProfileError)


def _once(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} {', '.join(twice)} is given twice")
