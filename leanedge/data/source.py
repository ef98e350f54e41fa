"""Source: what one place gave, fitted to the model; and Raw, the same before it was fitted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.data.samples import Samples

__all__ = ["GROUP", "LABELS", "MOST_BYTES", "MOST_ITEMS", "RESERVED", "TEST", "Raw", "Source"]

Array = np.ndarray[Any, Any]

LABELS, TEST, GROUP = "y", "test", "group"
"""Keys that are not model inputs."""

RESERVED = (LABELS, TEST, GROUP)

MOST_BYTES = 2 << 30
MOST_ITEMS = 100_000
"""Readers that decode or collect samples one by one stop at either, and say so."""


@dataclass(frozen=True)
class Raw:
    """Arrays by key as a reader found them: inputs, `LABELS`, `TEST`, `GROUP` and others; axis 0 is samples.

    Attributes:
        arrays: Key -> array.
        class_names: Names of the integer labels, where the reader made the labels itself (image folders).
        notes: What the report must say.
    """

    arrays: Mapping[str, Array]
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Samples that fit the model, and what else their source says.

    Attributes:
        samples: All of them, in the source's order.
        test: (n,) bool, True for the samples of the test set; None when the source does not say.
        other_keys: Keys that nothing reads.
        class_names: Names of the integer labels, if known.
        notes: What the report must say.
    """

    samples: Samples
    test: Array | None = None
    other_keys: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = field(default=())
