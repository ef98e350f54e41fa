"""fashion: a 2-D DS-CNN on Fashion-MNIST (examples/fashion), here with the full test set of 10,000 images."""

import subprocess
import sys
from pathlib import Path

from benchmarks.workloads.fetch import REPOSITORY
from benchmarks.workloads.workload import UnavailableWorkload, Workload


def load(cache: Path) -> Workload:
    """The committed model; the samples are made from the Debian package dataset-fashion-mnist."""
    folder = REPOSITORY / "examples" / "fashion"
    samples = cache / "fashion" / "samples.npz"
    if not samples.exists():
        samples.parent.mkdir(parents=True, exist_ok=True)
        part = samples.with_name("part.npz")
        command = [sys.executable, str(folder / "get_data.py"), "--output", str(part)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise UnavailableWorkload(f"examples/fashion/get_data.py: {lines[-1] if lines else done.returncode}")
        part.replace(samples)
    return Workload(
        name="fashion",
        model=folder / "model.onnx",
        samples=samples,
        metric="top1",
        licence="model Apache-2.0 (this project), data MIT (Zalando SE)",
        notes="3,000 training images, all 10,000 test images",
        labelled=True,
    )
