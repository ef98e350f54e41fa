"""Runs Cortex-M code in the unicorn emulator and counts what it executes, block by block.

Blocks are counted by a C hook (`hook.c`): the counts equal QEMU's, at about 200 M instructions a second.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.errors import LeanEdgeError, MissingProgram

from .._programs.host_compiler import shared_library
from .flash import Misses
from .timing import needs_alignment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .cores import Core
    from .flash import CacheShape, FlashModel

__all__ = ["Block", "EmulationFault", "Machine", "Memory"]

Array = np.ndarray[Any, Any]

_PAGE = 4096
_RETURN = 0x9FFF_F000
"""Where called code returns to: executable by the architecture (above, nothing is), and no device has memory there."""

_CALLEE_SAVED = tuple(f"R{number}" for number in range(4, 12))
_CALLEE_SAVED_FP = tuple(f"S{number}" for number in range(16, 32))


class EmulationFault(LeanEdgeError):
    """Emulated code did what the device would fault on, or did not end; `address` is where it was."""

    exit_code = 4

    def __init__(self, message: str, *, address: int) -> None:
        super().__init__(message, where=f"{address:#010x}")
        self.address = address


@dataclass(frozen=True)
class Memory:
    """A mapped range, of whole pages of 4096 bytes. Only code memory is read-only and executable."""

    name: str
    address: int
    nbytes: int
    code: bool


@dataclass(frozen=True)
class Block:
    """A run of instructions without a branch inside.

    Attributes:
        address: Of its first instruction.
        size: In bytes.
        region: Index of the mark that was passed last; 0 before any.
        executed: How many times.
        taken: How many times it was left by a taken branch, call or return.
    """

    address: int
    size: int
    region: int
    executed: int
    taken: int


class _BlockRecord(ctypes.Structure):
    _fields_ = (
        ("executed", ctypes.c_uint64),
        ("taken", ctypes.c_uint64),
        ("address", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("region", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
    )


class _CacheRecord(ctypes.Structure):
    _fields_ = (
        ("tags", ctypes.c_void_p),
        ("sets", ctypes.c_uint32),
        ("ways", ctypes.c_uint32),
        ("line_bytes", ctypes.c_uint32),
    )


class _CrookedRecord(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint32), ("address", ctypes.c_uint32), ("bytes", ctypes.c_uint32))


class _MissesRecord(ctypes.Structure):
    _fields_ = (("next", ctypes.c_uint64), ("jump", ctypes.c_uint64), ("data", ctypes.c_uint64))


def _cache(shape: CacheShape) -> tuple[_CacheRecord, Array]:
    tags = np.zeros(shape.lines, np.uint32)
    return _CacheRecord(tags.ctypes.data, shape.lines // shape.ways, shape.ways, shape.line_bytes), tags


class Machine:
    """A core with memory, ready to have code written into it and called."""

    def __init__(
        self,
        core: Core,
        memory: Sequence[Memory],
        marks: Mapping[int, int] | None = None,
        flash: FlashModel | None = None,
        watch: bool = False,
    ) -> None:
        """Maps the memory.

        Args:
            core: Which core.
            memory: What is mapped; any access elsewhere is a fault.
            marks: Code address -> region (1 to 4095) that counts from there on.
            flash: What stands in front of code memory, to follow its misses.
            watch: Whether accesses that the core faults on because they are not aligned are faults here: the emulator
                itself lets them pass. This and `flash` look at each access (1 to 2 M a second).
        """
        try:
            import unicorn
            from unicorn import arm_const, unicorn_const
        except ImportError as error:
            raise MissingProgram("the Python package unicorn is absent", hint="pip install 'leanedge[mcu]'") from error
        self._arm = arm_const
        self._error = unicorn.UcError
        self._core = core
        self._memory = tuple(memory)
        self._machine = unicorn.Uc(
            unicorn_const.UC_ARCH_ARM, unicorn_const.UC_MODE_THUMB | unicorn_const.UC_MODE_MCLASS
        )
        self._machine.ctl_set_cpu_model(getattr(arm_const, core.unicorn_model))
        for part in memory:
            rights = unicorn_const.UC_PROT_READ | (
                unicorn_const.UC_PROT_EXEC if part.code else unicorn_const.UC_PROT_WRITE
            )
            begin, end = part.address // _PAGE * _PAGE, -(-(part.address + part.nbytes) // _PAGE) * _PAGE
            self._machine.mem_map(begin, end - begin, rights)
        self._fault = ""
        self._machine.hook_add(unicorn_const.UC_HOOK_MEM_INVALID, self._note_fault)
        self._counter = _Counter([part for part in memory if part.code], marks or {})
        self._counter.attach(self._machine, unicorn_const.UC_HOOK_BLOCK, self._counter.library.counter_block)
        self._watch = watch or flash is not None
        if self._watch:
            self._counter.give_registers()
            for kind in (unicorn_const.UC_HOOK_MEM_READ, unicorn_const.UC_HOOK_MEM_WRITE):
                self._counter.attach(self._machine, kind, self._counter.library.counter_access)
        if flash is not None:
            self._counter.watch_flash(flash)

    def write(self, address: int, data: bytes) -> None:
        """Writes bytes, into code memory too."""
        self._machine.mem_write(address, data)

    def read(self, address: int, nbytes: int) -> bytes:
        """Reads bytes."""
        return bytes(self._machine.mem_read(address, nbytes))

    def call(
        self, function: int, arguments: Sequence[int], stack_top: int, *, seconds: float = 60.0
    ) -> tuple[Block, ...]:
        """Calls a function by the AAPCS and returns the blocks that ran.

        Args:
            function: Its address.
            arguments: Up to four words.
            stack_top: Initial stack pointer, a multiple of 8.
            seconds: When to give up.

        Raises:
            EmulationFault: It faulted, did not end in time, or changed a register that it must preserve.
        """
        saved = _CALLEE_SAVED + (_CALLEE_SAVED_FP if self._core.fpu else ())
        for number, argument in enumerate(arguments):
            self._set(f"R{number}", argument)
        for number, name in enumerate(saved):
            self._set(name, 0x5A5A0000 + number)
        self._set("SP", stack_top)
        self._set("LR", _RETURN | 1)
        blocks = self._run(function, _RETURN, seconds)
        changed = [name.lower() for number, name in enumerate(saved) if self._get(name) != 0x5A5A0000 + number]
        if changed:
            raise EmulationFault(
                f"returned with {', '.join(changed)} changed, which a function must preserve", address=function
            )
        if self._get("SP") != stack_top:
            raise EmulationFault("returned with another stack pointer", address=function)
        return blocks

    def reset(self, entry: int, stack_top: int, *, until: int, seconds: float) -> None:
        """Starts at the reset handler, as hardware does, and runs to the beginning of the function at `until`.

        Raises:
            EmulationFault: It faulted, or did not get there in time.
        """
        self._set("SP", stack_top)
        self._set("LR", 0xFFFF_FFFF)
        self._run(entry, until, seconds)

    def resume(self, *, until: int, seconds: float) -> tuple[Block, ...]:
        """Returns from the function that it stands at the beginning of, and runs to one's beginning again.

        Raises:
            EmulationFault: It faulted, or did not get there in time.
        """
        return self._run(self._get("LR") & ~1, until, seconds)

    def misses(self, region: int) -> Misses:
        """What caches in front of flash missed in the last call or run, in that region."""
        return self._counter.misses(region)

    def _run(self, begin: int, until: int, seconds: float) -> tuple[Block, ...]:
        self._fault = ""
        self._counter.reset()
        try:
            self._machine.emu_start(begin | 1, until, timeout=int(seconds * 1e6))
        except self._error as error:
            raise EmulationFault(self._fault or str(error), address=self._get("PC")) from error
        at = self._get("PC")
        if at & ~1 != until:
            raise EmulationFault(f"did not end within {seconds:g} s", address=at)
        if self._watch:
            self._refuse_crooked()
        return self._counter.read()

    def _refuse_crooked(self) -> None:
        """Armv6-M faults on every access that is not aligned, later cores on those of several words."""
        for code, address in self._counter.crooked():
            name = needs_alignment(self.read(code, 4), every=not self._core.dsp)
            if name and (address % 4 or not self._core.dsp):
                raise EmulationFault(f"{name} accesses {address:#010x}, which is not aligned", address=code)

    def _set(self, register: str, value: int) -> None:
        self._machine.reg_write(getattr(self._arm, f"UC_ARM_REG_{register}"), value)

    def _get(self, register: str) -> int:
        return int(self._machine.reg_read(getattr(self._arm, f"UC_ARM_REG_{register}")))

    def _note_fault(self, _machine: Any, access: int, address: int, nbytes: int, _value: int, _user: Any) -> bool:
        import unicorn.unicorn_const as kinds

        if access in (kinds.UC_MEM_WRITE_UNMAPPED, kinds.UC_MEM_WRITE_PROT):
            what = "wrote"
        elif access in (kinds.UC_MEM_FETCH_UNMAPPED, kinds.UC_MEM_FETCH_PROT):
            what = "ran code"
        else:
            what = "read"
        part = next((p for p in self._memory if p.address <= address < p.address + p.nbytes), None)
        self._fault = f"{what} {nbytes} bytes at {address:#010x}, " + (
            f"which {part.name} does not allow" if part else "where no memory is"
        )
        return False


class _Counter:
    """The C hook's table of one machine."""

    def __init__(self, code: Sequence[Memory], marks: Mapping[int, int]) -> None:
        self.library = _hook_library()
        low = min(part.address for part in code)
        nbytes = max(part.address + part.nbytes for part in code) - low
        self.flash = (low, low + nbytes - 1)
        self._caches: list[tuple[_CacheRecord, Array]] = []
        self._marks = np.zeros(nbytes // 2, np.uint16)
        for address, region in marks.items():
            self._marks[((address & ~1) - low) // 2] = region + 1
        self._pointer = self.library.counter_new(low, nbytes, self._marks.ctypes.data)
        if not self._pointer:
            raise MemoryError("no memory for the table of blocks")

    def __del__(self) -> None:
        if getattr(self, "_pointer", None):
            self.library.counter_delete(self._pointer)

    def give_registers(self) -> None:
        """Lets the hook of accesses read where it is, and mend the IT state."""
        from unicorn.arm_const import UC_ARM_REG_PC, UC_ARM_REG_XPSR
        from unicorn.unicorn_py3.unicorn import uclib

        access = [ctypes.cast(function, ctypes.c_void_p) for function in (uclib.uc_reg_read, uclib.uc_reg_write)]
        self.library.counter_give_registers(self._pointer, *access, UC_ARM_REG_XPSR, UC_ARM_REG_PC)

    def crooked(self) -> list[tuple[int, int]]:
        """(instruction, address) of accesses to addresses that are no multiples of their size, the first 64."""
        records = (_CrookedRecord * 64)()
        count = self.library.counter_crooked(self._pointer, records)
        return [(record.code, record.address) for record in records[:count]]

    def watch_flash(self, flash: FlashModel) -> None:
        """Follows code memory through caches of that shape."""
        self._caches = [_cache(flash.code)]
        self._caches.append(self._caches[0] if flash.data is flash.code else _cache(flash.data))
        records = [ctypes.byref(record) for record, _ in self._caches]
        self.library.counter_watch_flash(self._pointer, self.flash[0], self.flash[1] + 1, *records)

    def attach(self, machine: Any, kind: int, function: Any) -> None:
        """Hooks it in by unicorn's own C interface: a Python callback would be ten times slower."""
        from unicorn.unicorn_py3.unicorn import uclib

        handle = ctypes.c_size_t()
        callback = ctypes.cast(function, ctypes.c_void_p)
        begin, end = ctypes.c_uint64(1), ctypes.c_uint64(0)  # everywhere
        status = uclib.uc_hook_add(
            machine._uch, ctypes.byref(handle), kind, callback, ctypes.c_void_p(self._pointer), begin, end
        )
        if status != 0:
            raise RuntimeError(f"unicorn refused the block hook with status {status}")

    def reset(self) -> None:
        self.library.counter_reset(self._pointer)
        for _, tags in self._caches:
            tags[:] = 0

    def misses(self, region: int) -> Misses:
        record = _MissesRecord()
        self.library.counter_misses(self._pointer, region, ctypes.byref(record))
        return Misses(record.next, record.jump, record.data)

    def read(self) -> tuple[Block, ...]:
        if self.library.counter_overflowed(self._pointer):
            raise RuntimeError("more different blocks than the counter's table holds")
        records = (_BlockRecord * 65536)()
        count = self.library.counter_read(self._pointer, records)
        return tuple(
            Block(record.address, record.size, record.region, record.executed, record.taken)
            for record in records[:count]
        )


@lru_cache(maxsize=1)
def _hook_library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(shared_library(Path(__file__).with_name("hook.c"), "cortex-m-hook")))
    library.counter_new.restype = ctypes.c_void_p
    library.counter_new.argtypes = [ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p]
    for function in ("counter_delete", "counter_reset", "counter_overflowed"):
        getattr(library, function).argtypes = [ctypes.c_void_p]
    library.counter_read.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.counter_misses.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p]
    library.counter_crooked.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.counter_give_registers.argtypes = [*[ctypes.c_void_p] * 3, ctypes.c_int, ctypes.c_int]
    library.counter_watch_flash.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_uint32,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    return library
