"""The fit behind predicted latency: constants, left-out errors, and what thin cells borrow."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.pi_fit import FULL, Cell, Constant, Point, constants, fit
from benchmarks.pi_networks import NETWORKS, build
from benchmarks.pi_rows import ncnn_ratios, select

RAW = "device,cpu,runtime,threads,model,dtype,latency_ms,source\n"


def _points(cell: Cell, factors: list[float], ns: float) -> list[Point]:
    """One network a factor: latency = ns x instructions x factor."""
    return [
        Point(cell, f"net{number}", ns * factor * (number + 1), (number + 1) * 1_000_000)
        for number, factor in enumerate(factors)
    ]


def test_a_constant_is_the_median_of_logarithms() -> None:
    own = fit(_points(Cell("a", "r", "fp32", 1), [0.5, 2.0], 0.3))
    assert math.exp(own.log_ns) == pytest.approx(0.3)
    assert own.models == 2
    # The other network alone predicts 4 times too much, or a quarter.
    assert own.errors == pytest.approx({"net0": 3.0, "net1": -0.75})
    assert own.error == pytest.approx((3 + 0.75) / 2)


def test_several_rows_of_a_model_are_one_model() -> None:
    cell = Cell("a", "r", "fp32", 1)
    rows = [*_points(cell, [1.0, 1.0], 0.3), Point(cell, "net0", 0.3 * 4, 1_000_000)]
    own = fit(rows)
    assert own.models == 2
    assert math.exp(own.log_ns) == pytest.approx(0.3 * 4**0.25)


def test_one_model_has_no_error() -> None:
    own = fit(_points(Cell("a", "r", "fp32", 1), [1.0], 0.3))
    assert own.sigma is None
    assert own.error is None


FACTORS = [0.9, 1.0, 1.1, 1.0, 0.95]


def _world() -> list[Point]:
    """Two devices, two kinds of kernels, two numbers of threads; device b is 2 times, int8 0.5 times, x4 0.4 times."""
    rows = []
    for device, slow in (("a", 1.0), ("b", 2.0)):
        for dtype, quick in (("fp32", 1.0), ("int8", 0.5)):
            for threads, shared in ((1, 1.0), (4, 0.4)):
                if (device, dtype, threads) != ("b", "int8", 4):
                    rows += _points(Cell(device, "r", dtype, threads), FACTORS, 0.3 * slow * quick * shared)
    return rows


def test_a_full_cell_stands_on_its_own() -> None:
    cell = Cell("a", "r", "fp32", 1)
    found = constants(_world(), [cell])[0]
    middle = float(np.median(FACTORS))
    assert found.ns_per_instruction == pytest.approx(0.3 * middle)
    assert found.models == 5 >= FULL
    assert found.borrowed is None
    assert found.decides
    assert found.low < min(FACTORS) / middle
    assert found.high > max(FACTORS) / middle


def test_an_empty_cell_borrows_moves_and_says_so() -> None:
    cell = Cell("b", "r", "int8", 4)
    found, full = constants(_world(), [cell, Cell("b", "r", "int8", 1)])
    assert found.ns_per_instruction == pytest.approx(full.ns_per_instruction * 0.4, rel=1e-6)
    assert found.models == 0
    assert found.error is None
    assert not found.decides
    assert found.borrowed is not None
    assert "constant of b r int8 x1" in found.borrowed
    assert found.low < full.low
    assert found.high > full.high


def test_moves_that_went_wrong_elsewhere_widen_the_interval() -> None:
    cell = Cell("b", "r", "int8", 4)
    plain = constants(_world(), [cell])[0]
    odd = Cell("a", "r", "int8", 4)
    strange = [replace(row, latency_ms=2 * row.latency_ms) if row.cell == odd else row for row in _world()]
    found = constants(strange, [cell])[0]
    assert found.high > 1.5 * plain.high
    assert found.low < plain.low / 1.5


def test_a_thin_cell_lies_between_its_own_rows_and_what_it_borrows() -> None:
    cell = Cell("b", "r", "int8", 4)
    rows = _world()
    rows[0] = Point(rows[0].cell, rows[0].network, rows[0].latency_ms * 1.5, rows[0].instructions)
    borrowed = constants(rows, [cell])[0].ns_per_instruction
    own = borrowed * 1.5
    found = constants([*rows, Point(cell, "net0", own, 1_000_000)], [cell])[0]
    assert borrowed < found.ns_per_instruction < own
    assert found.models == 1
    assert not found.decides
    assert "1 model of its own" in (found.borrowed or "")


def test_what_no_row_tells_of_has_no_constant() -> None:
    assert constants(_world(), [Cell("c", "r", "fp32", 1), Cell("a", "s", "fp32", 1), Cell("a", "r", "fp32", 2)]) == []


def test_kernels_that_only_one_row_tells_of_keep_its_constant_with_a_wide_interval() -> None:
    cell = Cell("a", "s", "int8", 4)
    found = constants([*_world(), Point(cell, "net0", 0.7, 1_000_000)], [cell, cell._replace(device="b")])
    assert found[0].ns_per_instruction == pytest.approx(0.7)
    assert found[0].models == 1
    assert not found[0].decides
    assert "it has 1 model" in (found[0].borrowed or "")
    assert found[1].ns_per_instruction == pytest.approx(1.4, rel=0.02)
    assert "from 1 row)" in (found[1].borrowed or "")
    assert found[1].high > found[0].high


def _file(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(RAW + "\n".join(lines) + "\n")
    return path


def test_rows_are_taken_or_left_out_with_a_reason(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        "Raspberry Pi 4B 64-bit,Cortex-A72,TFLite 2.5.0 XNNPACK,2,SSDLite Mobilenet v2 300x300,fp32,130.44,somewhere",
        "Raspberry Pi 4B 32-bit,Cortex-A72,TFLite 2.5.0 XNNPACK,2,SSDLite Mobilenet v2 300x300,fp32,130.44,somewhere",
        "Raspberry Pi 4B 64-bit,Cortex-A72,TVM,2,resnet-18,fp32,130.44,somewhere",
        "Raspberry Pi 4B 64-bit,Cortex-A72,TFLite 2.5.0 XNNPACK,2,SSD MnasFPN 320x320,fp32,198.85,somewhere",
        "Raspberry Pi 5,Cortex-A76,ExecuTorch XNNPACK,,resnet50 224,int8,20.64,somewhere",
    )
    rows, left_out = select(path)
    assert [(row.board, row.network, row.threads, row.runtimes) for row in rows] == [
        ("rpi4", "ssdlite_mobilenet_v2_300", 2, ("ai_edge_litert", "tflite_runtime")),
        ("rpi5", "resnet50", 4, ("ai_edge_litert",)),
    ]
    assert sum(left_out.values()) == 3
    assert left_out["a network that is not rebuilt here"] == 1


def test_ratios_pair_the_same_network_dtype_and_threads(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        "slow,x,ncnn,1,net,fp32,30,s",
        "fast,x,ncnn,1,net,fp32,20,s",
        "fast,x,ncnn,4,net,fp32,10,s",
        "slow,x,ncnn,1,only,fp32,30,s",
        "slow,x,TVM,1,net,int8,30,s",
    )
    assert ncnn_ratios(path, "slow", "fast") == {("fp32", 1): [1.5]}


# Multiply-adds in millions, as published: the papers' and model zoos' own tables.
PUBLISHED_MACS = {
    "mobilenet_v1_224": 569,
    "mobilenet_v2_224": 300,
    "ssdlite_mobilenet_v3_small_320": 160,
    "ssdlite_mobilenet_v3_large_320": 510,
    "resnet18": 1814,
    "resnet50": 4089,
    "squeezenet_1_0": 819,
    "googlenet": 1498,
    "inception_v3": 5713,
    "yolo11n_640": 3250,
}


def _macs(model: onnx.ModelProto) -> int:
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*onnx.shape_inference.infer_shapes(model).graph.value_info, *model.graph.output]
    }
    weights = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            total += math.prod(shapes[node.output[0]]) * math.prod(weights[node.input[1]][1:])
        elif node.op_type == "Gemm":
            total += math.prod(weights[node.input[1]])
        elif node.op_type == "MatMul":
            total += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return total


@pytest.mark.parametrize("name", sorted(PUBLISHED_MACS))
def test_rebuilt_networks_have_the_published_multiply_adds(name: str) -> None:
    assert _macs(build(name)) / 1e6 == pytest.approx(PUBLISHED_MACS[name], rel=0.02)


def test_building_gives_the_same_bytes() -> None:
    assert build("squeezenet_1_0").SerializeToString() == build("squeezenet_1_0").SerializeToString()
    assert len(NETWORKS) == 20


def test_a_constant_decides_from_four_models_on() -> None:
    cell = Cell("a", "r", "fp32", 1)
    assert Constant(cell, 0.3, 0.9, 1.1, 0.1, FULL, None).decides
    assert not Constant(cell, 0.3, 0.9, 1.1, 0.1, FULL - 1, "something").decides
