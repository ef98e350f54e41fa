"""A model's layers on the console, and what a device can't run of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from leanedge.report import wording
from leanedge.report.terminal.rows import print_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from leanedge.graph.model import TensorInfo
    from leanedge.inspection import Inspection

__all__ = ["print_inspection"]


def print_inspection(console: Console, found: Inspection) -> None:
    """The model in figures: interface, layers, totals, and for a target which runtimes take it."""
    console.print(
        Text.assemble((found.name, "bold"), "" if found.opset is None else f"  opset {found.opset}"), soft_wrap=True
    )
    for title, tensors in (("inputs", found.inputs), ("outputs", found.outputs)):
        console.print(Text(f"{title}: {_interface(tensors)}"), soft_wrap=True)
    total = found.macs or 1
    rows = [
        (
            str(number),
            layer.id,
            layer.op_type if layer.kind == "other" else layer.kind,
            "?" if layer.output_shape is None else "x".join(map(str, layer.output_shape)),
            wording.count(layer.macs),
            "" if layer.macs is None else f"{100 * layer.macs / total:.1f} %",
            wording.quantity(layer.weight_bytes, "bytes") if layer.weight_bytes else "–",
        )
        for number, layer in enumerate(found.layers, 1)
    ]
    titles = ("#", "operator", "kind", "output", "MACs", "share", "weights")
    print_rows(console, titles, rows, right=("#", "output", "MACs", "share", "weights"))
    console.print(
        Text(
            f"{len(found.layers)} operators, {wording.count(found.macs)} MACs, "
            f"{wording.count(found.parameters)} parameters in {wording.quantity(found.weight_bytes, 'bytes')}, "
            f"activations at most {wording.quantity(found.peak_activation_bytes, 'bytes')} at once"
            f"{'' if found.opset is None else ' in float'}"
        ),
        soft_wrap=True,
    )
    for runtime, reason in found.refused.items():
        word, style = ("can't run it", "bold red") if reason else ("runs it", "bold green")
        console.print(Text.assemble(f"{runtime}: ", (word, style), f": {reason}" if reason else ""), soft_wrap=True)


def _interface(tensors: Iterable[TensorInfo]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype} [{', '.join(map(str, tensor.shape))}]" for tensor in tensors)
