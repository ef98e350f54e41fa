"""Train the example's exercise classifier and write `model.onnx` and `samples.npz`.

    python train.py                 # 70 s on one core; needs torch, onnx, onnxscript
    python train.py --cross-validate   # how the settings below were judged: on training people only

The data is the smart-watch set of the PyPI package seglearn (BSD-3-Clause): 140 recordings by 10 people of 7 shoulder
exercises, on the left and the right wrist, three axes of acceleration (g) and three of angular rate (rad/s), 50 Hz.
The split is by person: people 8, 9 and 10 (the last three) are seen by nothing but the final measurement.
"""

from __future__ import annotations

import argparse
import math
import os
import pickle
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
PACKAGE = "seglearn==1.2.5"
MEMBER = "seglearn/data/watch_dataset.npy"
TEST_PEOPLE = (8, 9, 10)
WINDOW = 128  # samples: 2.56 s at 50 Hz
TRAIN_STEP = 64  # training windows overlap by half; test windows do not, so that they are not counted twice
# One constant a sensor, near its RMS over the training people. No mean is removed: the mean acceleration is gravity.
SCALE = np.array([0.7, 0.7, 0.7, 1.6, 1.6, 1.6], np.float32)  # g, g, g, rad/s, rad/s, rad/s
GRID = 64  # inputs are kept as multiples of 1/64 (1 % of the RMS): half the file, no change in accuracy


@dataclass(frozen=True)
class Recording:
    signal: np.ndarray  # float32 (6, samples), divided by SCALE
    label: int
    person: int


@dataclass(frozen=True)
class Settings:
    steps: int = 1400
    batch: int = 96
    rate: float = 4e-3
    decay: float = 0.05
    smoothing: float = 0.1
    dropout: float = 0.3
    rotation_deg: float = 20.0  # how far the watch may turn on the wrist, standard deviation
    stretch: float = 0.25  # log of the tempo, uniform
    gain: float = 0.15  # log of the vigour (angular rate and tempo are coupled, gravity is not scaled)
    noise: float = 0.05
    mirror: bool = True  # a left wrist's motion seen as a right wrist's
    mixup: float = 0.2


class _ArraysOnly(pickle.Unpickler):
    """The data set is a pickled dict of numpy arrays: let it make those and nothing else."""

    ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),  # how old pickles spell bytes
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{MEMBER} asks for {module}.{name}: only numpy arrays are expected there")
        return super().find_class(module, name)


def cache_folder() -> Path:
    """The folder downloads go to: $LEANEDGE_CACHE/workloads, or ~/.cache/leanedge/workloads."""
    root = os.environ.get("LEANEDGE_CACHE") or Path.home() / ".cache" / "leanedge"
    return Path(root) / "workloads"


def download() -> Path:
    """The package's wheel in the cache (11 MB, fetched once by pip; nothing is installed)."""
    folder = cache_folder() / "seglearn"
    wheels = sorted(folder.glob("seglearn-*.whl"))
    if not wheels:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", PACKAGE]
        subprocess.run([*command, "-d", str(folder)], check=True)
        wheels = sorted(folder.glob("seglearn-*.whl"))
    return wheels[0]


def _load_pickled_array(file: IO[bytes]) -> dict[str, Any]:
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    read_header(file)
    content: dict[str, Any] = _ArraysOnly(file).load().item()
    return content


def load_recordings() -> tuple[list[Recording], list[str]]:
    """All 140 recordings and the exercises' names."""
    with zipfile.ZipFile(download()) as wheel, wheel.open(MEMBER) as file:
        raw = _load_pickled_array(file)
    recordings = [
        Recording(np.ascontiguousarray((signal / SCALE).T, np.float32), int(label), int(person))
        for signal, label, person in zip(raw["X"], raw["y"], raw["subject"], strict=True)
    ]
    return recordings, [str(name) for name in raw["y_labels"]]


def windows(recordings: list[Recording], step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut into float16 (n, 6, 128), labels and people; what is left at a recording's end is dropped."""
    x, y, person = [], [], []
    for recording in recordings:
        for start in range(0, recording.signal.shape[1] - WINDOW + 1, step):
            x.append(recording.signal[:, start : start + WINDOW])
            y.append(recording.label)
            person.append(recording.person)
    grid = np.round(np.stack(x) * GRID) / GRID
    return grid.astype(np.float16), np.array(y, np.uint8), np.array(person, np.uint8)


class Separable(nn.Sequential):
    """Depthwise convolution, then pointwise: each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, width: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv1d(inputs, inputs, width, stride, width // 2, groups=inputs, bias=False),
            nn.BatchNorm1d(inputs),
            nn.ReLU(),
            nn.Conv1d(inputs, outputs, 1, bias=False),
            nn.BatchNorm1d(outputs),
            nn.ReLU(),
        )


class WatchNet(nn.Module):
    """Depthwise-separable 1-D CNN: (n, 6, 128) -> (n, classes) logits; about 43 k parameters, 1.0 M MACs."""

    def __init__(self, classes: int, dropout: float) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(6, 48, 7, 2, 3, bias=False),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            Separable(48, 64, 9, 2),
            Separable(64, 72, 7),
            Separable(72, 96, 7),
            Separable(96, 104, 7, 2),
            Separable(104, 104, 7),
        )
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(104, classes)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.features(x).mean(2)
        logits: Tensor = self.classify(self.dropout(pooled))
        return logits


class Sampler:
    """Random windows of the training recordings, each seen anew: tempo, orientation, wrist, vigour."""

    def __init__(self, recordings: list[Recording], settings: Settings, seed: int) -> None:
        self.settings = settings
        self.random = np.random.default_rng(seed)
        self.signal = np.concatenate([r.signal for r in recordings], axis=1)
        lengths = np.array([r.signal.shape[1] for r in recordings])
        self.first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        self.lengths = lengths
        self.labels = np.array([r.label for r in recordings])

    def rotations(self, count: int) -> np.ndarray:
        """(count, 3, 3) rotation matrices about random axes (Rodrigues)."""
        vector = self.random.normal(0, math.radians(self.settings.rotation_deg), (count, 3))
        angle = np.linalg.norm(vector, axis=1)[:, None, None]
        a, b, c = (vector / angle[:, :, 0]).T
        zero = np.zeros_like(a)
        cross = np.stack([zero, -c, b, c, zero, -a, -b, a, zero], 1).reshape(-1, 3, 3)
        return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)

    def batch(self) -> tuple[Tensor, Tensor]:
        s, random, n = self.settings, self.random, self.settings.batch
        which = random.integers(len(self.lengths), size=n)
        tempo = np.exp(random.uniform(-s.stretch, s.stretch, n))
        span = (WINDOW - 1) * tempo
        start = random.uniform(0, 1, n) * (self.lengths[which] - 1 - span)
        at = start[:, None] + np.arange(WINDOW) * tempo[:, None]
        low = np.minimum(at.astype(np.int64), self.lengths[which][:, None] - 2)
        part = (at - low)[:, None, :]
        index = low + self.first[which][:, None]
        x = self.signal[:, index].transpose(1, 0, 2) * (1 - part) + self.signal[:, index + 1].transpose(1, 0, 2) * part
        x[:, 3:] *= tempo[:, None, None] * np.exp(random.uniform(-s.gain, s.gain, (n, 1, 1)))
        if s.mirror:  # reflect the x axis: acceleration is a vector, angular rate an axial vector
            sign = np.where(random.random(n) < 0.5, -1.0, 1.0)[:, None, None]
            x *= np.concatenate([sign, sign * 0 + 1, sign * 0 + 1, sign * 0 + 1, sign, sign], 1)
        turn = self.rotations(n)
        x = np.concatenate([turn @ x[:, :3], turn @ x[:, 3:]], 1)
        x += random.normal(0, s.noise, x.shape)
        target = functional.one_hot(torch.from_numpy(self.labels[which]), int(self.labels.max()) + 1).float()
        images = torch.from_numpy(x.astype(np.float32))
        if s.mixup:
            keep = torch.from_numpy(random.beta(s.mixup, s.mixup, n).astype(np.float32))
            keep = torch.maximum(keep, 1 - keep)
            other = torch.from_numpy(random.permutation(n))
            images = keep[:, None, None] * images + (1 - keep)[:, None, None] * images[other]
            target = keep[:, None] * target + (1 - keep)[:, None] * target[other]
        return images, target


def train(recordings: list[Recording], classes: int, settings: Settings, seed: int) -> WatchNet:
    """AdamW with warm-up and cosine, the weights averaged over the last steps (exponential, 0.995)."""
    torch.manual_seed(seed)
    sampler = Sampler(recordings, settings, seed)
    net = WatchNet(classes, settings.dropout)
    averaged = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True
    )
    optimizer = torch.optim.AdamW(net.parameters(), settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, settings.steps, pct_start=0.1)
    net.train()
    for _ in range(settings.steps):
        x, target = sampler.batch()
        loss = functional.cross_entropy(net(x), target, label_smoothing=settings.smoothing)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(net)
    final: WatchNet = averaged.module
    return final.eval()


def accuracy(net: nn.Module, x: np.ndarray, y: np.ndarray) -> float:
    with torch.no_grad():
        predicted = net(torch.from_numpy(x.astype(np.float32))).argmax(1).numpy()
    return float((predicted == y).mean())


def cross_validate(recordings: list[Recording], classes: int, settings: Settings, seed: int) -> list[float]:
    """Accuracy on each training person by a network that never saw that person; test people take no part."""
    training = [r for r in recordings if r.person not in TEST_PEOPLE]
    scores = []
    for person in sorted({r.person for r in training}):
        net = train([r for r in training if r.person != person], classes, settings, seed)
        x, y, _ = windows([r for r in training if r.person == person], WINDOW)
        scores.append(accuracy(net, x, y))
        print(f"person {person}: {scores[-1]:.3f} of {len(y)} windows", flush=True)
    print(f"mean {np.mean(scores):.4f}  worst {min(scores):.3f}", flush=True)
    return scores


def export(net: WatchNet, path: Path) -> None:
    """ONNX with a free batch axis, input x (batch, 6, 128), output logits (batch, classes)."""
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        net,
        (torch.zeros(2, 6, WINDOW),),
        dynamo=True,
        opset_version=18,
        input_names=["x"],
        output_names=["logits"],
        dynamic_shapes=({0: batch},),
        external_data=False,
        verbose=False,
    )
    assert program is not None
    graph = program.model.graph  # without the exporter's notes: stack traces with this machine's paths
    for holder in (graph, *graph, *graph.inputs, *(value for node in graph for value in node.outputs)):
        holder.metadata_props.clear()
    program.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cross-validate", action="store_true", help="judge the settings on the training people")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE, help="folder for model.onnx and samples.npz")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recordings, labels = load_recordings()
    if args.cross_validate:
        cross_validate(recordings, len(labels), Settings(), args.seed)
        return
    started = time.perf_counter()
    training = [r for r in recordings if r.person not in TEST_PEOPLE]
    net = train(training, len(labels), Settings(), args.seed)
    print(f"trained in {time.perf_counter() - started:.0f} s, {sum(p.numel() for p in net.parameters())} parameters")
    unseen = [r for r in recordings if r.person in TEST_PEOPLE]
    x, y, person = windows(unseen, WINDOW)
    print(f"people {TEST_PEOPLE}: {accuracy(net, x, y):.4f} of {len(y)} windows")
    for number in TEST_PEOPLE:
        print(f"  person {number}: {accuracy(net, x[person == number], y[person == number]):.3f}")
    x_train, y_train, person_train = windows(training, TRAIN_STEP)
    args.output.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        args.output / "samples.npz",
        x=np.concatenate([x_train, x]),
        y=np.concatenate([y_train, y]),
        test=np.concatenate([np.zeros(len(y_train), bool), np.ones(len(y), bool)]),
        group=np.concatenate([person_train, person]),
    )
    export(net, args.output / "model.onnx")


if __name__ == "__main__":
    main()
