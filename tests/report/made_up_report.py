"""A made-up but realistic report: 25 candidates of an image classifier for a Raspberry Pi 4."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from leanedge.figures import Figure, unavailable
from leanedge.report.content import (
    ArtifactInfo,
    BudgetInfo,
    CandidateRow,
    Check,
    Chosen,
    DataInfo,
    FileEntry,
    LayerRow,
    MemoryInfo,
    MemoryStep,
    ModelInfo,
    Report,
    Status,
    TargetInfo,
    TensorInfo,
    ToolInfo,
    Verdict,
)

if TYPE_CHECKING:
    from leanedge.names import Pattern, Scheme

BYTES_PER_WEIGHT: dict[str, float] = {"fp32": 4.0, "fp16": 2.0, "w8a8": 1.02, "w8a8_dynamic": 1.02, "mixed": 1.3}
SPEED: dict[str, float] = {"fp32": 1.0, "fp16": 1.01, "w8a8": 0.44, "w8a8_dynamic": 0.9, "mixed": 0.52}
LOSS: dict[str, float] = {"fp32": 0.0, "fp16": 0.0, "w8a8": 0.006, "w8a8_dynamic": 0.002, "mixed": 0.003}
FP32_ACCURACY, FP32_LATENCY_MS, WEIGHTS = 0.713, 46.0, 3_500_000


def interval(value: float, n: int) -> list[float]:
    half = 1.96 * math.sqrt(value * (1 - value) / n)
    return [round(value - half, 4), round(value + half, 4)]


def predicted(latency_ms: float) -> dict[str, Any]:
    return {
        "by": "counted instructions x constant",
        "cells": ["rpi4 onnxruntime int8 x4"],
        "instructions": int(latency_ms * 2.1e6),
        "threads": 4,
        "low_ms": latency_ms * 0.88,
        "high_ms": latency_ms * 1.14,
        "models": 9,
        "error": 0.09,
        "borrowed": None,
        "decides": True,
    }


def candidate(runtime: str, scheme: Scheme, level: float) -> CandidateRow:
    pattern: Pattern = "channel" if level else "dense"
    accuracy = round(FP32_ACCURACY - LOSS[scheme] - 0.16 * level**1.6, 4)
    speed = SPEED[scheme] * (1 - 0.85 * level) * (1.12 if runtime == "ai_edge_litert" else 1.0)
    figures = {
        "accuracy": Figure(accuracy, "fraction", "measured", {"n": 500, "interval": interval(accuracy, 500)}),
        "latency_ms": Figure(round(FP32_LATENCY_MS * speed, 2), "ms", "predicted", predicted(FP32_LATENCY_MS * speed)),
        "flash_bytes": Figure(int(WEIGHTS * (1 - 0.7 * level) * BYTES_PER_WEIGHT[scheme]), "bytes", "proved"),
        "ram_bytes": Figure(int(19e6 * (0.4 + 0.6 * SPEED[scheme])), "bytes", "measured", {"where": "emulator"}),
    }
    identity = f"{runtime}/{scheme}/{pattern}" + (f"-{level:.2f}" if level else "")
    flash, latency = figures["flash_bytes"].value, figures["latency_ms"].value
    assert flash is not None
    assert latency is not None
    status: Status = "fits"
    reason, excess = "", {}
    if accuracy < FP32_ACCURACY - 0.01:
        status, excess = "too_lossy", {"accuracy": round(100 * (FP32_ACCURACY - 0.01 - accuracy), 2)}
        reason = "loses more than the 1.0 points allowed"
    elif flash > 8e6:
        status, reason, excess = "too_big", "its files are larger than the budget", {"flash_bytes": flash - 8e6}
    elif latency > 30:
        status, reason, excess = "too_slow", "slower than the budget", {"latency_ms": round(latency - 30, 2)}
    return CandidateRow(identity, pattern, level, scheme, runtime, status, reason, figures, excess)


def candidates() -> tuple[CandidateRow, ...]:
    rows = [
        candidate(runtime, scheme, level)
        for runtime in ("onnxruntime", "ai_edge_litert")
        for scheme in ("w8a8", "mixed", "fp16", "fp32")
        for level in (0.0, 0.15, 0.3)
        if not (scheme == "mixed" and level == 0.3)
    ]
    rows.sort(key=lambda row: (row.status != "fits", row.figures["latency_ms"].value))
    chosen = rows[0]
    rows[0] = CandidateRow(**{**vars(chosen), "status": "chosen", "tied_with": (rows[1].id,)})
    reason = "dynamic quantization pays in linear and attention layers; this model has one of 53"
    refused: list[tuple[str, Scheme, str]] = [
        ("onnxruntime", "w8a8_dynamic", reason),
        ("ai_edge_litert", "w8a8_dynamic", reason),
        ("openvino", "w8a8", "the profile rpi4 has no runtime 'openvino'"),
    ]
    for runtime, scheme, reason in refused:
        rows.append(CandidateRow(f"{runtime}/{scheme}/dense", "dense", 0.0, scheme, runtime, "refused", reason))
    return tuple(rows)


def layers() -> tuple[LayerRow, ...]:
    rows = [LayerRow("conv_stem", "conv2d", 10_838_016, 928, 8, 8, "w8a8", 32, 32)]
    for index in range(17):
        width, macs = 32 + 16 * index, (300 - 15 * index) * (32 + 16 * index)
        before = width * 6
        kept = before if index % 3 else int(width * 5.2)
        for name, kind, cost, weights, channels in (
            ("expand", "conv2d", 90, kept * width // 6, (kept, before)),
            ("depthwise", "depthwise_conv2d", 30, kept * 9, (kept, before)),
            ("project", "conv2d", 80, kept * width // 6, (width, width)),
        ):
            rows.append(LayerRow(f"block_{index}_{name}", kind, macs * cost, weights, 8, 8, "w8a8", *channels))
    rows.append(LayerRow("classifier", "linear", 1_280_000, 5_124_000, 32, 32, "fp32", 1000, 1000, in_float=True))
    rows.append(LayerRow("probabilities", "softmax", 0, 0, None, 32, "fp32", in_float=True))
    return tuple(rows)


def make_report(**changes: Any) -> Report:
    rows, steps = candidates(), layers()
    chosen = rows[0]
    accuracy = {"n": 1000, "interval": interval(0.704, 1000), "set": "test"}
    content = Report(
        tool=ToolInfo(
            "0.1.0",
            {
                "python": "3.11.2",
                "numpy": "2.3.1",
                "onnxruntime": "1.23.0",
                "ai-edge-litert": "2.0.2",
                "qemu": "7.2.15",
            },
        ),
        target=TargetInfo("rpi4", "Raspberry Pi 4 Model B, 4 GB", "linux_onnxruntime"),
        model=ModelInfo(
            "mobilenet_v2.onnx",
            "6a3cbb1e5a3d8e3a0bd6f3b8b2f4ce0f0c2d3c0ac40d0f9cf8b4d3f8a4b1c2d3",
            (TensorInfo("image", "float32", ("batch", 3, 224, 224)),),
            (TensorInfo("logits", "float32", ("batch", 1000)),),
            3_504_872,
            300_774_272,
        ),
        data=DataInfo(
            {"calibration": 200, "selection": 500, "test": 1000},
            7,
            "top1",
            "fraction",
            notes=("Split by photograph: no photograph is in two sets.",),
        ),
        budget=BudgetInfo({"latency_ms": 30.0, "flash_bytes": 8e6, "ram_bytes": 64e6}, 1.0, FP32_ACCURACY - 0.01),
        chosen=Chosen(
            chosen.id,
            chosen.pattern,
            chosen.level,
            chosen.scheme,
            chosen.runtime,
            "The fastest of the candidates that meet the budget and lose at most 1.0 points on the selection set.",
        ),
        artifact=ArtifactInfo(
            (
                FileEntry("model.onnx", 3_570_112, "c0ffee" + "0" * 52 + "abcdef"),
                FileEntry("runner.py", 9_114, "beef" * 16),
            )
        ),
        figures={
            "accuracy": Figure(0.704, "fraction", "measured", accuracy),
            "accuracy_fp32": Figure(0.712, "fraction", "measured", {**accuracy, "interval": interval(0.712, 1000)}),
            "latency_ms": chosen.figures["latency_ms"],
            "latency_ms_fp32": Figure(FP32_LATENCY_MS, "ms", "predicted", predicted(FP32_LATENCY_MS)),
            "flash_bytes": Figure(3_579_226, "bytes", "proved", {"by": "size of the model's files"}),
            "flash_bytes_fp32": Figure(14_035_968, "bytes", "proved", {"by": "size of the model's files"}),
            "ram_bytes": Figure(
                12_582_912, "bytes", "measured", {"where": "emulator", "runs": 10, "runtime_bytes": 8_100_000}
            ),
            "ram_bytes_fp32": Figure(27_262_976, "bytes", "measured", {"where": "emulator", "runs": 10}),
            "runtime_bytes": Figure(31_400_000, "bytes", "measured", {"by": "installed wheel"}),
            "energy_uj": unavailable("uJ", "the profile states no power for this load"),
        },
        candidates=rows,
        layers=steps,
        memory=MemoryInfo(
            "activations that are alive, int8",
            "proved",
            tuple(
                MemoryStep(row.id, int(1.2e6 * math.exp(-index / 12) * (1 + 0.5 * (index % 3 == 1)) + 9e4))
                for index, row in enumerate(steps)
            ),
        ),
        verdict=Verdict(
            True,
            (
                Check("outputs, emulator against host", True, "32 samples, 32 000 values equal", "bit for bit"),
                Check("accuracy under emulation", True, "70.4 % of 1000 samples, as on the host", "no top-1 flip"),
                Check("ai-edge-litert runs it", True, "64 samples within tolerance", "within 1 step of 0.0941"),
                Check("budget", True, "every limit is met", "figures <= limits"),
                Check("on the device", None, "no device was given; leanedge validate --on device", ""),
            ),
        ),
        notes=("The latency was predicted, not measured on the device.",),
        commands=("leanedge build mobilenet_v2.onnx --target rpi4 --data val.npz --budget latency=30ms,flash=8MB",),
        created="2026-01-15T10:22:05+00:00",
    )
    return Report(**{**vars(content), **changes})
