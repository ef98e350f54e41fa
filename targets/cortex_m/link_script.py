"""Link scripts: where flash and RAM of a device hold what.

The stack begins at the lowest RAM address and grows down out of RAM, so that one byte too many faults instead of
overwriting data.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MemoryMap", "link_script"]


@dataclass(frozen=True)
class MemoryMap:
    """Where an image may be.

    Attributes:
        flash_address: Where flash begins; the vector table stands there.
        flash_bytes: Its size.
        ram_address: Where the RAM begins that the image uses.
        ram_bytes: Its size.
    """

    flash_address: int
    flash_bytes: int
    ram_address: int
    ram_bytes: int


def link_script(memory: MemoryMap, stack_bytes: int) -> str:
    """The GNU ld script of an image with that much stack (a multiple of 8)."""
    return f"""ENTRY(Reset_Handler)
MEMORY
{{
  flash (rx) : ORIGIN = {memory.flash_address:#010x}, LENGTH = {memory.flash_bytes:#x}
  ram (rw) : ORIGIN = {memory.ram_address:#010x}, LENGTH = {memory.ram_bytes:#x}
}}
SECTIONS
{{
  .vectors : {{ KEEP(*(.vectors)) }} > flash
  .text : {{ *(.text .text.*) }} > flash
  .rodata : {{ *(.rodata .rodata.*) . = ALIGN(4); }} > flash
  .stack (NOLOAD) : ALIGN(8)
  {{
    leanedge_stack_bottom = .;
    . = . + {stack_bytes};
    leanedge_stack_top = .;
  }} > ram
  .data : ALIGN(4)
  {{
    leanedge_data_begin = .;
    *(.data .data.*)
    . = ALIGN(4);
    leanedge_data_end = .;
  }} > ram AT > flash
  leanedge_data_in_flash = LOADADDR(.data);
  .bss (NOLOAD) : ALIGN(4)
  {{
    leanedge_bss_begin = .;
    *(.bss .bss.* COMMON)
    . = ALIGN(4);
    leanedge_bss_end = .;
  }} > ram
  /DISCARD/ : {{ *(.ARM.exidx* .ARM.extab* .ARM.attributes .comment .note* .debug_*) }}
}}
"""
