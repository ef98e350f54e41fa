"""pitch: Spotify's note detector (basic-pitch), the same model as ONNX and TFLite, on synthesised notes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.workloads.fetch import wheel, write_samples
from benchmarks.workloads.workload import Workload

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "basic-pitch==0.4.0"
FOLDER = "basic_pitch/saved_models/icassp_2022"
RATE = 22050
LENGTH = 43844  # samples a window: 2 s less one hop of 256
PIECES, WINDOWS, TEST_PIECES = 60, 3, 24  # a piece has an instrument and a scale of its own


def load(cache: Path) -> Workload:
    """Both model files from one PyPI wheel."""
    folder = cache / "pitch"
    model, twin, samples = folder / "model.onnx", folder / "model.tflite", folder / "samples.npz"
    source = wheel(cache, PACKAGE) / FOLDER
    if not (model.exists() and twin.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / "nmp.onnx", model)
        shutil.copyfile(source / "nmp.tflite", twin)
    if not samples.exists():
        write_samples(samples, pieces())
    return Workload(
        name="pitch",
        model=model,
        samples=samples,
        metric="cosine",
        licence="model Apache-2.0 (Spotify); the notes are synthesised here",
        notes="three outputs, a constant-Q transform as Conv; no labels; a TFLite twin for converters",
        labelled=False,
        twins={"tflite": twin},
    )


def tone(frequency_hz: float, seconds: float, partials: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A plucked note: harmonics with the given amplitudes, higher ones dying sooner, 10 ms of attack."""
    time = np.arange(int(seconds * RATE)) / RATE
    number = np.arange(1, len(partials) + 1)[:, None]
    keep = (number * frequency_hz < 0.45 * RATE) * partials[:, None]
    wave = (keep * np.sin(2 * np.pi * frequency_hz * number * time) * np.exp(-time * (1 + 0.7 * number))).sum(0)
    return np.asarray(wave * np.minimum(1, time / 0.01))


def pieces(seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """x (180, 43844, 1) float16 in -1..1: chords and melodies of 60 pieces, a little noise; split by piece."""
    random = np.random.default_rng(seed)
    x = np.zeros((PIECES * WINDOWS, LENGTH), np.float64)
    for piece in range(PIECES):
        partials = random.uniform(0.2, 1, 10) / np.arange(1, 11) ** random.uniform(0.7, 2)
        scale = 36 + int(random.integers(12)) + np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 17, 19, 21, 23, 24])
        for window in range(WINDOWS):
            row = x[piece * WINDOWS + window]
            start = 0.0
            while start < 1.9:
                for pitch in random.choice(scale, int(random.integers(1, 4)), replace=False):
                    first = int(start * RATE)
                    note = tone(440 * 2 ** ((float(pitch) - 69) / 12), float(random.uniform(0.3, 1.2)), partials)
                    note = note[: LENGTH - first] * random.uniform(0.3, 1)
                    row[first : first + len(note)] += note
                start += float(random.uniform(0.15, 0.7))
            row /= np.abs(row).max() / random.uniform(0.3, 0.9)
            row += random.normal(0, 0.002, LENGTH)
    group = np.repeat(np.arange(PIECES), WINDOWS)
    return {"x": x[:, :, None].astype(np.float16), "test": group >= PIECES - TEST_PIECES, "group": group}
