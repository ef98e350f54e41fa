"""Small int8 .tflite files that the repository's own exporter writes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "program"))
from program_nets import Net
from test_states import streaming

from leanedge.export.tflite_file import tflite_bytes
from leanedge.program.types import ProgramOperator, SoftmaxOptions

if TYPE_CHECKING:
    from leanedge.program.types import Program

__all__ = ["classifier", "streaming", "write"]


def classifier() -> Program:
    """Two fully connected layers and a softmax on (1, 12)."""
    net = Net(3)
    hidden = net.fully_connected(net.input((1, 12)), 8)
    logits = net.fully_connected(hidden, 5)
    shares = net.tensor((1, 5), 1 / 256, -128)
    net.operators.append(ProgramOperator("shares", "softmax", (logits,), (shares,), SoftmaxOptions()))
    return net.program(shares)


def write(program: Program, path: Path) -> Path:
    """Writes the file and gives its path."""
    path.write_bytes(tflite_bytes(program))
    return path
