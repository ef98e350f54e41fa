from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from leanedge.graph.layers import Layer
from leanedge.graph.model import TensorInfo
from leanedge.inspection import Inspection
from leanedge.report.terminal import print_inspection

LAYERS = (
    Layer("conv [1]", "conv", "Conv", (1, 8, 16, 16), 1_500_000, 216, 864),
    Layer("odd", "other", "NonZero", None, None, 0, 0),
)


def shown(refused: dict[str, str], *, terminal: bool = False) -> str:
    tensor = TensorInfo("x", np.dtype("float32"), (1, 3, 16, 16))
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal or None, no_color=True, highlight=False)
    print_inspection(
        console,
        Inspection("net.onnx", (tensor,), (tensor,), LAYERS, 216, 864, 1_500_000, 12_288, 17, refused),
    )
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_layers_stand_in_aligned_lines() -> None:
    lines = shown({}).splitlines()
    assert lines[:5] == [
        "net.onnx  opset 17",
        "inputs: x float32 [1, 3, 16, 16]",
        "outputs: x float32 [1, 3, 16, 16]",
        "#  operator  kind        output     MACs    share  weights",
        "1  conv [1]  conv     1x8x16x16   1.50 M  100.0 %    864 B",
    ]
    assert lines[5].split() == ["2", "odd", "NonZero", "?", "unknown", "–"]
    assert lines[6] == (
        "2 operators, 1.50 M MACs, 216 parameters in 864 B, activations at most 12.3 KB at once in float"
    )


def test_runtimes_say_whether_they_run_it() -> None:
    text = shown({"onnxruntime": "", "ai_edge_litert": "NonZero is not supported"})
    assert "onnxruntime: runs it\n" in text
    assert "ai_edge_litert: can't run it: NonZero is not supported\n" in text


def test_on_a_terminal_it_is_a_table() -> None:
    text = shown({}, terminal=True)
    assert "conv [1]" in text
    assert "1.50 M" in text
