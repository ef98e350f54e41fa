"""Which published rows the fit uses: board, runtime and network of each, and why the rest is left out."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Row", "select"]

XNNPACK = ("ai_edge_litert", "tflite_runtime")

RUNTIMES = {
    ("TFLite 2.5.0 XNNPACK", "fp32"): XNNPACK,
    ("XNNPACK end2end-bench", "fp32"): XNNPACK,
    ("XNNPACK end2end-bench", "int8"): ("ai_edge_litert",),
    ("ExecuTorch XNNPACK", "fp32"): XNNPACK,
    ("ExecuTorch XNNPACK", "int8"): ("ai_edge_litert",),
    ("TFLite XNNPACK", "fp32"): XNNPACK,
    ("TFLite 2.5.0 (no XNNPACK, built-in kernels)", "int8"): ("tflite_runtime",),
    ("ONNX Runtime", "fp32"): ("onnxruntime",),
    ("ONNX Runtime (MLAS)", "int8"): ("onnxruntime",),
}
"""(Published runtime, dtype) -> runtimes of ours that have its kernels; tflite_runtime has XNNPACK for fp32 only."""

NETWORKS = {
    "MobileNet v1 1.0X 224": "mobilenet_v1_224",
    "MobileNet v2 1.0X 224": "mobilenet_v2_224",
    "MobileNet V1": "mobilenet_v1_224",
    "ResNet50": "resnet50",
    "mobilenet_v2 224": "mobilenet_v2_224_torch",
    "resnet18 224": "resnet18",
    "resnet50 224": "resnet50",
    "squeezenet1_0 224": "squeezenet_1_0",
    "googlenet 224": "googlenet",
    "inception_v3 299": "inception_v3",
    "yolo11n 640": "yolo11n_640",
    "SSDLite Mobilenet v2 300x300": "ssdlite_mobilenet_v2_300",
    "SSD Mobilenet v2 300x300": "ssd_mobilenet_v2_300",
    "SSDLite Mobilenet v3 small 320x320": "ssdlite_mobilenet_v3_small_320",
    "SSDLite Mobilenet v3 large 320x320": "ssdlite_mobilenet_v3_large_320",
    "EfficientDet-lite0 320x320": "efficientdet_lite0_320",
    "EfficientDet-lite1 384x384": "efficientdet_lite1_384",
    "EfficientDet-lite2 448x448": "efficientdet_lite2_448",
}

TOO_LONG = {
    "fp32": ("EfficientDet-lite2 448x448", "EfficientDet-lite3 512x512", "yolo11s 640"),
    "int8": ("EfficientDet-lite3 512x512",),
}
"""Left out, with the larger ones: several minutes of emulation for each runtime and board."""

LARGEST = ("EfficientDet-lite3x 640x640", "EfficientDet-lite4 640x640")

ONE_RUNTIME = ("EfficientDet-lite1 384x384", "SSD Mobilenet v2 300x300", "ResNet50")
"""Counted in fp32 with the first of two runtimes that have the same kernels, for the same reason."""

ALL_CORES = 4


@dataclass(frozen=True)
class Board:
    """A board of the file: the profile it stands for, and threads where the source leaves them out."""

    profile: str
    threads: int | None = None


BOARDS = {
    ("Raspberry Pi 4B 64-bit", "Cortex-A72"): Board("rpi4"),
    ("Raspberry Pi 4", "Cortex-A72 (BCM2711) ARM64"): Board("rpi4"),
    ("Raspberry Pi 3B+ 64-bit", "Cortex-A53"): Board("rpi3"),
    # Threads are not stated. ResNet-50 has 4.09 G multiply-adds; a core of this kind does at most 2 x 16 a cycle, 77 G
    # a second, so that the published 20.6 ms take at least three cores: taken as all four.
    ("Raspberry Pi 5", "Cortex-A76"): Board("rpi5", ALL_CORES),
    # No target. Two runtimes on one board tell how their constants compare. Counted as on the nearest core that the
    # emulator has; threads are not stated, and the board's own term takes up what that does.
    ("Khadas VIM3", "Cortex-A73 (not an RPi; runtime ratios only)"): Board("vim3", ALL_CORES),
}


@dataclass(frozen=True)
class Row:
    """A published row that the fit can use."""

    board: str
    runtimes: tuple[str, ...]
    dtype: str
    threads: int
    network: str
    latency_ms: float
    source: str


def select(file: Path) -> tuple[list[Row], Counter[str]]:
    """The rows that can be used, and how many are left out for which reason."""
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    with file.open(newline="", encoding="utf-8") as text:
        for line in csv.DictReader(text):
            reason = _refused(line)
            if reason:
                left_out[reason] += 1
                continue
            board = BOARDS[line["device"], line["cpu"]]
            runtimes = RUNTIMES[line["runtime"], line["dtype"]]
            rows.append(
                Row(
                    board=board.profile,
                    runtimes=runtimes[:1] if line["model"] in ONE_RUNTIME else runtimes,
                    dtype=line["dtype"],
                    threads=int(line["threads"]) if line["threads"] else board.threads or 0,
                    network=NETWORKS[line["model"]],
                    latency_ms=float(line["latency_ms"]),
                    source=line["source"].split(" mean of")[0].split(" (")[0],
                )
            )
    return rows, left_out


def ncnn_ratios(file: Path, slow: str, fast: str) -> dict[tuple[str, int], list[float]]:
    """Latency on one board over that on another, by (dtype, threads), for each network that ncnn ran on both."""
    seen: dict[tuple[str, str, str, str], float] = {}
    with file.open(newline="", encoding="utf-8") as text:
        for line in csv.DictReader(text):
            if line["runtime"] == "ncnn" and "OUTLIER" not in line["source"]:
                seen[line["device"], line["dtype"], line["threads"], line["model"]] = float(line["latency_ms"])
    ratios: dict[tuple[str, int], list[float]] = {}
    for (device, dtype, threads, model), latency in seen.items():
        other = seen.get((fast, dtype, threads, model))
        if device == slow and other is not None:
            ratios.setdefault((dtype, int(threads)), []).append(latency / other)
    return ratios


def _refused(line: dict[str, str]) -> str:
    board = BOARDS.get((line["device"], line["cpu"]))
    if board is None:
        return "32-bit, another board, or a runtime's own clock and cooling unknown"
    if (line["runtime"], line["dtype"]) not in RUNTIMES:
        return "a runtime that LeanEdge has no target for"
    if "do not calibrate" in line["source"]:
        return "its source is marked as not to be calibrated on"
    if not line["threads"] and board.threads is None:
        return "threads are not stated"
    if line["model"] in (*LARGEST, *TOO_LONG[line["dtype"]]):
        return "takes too long to emulate"
    if line["model"] not in NETWORKS:
        return "a network that is not rebuilt here"
    return ""
