"""What executed blocks amount to: instructions by class, and cycles by the core's published instruction timings.

`Counts.cycles` is without wait states: code and constants are taken to arrive in time; `stall_cycles` is what
flash adds.

Sources: Cortex-M4 Technical Reference Manual (100166), table 3-1; Cortex-M0+ Technical Reference Manual (DDI 0484),
table 3-1 (single-cycle multiplier). Arm publishes none for the others: the Cortex-M33 is taken as a Cortex-M4; the
Cortex-M7 starts two instructions at once where the second needs nothing of the first, with one access to memory and one
product among them, moves 64 bits a cycle and predicts branches (a model, which nothing published was compared with).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .emulator import Block
    from .flash import FlashModel, Misses

__all__ = ["CLASSES", "TYPICAL_ERROR", "Counts", "InstructionClass", "count", "needs_alignment", "with_stalls"]

_SEVERAL_WORDS = ("ldm", "stm", "ldrd", "strd", "vldr", "vstr", "vldm", "vstm")

TYPICAL_ERROR: Mapping[str, float] = {"cortex-m4": 0.10}
"""Core -> median relative error of predicted cycles, on four models with CMSIS-NN's kernels whose times on a board are
published (`benchmarks.cortex_m_timing`); cores that nothing could be compared on are left out."""

InstructionClass = Literal["load", "store", "multiply", "branch", "fp_move", "fp_arithmetic", "other"]

CLASSES: tuple[InstructionClass, ...] = ("load", "store", "multiply", "branch", "fp_move", "fp_arithmetic", "other")
"""Classes of instructions: loads and stores of any number of words, multiplies with or without accumulation, branches,
moves to, from and between FP registers, FP arithmetic, all others."""


@dataclass(frozen=True)
class Counts:
    """What ran.

    Attributes:
        by_class: Executed instructions of each class.
        cycles: By the core's instruction timings, without wait states.
        stall_cycles: What waiting for flash adds, where it was followed; else 0.
        code_bytes: Bytes of all executed instructions.
    """

    by_class: Mapping[InstructionClass, int]
    cycles: int
    stall_cycles: int = 0
    code_bytes: int = 0

    @property
    def device_cycles(self) -> int:
        """Cycles with waiting."""
        return self.cycles + self.stall_cycles

    @property
    def instructions(self) -> int:
        """All executed instructions."""
        return sum(self.by_class.values())

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            {name: self.by_class[name] + other.by_class[name] for name in CLASSES},
            self.cycles + other.cycles,
            self.stall_cycles + other.stall_cycles,
            self.code_bytes + other.code_bytes,
        )


@dataclass(frozen=True)
class _BlockCost:
    by_class: tuple[int, ...]
    cycles: int


def count(blocks: Iterable[Block], read: Callable[[int, int], bytes], core: str) -> Counts:
    """Counts executed instructions and cycles.

    Args:
        blocks: What ran.
        read: ``(address, nbytes) -> bytes`` of the code.
        core: Arm's name of the core, for its timings.
    """
    total = [0] * len(CLASSES)
    cycles = code_bytes = 0
    penalty = _TAKEN[core]
    for block in blocks:
        cost = _block_cost(read(block.address, block.size), core)
        for number, instructions in enumerate(cost.by_class):
            total[number] += instructions * block.executed
        code_bytes += block.size * block.executed
        cycles += cost.cycles * block.executed + penalty * block.taken
    return Counts(dict(zip(CLASSES, total, strict=True)), cycles, 0, code_bytes)


def needs_alignment(code: bytes, *, every: bool) -> str:
    """The instruction's name if it faults on an address that is no multiple of its size, else nothing.

    Source: Armv7-M Architecture Reference Manual (DDI 0403), A3.2.1.

    Args:
        code: Its bytes, and what follows.
        every: Whether all loads and stores of the core do (Armv6-M), or only those of several words.
    """
    instruction = next(_decoder().disasm(code, 0, 1))
    return str(instruction.mnemonic) if every or _family(instruction) in _SEVERAL_WORDS else ""


def with_stalls(counts: Counts, misses: Misses, flash: FlashModel) -> Counts:
    """The counts with what waiting for flash adds."""
    return replace(counts, stall_cycles=flash.stall_cycles(misses, counts.cycles, counts.code_bytes))


_TAKEN: Mapping[str, int] = {"cortex-m0plus": 1, "cortex-m4": 2, "cortex-m7": 1, "cortex-m33": 2}
"""Cycles that a taken branch costs beyond its own, to fill the pipeline."""


@lru_cache(maxsize=65536)
def _block_cost(code: bytes, core: str) -> _BlockCost:
    by_class = [0] * len(CLASSES)
    cycles, after_access, after_short = 0, False, False
    done = 0
    partner: _Issued | None = None
    for instruction in _decoder().disasm(code, 0):
        kind = _class(instruction)
        by_class[CLASSES.index(kind)] += 1
        if core == "cortex-m7":
            issued = _issued(instruction, kind)
            if partner is not None and issued.goes_with(partner):
                partner = None
            else:
                cycles += issued.cycles
                partner = issued
        else:
            cycles += _cycles(instruction, core, after_access=after_access, after_short=after_short)
        after_access = _family(instruction) in ("ldr", "str", "vldr", "vstr")
        after_short = instruction.size == 2
        done += instruction.size
    if done != len(code):
        raise ValueError(f"no such Thumb instruction: {code[done : done + 4].hex()}")
    return _BlockCost(tuple(by_class), cycles)


@dataclass(frozen=True)
class _Issued:
    """An instruction as a core sees it that starts up to two at once, if the second needs nothing of the first."""

    kind: InstructionClass
    cycles: int
    reads: frozenset[int]
    writes: frozenset[int]

    def goes_with(self, first: _Issued) -> bool:
        single = first.cycles > 1 or self.cycles > 1 or first.kind == "branch"
        access = {first.kind, self.kind} <= {"load", "store"}
        products = first.kind == self.kind == "multiply"
        return not (single or access or products or self.reads & first.writes or self.writes & first.writes)


def _issued(instruction: Any, kind: InstructionClass) -> _Issued:
    family = _family(instruction)
    cycles = {"div": 7, "vdiv": 14, "vmla": 3}.get(family, 1)
    if family in ("ldm", "stm", "vldm", "vstm"):
        cycles = 1 + _registers(instruction) // 2  # 64 bits a cycle
    reads, writes = instruction.regs_access()
    return _Issued(kind, cycles, frozenset(reads), frozenset(writes))


def _cycles(instruction: Any, core: str, *, after_access: bool, after_short: bool) -> int:
    family = _family(instruction)
    if core == "cortex-m0plus":
        if family in ("ldm", "stm"):
            return 1 + _registers(instruction)
        if family in ("ldr", "str"):
            return 2
        return 2 if family == "bl" else 1
    if family in ("ldm", "stm", "vldm", "vstm"):
        return 1 + _registers(instruction)
    if family in ("ldrd", "strd"):
        return 3
    if family in ("ldr", "vldr"):
        return 1 if after_access else 2
    if family == "it":
        return 0 if after_short else 1
    return {"div": 7, "vdiv": 14, "vmla": 3}.get(family, 1)


def _class(instruction: Any) -> InstructionClass:
    family = _family(instruction)
    if family in ("ldr", "ldrd", "ldm", "vldr", "vldm"):
        return "load"
    if family in ("str", "strd", "stm", "vstr", "vstm"):
        return "store"
    if family in ("multiply", "branch", "bl"):
        return "multiply" if family == "multiply" else "branch"
    if family == "vmov":
        return "fp_move"
    return "fp_arithmetic" if family.startswith("v") else "other"


def _registers(instruction: Any) -> int:
    inside: str = instruction.op_str[instruction.op_str.index("{") :]
    return inside.count(",") + 1


def _family(instruction: Any) -> str:
    found = _families().get(instruction.id)
    if found is not None:
        return found
    return "v" if instruction.mnemonic.startswith("v") else "other"


@lru_cache(maxsize=1)
def _families() -> Mapping[int, str]:
    """Capstone's instruction number -> family; numbers carry no condition, unlike the mnemonics inside IT blocks."""
    import capstone.arm_const as arm

    families = {
        "ldr": "LDR LDRB LDRH LDRSB LDRSH LDRT LDRBT LDRHT LDRSBT LDRSHT LDREX LDREXB LDREXH",
        "str": "STR STRB STRH STRT STRBT STRHT STREX STREXB STREXH",
        "ldrd": "LDRD",
        "strd": "STRD",
        "ldm": "LDM LDMDA LDMDB LDMIB POP",
        "stm": "STM STMDA STMDB STMIB PUSH",
        "vldr": "VLDR",
        "vstr": "VSTR",
        "vldm": "VLDMDB VLDMIA VPOP",
        "vstm": "VSTMDB VSTMIA VPUSH",
        "it": "IT",
        "div": "SDIV UDIV",
        "vdiv": "VDIV VSQRT",
        "vmla": "VMLA VMLS VFMA VFMS VFNMA VFNMS VNMLA VNMLS",
        "vmov": "VMOV",
        "bl": "BL BLX",
        "branch": "B BX CBZ CBNZ TBB TBH",
        "multiply": (
            "MUL MLA MLS UMULL SMULL UMLAL SMLAL UMAAL SMULBB SMULBT SMULTB SMULTT SMULWB SMULWT "
            "SMLABB SMLABT SMLATB SMLATT SMLAWB SMLAWT SMLALBB SMLALBT SMLALTB SMLALTT SMLAD SMLADX SMLSD SMLSDX "
            "SMLALD SMLALDX SMLSLD SMLSLDX SMUAD SMUADX SMUSD SMUSDX SMMUL SMMULR SMMLA SMMLAR SMMLS SMMLSR"
        ),
    }
    return {getattr(arm, f"ARM_INS_{name}"): family for family, names in families.items() for name in names.split()}


@lru_cache(maxsize=1)
def _decoder() -> Any:
    import capstone

    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    decoder.detail = True
    return decoder
