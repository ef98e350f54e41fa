"""Public names of a generated model: its inputs and outputs in C."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from leanedge.export.c_source.text import C_TYPES, file_stem, identifier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.export.c_source.pixels import PixelRule
    from leanedge.program.arena import ArenaPlan
    from leanedge.program.types import Port, Program, ProgramTensor

__all__ = ["Interface", "ModelNotes", "PortName", "name_interface"]


@dataclass(frozen=True)
class ModelNotes:
    """What the generated files say beyond the Program.

    Attributes:
        made_from: Lines for the top of each file: profile, plan, command.
        model_sha256: Of the model that was loaded, hexadecimal; empty where it is not known.
        labels: Names of the classes, in the order of the first output.
        pixels: Input -> how a pixel (0 to 255) becomes its value.
    """

    made_from: tuple[str, ...] = ()
    model_sha256: str = ""
    labels: tuple[str, ...] = ()
    pixels: Mapping[str, PixelRule] = field(default_factory=dict)


@dataclass(frozen=True)
class PortName:
    """An input or output of the C.

    Attributes:
        port: Of the Program.
        tensor: What it holds.
        name: ``input`` or ``output`` where there is one, else with the port's own name behind.
        offset: In the arena.
    """

    port: Port
    tensor: ProgramTensor
    name: str
    offset: int

    @property
    def c_type(self) -> str:
        """Of one element."""
        return C_TYPES[self.tensor.dtype]


@dataclass(frozen=True)
class Interface:
    """All public names of one model.

    Attributes:
        stem: Start of every function's name and of the files'.
        inputs: In the model's order.
        outputs: In the model's order.
    """

    stem: str
    inputs: tuple[PortName, ...]
    outputs: tuple[PortName, ...]

    @property
    def upper(self) -> str:
        """Start of every macro's name."""
        return self.stem.upper()


def name_interface(program: Program, plan: ArenaPlan, name: str) -> Interface:
    """Names for the ports, sanitised and told apart."""

    def named(ports: Sequence[Port], what: str) -> tuple[PortName, ...]:
        made: list[PortName] = []
        for port in ports:
            text = what if len(ports) == 1 else f"{what}_{identifier(port.name)}"
            text = identifier(text, [other.name for other in made])
            made.append(PortName(port, program.tensors[port.tensor], text, plan.offsets[port.tensor]))
        return tuple(made)

    return Interface(file_stem(name), named(program.inputs, "input"), named(program.outputs, "output"))
