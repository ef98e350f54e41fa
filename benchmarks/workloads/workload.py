"""What a workload is: a trained model, real samples for it, and how it is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class UnavailableWorkload(Exception):
    """Something that the workload needs can't be had here; the message says what and what would help."""


@dataclass(frozen=True)
class Workload:
    """A model and its samples, as files that `leanedge build` takes.

    Attributes:
        name: The workload's name, also the file's in this folder.
        model: The ONNX file.
        samples: The .npz: the model's input names (or `x`), `y` where labelled, `test`, and `group` where samples
            belong together. For a streaming model each sample is a sequence: axis 1 is steps.
        metric: top1, cosine or agreement.
        licence: Of the model and of the data.
        notes: What is odd about the graph or the data.
        labelled: Whether the samples have `y`.
        state: Input -> output of a streaming model, else None.
        inputs: The `inputs:` settings that `leanedge.yaml` needs, e.g. shapes for free axes.
        twins: The same model in other formats, by suffix, for parity tests.
    """

    name: str
    model: Path
    samples: Path
    metric: str
    licence: str
    notes: str
    labelled: bool
    state: Mapping[str, str] | None = None
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    twins: Mapping[str, Path] = field(default_factory=dict)
