"""watch: the quick start's 1-D DS-CNN on smart-watch motion (examples/watch)."""

from pathlib import Path

from benchmarks.workloads.fetch import REPOSITORY
from benchmarks.workloads.workload import Workload


def load(cache: Path) -> Workload:
    """The committed files; nothing is fetched."""
    folder = REPOSITORY / "examples" / "watch"
    return Workload(
        name="watch",
        model=folder / "model.onnx",
        samples=folder / "samples.npz",
        metric="top1",
        licence="model Apache-2.0 (this project), data BSD-3-Clause (seglearn)",
        notes="split by person",
        labelled=True,
    )
