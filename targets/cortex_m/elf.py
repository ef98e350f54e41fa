"""What is read of an ELF: what is loaded where, sections and symbols."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leanedge.errors import MissingProgram

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Elf", "Function", "Section", "Segment", "read_elf"]


@dataclass(frozen=True)
class Segment:
    """Bytes that are loaded at an address (the load address: in flash for what is copied to RAM)."""

    address: int
    data: bytes


@dataclass(frozen=True)
class Section:
    """An allocated section at its run-time address."""

    name: str
    address: int
    nbytes: int
    writable: bool


@dataclass(frozen=True)
class Function:
    """A function: `address` without the Thumb bit."""

    name: str
    address: int
    nbytes: int


@dataclass(frozen=True)
class Elf:
    """A linked program.

    Attributes:
        segments: What is loaded.
        sections: Allocated sections.
        symbols: Name -> value, without the Thumb bit for functions. Of local symbols of one name, any.
        functions: In order of address.
    """

    segments: tuple[Segment, ...]
    sections: tuple[Section, ...]
    symbols: Mapping[str, int]
    functions: tuple[Function, ...]

    def read(self, address: int, nbytes: int) -> bytes:
        """Loaded bytes; fewer where what is loaded ends."""
        for segment in self.segments:
            if segment.address <= address < segment.address + len(segment.data):
                return segment.data[address - segment.address :][:nbytes]
        return b""

    def function_at(self, address: int) -> str:
        """The function that holds the address, or ``no function``."""
        for function in self.functions:
            if function.address <= address < function.address + function.nbytes:
                return function.name
        return "no function"


def read_elf(data: bytes) -> Elf:
    """Reads the bytes of an ELF file.

    Raises:
        MissingProgram: The Python package pyelftools is absent.
    """
    try:
        from elftools.elf.elffile import ELFFile
    except ImportError as error:
        raise MissingProgram("the Python package pyelftools is absent", hint="pip install 'leanedge[mcu]'") from error
    elf = ELFFile(io.BytesIO(data))
    segments = tuple(
        Segment(int(part["p_paddr"]), bytes(part.data()))
        for part in elf.iter_segments()
        if part["p_type"] == "PT_LOAD" and part["p_filesz"]
    )
    sections = tuple(
        Section(part.name, int(part["sh_addr"]), int(part["sh_size"]), bool(part["sh_flags"] & 1))
        for part in elf.iter_sections()
        if part["sh_flags"] & 2
    )
    symbols: dict[str, int] = {}
    functions = []
    for symbol in elf.get_section_by_name(".symtab").iter_symbols():
        is_function = symbol["st_info"]["type"] == "STT_FUNC"
        value = int(symbol["st_value"]) & ~1 if is_function else int(symbol["st_value"])
        symbols[symbol.name] = value
        if is_function:
            functions.append(Function(symbol.name, value, int(symbol["st_size"])))
    return Elf(segments, sections, symbols, tuple(sorted(functions, key=lambda function: function.address)))
