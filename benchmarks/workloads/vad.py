"""vad: Silero's voice activity detector at 16 kHz, a streaming model with state, on recorded speech and music."""

from __future__ import annotations

import os
import wave
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.workloads.fetch import debian, wheel, write_samples
from benchmarks.workloads.workload import Workload

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "silero-vad==6.2.3"
MODEL_FILE = "silero_vad/data/silero_vad_16k_op15.onnx"
RATE = 16000
HOP, CONTEXT = 512, 64  # each step reads 512 new samples after the 64 before them
STEPS = 48  # 1.5 s
# Package -> who speaks: English and Spanish are read by the same person, so they are one group.
SPEECH = {
    "asterisk-core-sounds-en-wav": 0,
    "asterisk-core-sounds-es-wav": 0,
    "asterisk-core-sounds-fr-wav": 1,
    "asterisk-core-sounds-it-wav": 2,
    "asterisk-core-sounds-ru-wav": 3,
}
MUSIC = "asterisk-moh-opsound-wav"  # five tracks, each a group
FIRST_TRACK = 4
TEST_GROUPS = (2, 3, 7, 8)  # two speakers, two tracks
MIN_BYTES = 2 * 8000 * 2  # 2 s at 8 kHz, 16 bits
CLIPS = 24  # of each package of speech, and of each track of music a third


def load(cache: Path) -> Workload:
    """The model from PyPI with its sample rate input fixed to 16000; audio from Debian packages."""
    model, samples = cache / "vad" / "model.onnx", cache / "vad" / "samples.npz"
    if not model.exists():
        _fix_rate(wheel(cache, PACKAGE) / MODEL_FILE, model)
    if not samples.exists():
        write_samples(samples, clips(cache))
    return Workload(
        name="vad",
        model=model,
        samples=samples,
        metric="cosine",
        licence="model MIT; speech CC-BY-SA-3.0 and CC-BY-3.0, music CC-BY-SA-3.0 (as in each package's copyright)",
        notes="LSTM, If, STFT as Conv; a sample is a sequence of 48 steps; split by speaker and track; no labels",
        labelled=False,
        state={"state": "stateN"},
        inputs={"input": {"shape": [1, CONTEXT + HOP]}, "state": {"shape": [2, 1, 128]}},
    )


def _fix_rate(source: Path, path: Path) -> None:
    """Turn the scalar input `sr` into a constant: a device has one sample rate."""
    import onnx

    model = onnx.load(source)
    rate = next(value for value in model.graph.input if value.name == "sr")
    model.graph.input.remove(rate)
    model.graph.initializer.append(onnx.helper.make_tensor("sr", onnx.TensorProto.INT64, [], [RATE]))
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    onnx.save(model, part)
    part.replace(path)


def read_wav(path: Path) -> np.ndarray[Any, Any]:
    """A 16-bit mono recording in -1..1 at 16 kHz; other rates are resampled through the Fourier transform."""
    with wave.open(str(path)) as file:
        rate, count = file.getframerate(), file.getnframes()
        signal = np.frombuffer(file.readframes(count), "<i2").astype(np.float64) / 32768
    wanted = len(signal) * RATE // rate
    if wanted != len(signal):
        signal = np.fft.irfft(np.fft.rfft(signal), wanted) * (wanted / len(signal))
    return signal


def steps_of(signal: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(STEPS, 576) overlapping steps of a signal of STEPS * 512 samples, zeros before the first."""
    padded = np.concatenate([np.zeros(CONTEXT), signal])
    return np.stack([padded[HOP * step : HOP * step + CONTEXT + HOP] for step in range(STEPS)])


def clips(cache: Path, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """input (n, 48, 576) float16: speech with what silence is recorded around it, and music."""
    random = np.random.default_rng(seed)
    length = STEPS * HOP
    rows, group = [], []
    sources = [(sorted(debian(cache, package).rglob("*.wav")), speaker, CLIPS) for package, speaker in SPEECH.items()]
    tracks = sorted(debian(cache, MUSIC).rglob("*.wav"))
    sources += [([track], FIRST_TRACK + number, CLIPS // 3) for number, track in enumerate(tracks)]
    for files, number, count in sources:
        long = [path for path in files if path.stat().st_size > MIN_BYTES and path.parent.name != "silence"]
        chosen = random.integers(len(long), size=count)
        signals = {index: read_wav(long[index]) for index in set(chosen.tolist())}
        for index in chosen.tolist():
            signal = signals[index]
            start = int(random.integers(max(1, len(signal) - length)))
            lead = int(random.integers(length // 3)) if number < FIRST_TRACK else 0
            clip = np.concatenate([np.zeros(lead), signal[start : start + length], np.zeros(length)])[:length]
            rows.append(steps_of(clip))
            group.append(number)
    order = random.permutation(len(rows))
    numbers = np.array(group)[order]
    return {"input": np.stack(rows)[order].astype(np.float16), "test": np.isin(numbers, TEST_GROUPS), "group": numbers}
