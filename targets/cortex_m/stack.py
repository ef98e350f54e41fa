"""Worst-case stack of a linked image, proved from its machine code: every path of every function, calls included.

Reading the code that ships covers the compiler's functions, assembly that pushes by itself and the compiler's own
library alike. What can't be followed (calls through pointers, recursion, computed stack pointers) is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from leanedge.errors import LeanEdgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .elf import Elf

__all__ = ["UnprovableStack", "worst_case_stack"]


class UnprovableStack(LeanEdgeError):
    """Code whose stack has no bound that can be read off it."""

    exit_code = 4


@dataclass(frozen=True)
class _Function:
    """What one function does to the stack.

    Attributes:
        deepest: Most bytes that its own frames take.
        calls: Called function's address -> most bytes of its own on the stack at such a call.
    """

    deepest: int
    calls: Mapping[int, int]


def worst_case_stack(elf: Elf, entry: str) -> int:
    """Most bytes of stack below its initial value that `entry` and all that it calls can use.

    Args:
        elf: The linked program.
        entry: Name of the function that is called first.

    Raises:
        UnprovableStack: It calls through a pointer, recurses, or computes its stack pointer.
    """
    names = {function.address: function.name for function in elf.functions}
    functions: dict[int, _Function] = {}

    def depth(address: int, callers: tuple[int, ...]) -> int:
        if address in callers:
            chain = " -> ".join(names.get(at, hex(at)) for at in (*callers, address))
            raise UnprovableStack(f"recursion: {chain}")
        if address not in functions:
            functions[address] = _read_function(address, elf.read, names.get(address, hex(address)), set(names))
        function = functions[address]
        below = [at + depth_of(callee, (*callers, address)) for callee, at in function.calls.items()]
        return max([function.deepest, *below])

    known: dict[int, int] = {}

    def depth_of(address: int, callers: tuple[int, ...]) -> int:
        if address not in known:
            known[address] = depth(address, callers)
        return known[address]

    return depth_of(elf.symbols[entry], ())


def _read_function(address: int, read: Callable[[int, int], bytes], name: str, entries: set[int]) -> _Function:
    """Follows every path through a function, with what it has on the stack at each instruction."""
    deepest = 0
    calls: dict[int, int] = {}
    seen: dict[int, int] = {}
    todo = [(address, 0)]
    while todo:
        at, depth = todo.pop()
        if at in seen:
            if seen[at] != depth:
                raise UnprovableStack(f"{name} reaches {at:#x} with {seen[at]} and with {depth} bytes on the stack")
            continue
        if at in entries and at != address:  # a jump into another function: a call that is its end
            calls[at] = max(calls.get(at, 0), depth)
            continue
        seen[at] = depth
        step = _step(at, read, name)
        depth += step.pushed
        if depth < 0:
            raise UnprovableStack(f"{name} pops more than it pushed at {at:#x}")
        deepest = max(deepest, depth)
        if step.called is not None:
            calls[step.called] = max(calls.get(step.called, 0), depth)
        todo += [(target, depth) for target in step.next]
    return _Function(deepest, calls)


@dataclass(frozen=True)
class _Step:
    """What one instruction does: bytes pushed (negative: popped), what it calls, where it goes on."""

    pushed: int
    called: int | None
    next: tuple[int, ...]


def _step(at: int, read: Callable[[int, int], bytes], name: str) -> _Step:
    instruction = _decode(read(at, 4), at)
    if instruction is None:
        raise UnprovableStack(f"{name} runs into {at:#x}, which is no instruction")
    import capstone.arm_const as arm

    number, operands = instruction.id, instruction.operands
    after = at + instruction.size
    where = f"{name} at {at:#x} ({instruction.mnemonic} {instruction.op_str})"
    conditional = instruction.cc not in (arm.ARM_CC_AL, arm.ARM_CC_INVALID)
    if number in (arm.ARM_INS_B, arm.ARM_INS_CBZ, arm.ARM_INS_CBNZ):
        target = operands[-1].imm & 0xFFFF_FFFF
        return _Step(0, None, (target, after) if conditional or number != arm.ARM_INS_B else (target,))
    if number == arm.ARM_INS_BL:
        return _Step(0, operands[0].imm & 0xFFFF_FFFF, (after,))
    if number == arm.ARM_INS_BX and operands[0].reg == arm.ARM_REG_LR:
        return _Step(0, None, (after,) if conditional else ())
    if number in (arm.ARM_INS_BLX, arm.ARM_INS_BX, arm.ARM_INS_TBB, arm.ARM_INS_TBH):
        raise UnprovableStack(f"{where} goes where a register says")
    if number == arm.ARM_INS_UDF:
        return _Step(0, None, ())
    pushed, returns = _stack_change(instruction, where, conditional=conditional)
    return _Step(pushed, None, () if returns and not conditional else (after,))


def _stack_change(instruction: Any, where: str, *, conditional: bool) -> tuple[int, bool]:
    """(bytes pushed, whether it returns) of an instruction that is no branch."""
    import capstone.arm_const as arm

    number, operands = instruction.id, instruction.operands
    registers = [operand.reg for operand in operands if operand.type == arm.ARM_OP_REG]
    pushed, returns = 0, False
    if number in (arm.ARM_INS_PUSH, arm.ARM_INS_VPUSH):
        pushed = sum(map(_register_bytes, registers))
    elif number in (arm.ARM_INS_POP, arm.ARM_INS_VPOP):
        pushed, returns = -sum(map(_register_bytes, registers)), arm.ARM_REG_PC in registers
    elif registers and registers[0] == arm.ARM_REG_SP and _writes_first(instruction):
        if number in (arm.ARM_INS_ADD, arm.ARM_INS_ADDW, arm.ARM_INS_SUB, arm.ARM_INS_SUBW):
            if operands[-1].type != arm.ARM_OP_IMM or any(register != arm.ARM_REG_SP for register in registers):
                raise UnprovableStack(f"{where} computes the stack pointer")
            pushed = operands[-1].imm * (-1 if number in (arm.ARM_INS_ADD, arm.ARM_INS_ADDW) else 1)
        elif number in _multiple() and instruction.writeback:
            words = sum(map(_register_bytes, registers[1:]))
            pushed = words if number in _multiple_stores() else -words
            returns = arm.ARM_REG_PC in registers[1:]
        elif number not in _multiple():
            raise UnprovableStack(f"{where} computes the stack pointer")
    elif instruction.writeback:
        memory = [operand for operand in operands if operand.type == arm.ARM_OP_MEM]
        if memory and memory[0].mem.base == arm.ARM_REG_SP:
            # str rX, [sp, #-n]! and ldr rX, [sp], #n
            step = memory[0].mem.disp or next(op.imm for op in operands if op.type == arm.ARM_OP_IMM)
            pushed = -step if not memory[0].subtracted else step
            returns = registers[0] == arm.ARM_REG_PC
    elif arm.ARM_REG_PC in registers[:1] and _writes_first(instruction):
        raise UnprovableStack(f"{where} goes where a register says")
    if pushed and conditional and not returns:
        raise UnprovableStack(f"{where} changes the stack on a condition")
    return pushed, returns


def _writes_first(instruction: Any) -> bool:
    """Whether the first operand is written: compares and stores only read it."""
    import capstone

    return bool(instruction.operands[0].access & capstone.CS_AC_WRITE) or instruction.id in _multiple()


def _multiple() -> tuple[int, ...]:
    import capstone.arm_const as arm

    return (*_multiple_stores(), arm.ARM_INS_LDM, arm.ARM_INS_VLDMIA)


def _multiple_stores() -> tuple[int, ...]:
    import capstone.arm_const as arm

    return (arm.ARM_INS_STMDB, arm.ARM_INS_VSTMDB)


def _register_bytes(register: int) -> int:
    import capstone.arm_const as arm

    return 8 if arm.ARM_REG_D0 <= register <= arm.ARM_REG_D31 else 4


def _decode(code: bytes, at: int) -> Any:
    return next(_decoder().disasm(code, at, 1), None)


@lru_cache(maxsize=1)
def _decoder() -> Any:
    import capstone

    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    decoder.detail = True
    return decoder
