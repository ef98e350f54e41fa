"""digits_spoken: a DS-CNN on log-mel frames of spoken digits, from a folder of shared models and data."""

import os
from pathlib import Path

import numpy as np

from benchmarks.workloads.fetch import REPOSITORY, write_samples
from benchmarks.workloads.workload import UnavailableWorkload, Workload


def load(cache: Path) -> Workload:
    """From $LEANEDGE_SHARED, or the folder `shared` beside the checkout: it can't be downloaded."""
    shared = Path(os.environ.get("LEANEDGE_SHARED") or REPOSITORY.parent / "shared")
    model, data = shared / "models" / "spoken_digits_fp32.onnx", shared / "data" / "spoken_digits.npz"
    for path in (model, data):
        if not path.is_file():
            raise UnavailableWorkload(
                f"{path} is not there: set LEANEDGE_SHARED to the folder that holds models/{model.name} and "
                f"data/{data.name}; they are not distributed with the project"
            )
    samples = cache / "digits_spoken" / "samples.npz"
    if not samples.exists():
        with np.load(data) as content:
            # The official split is by recording and every speaker is in both sets, so `spk` is no group here.
            write_samples(samples, {name: content[name] for name in ("x", "y", "test")})
    return Workload(
        name="digits_spoken",
        model=model,
        samples=samples,
        metric="top1",
        licence="data CC BY-SA 4.0 (Free Spoken Digit Dataset)",
        notes="the official test recordings; speakers are in both sets",
        labelled=True,
    )
