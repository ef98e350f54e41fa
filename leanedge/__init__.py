"""LeanEdge: from a trained model to a proved artifact for a small device, in one command.

>>> import leanedge
>>> result = leanedge.build("model.onnx", target="rpi4", data="samples.npz")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leanedge.version import __version__

if TYPE_CHECKING:
    from leanedge.pipeline import Result as Result
    from leanedge.pipeline import build as build
    from leanedge.several import Outcome as Outcome
    from leanedge.several import build_many as build_many

__all__ = ["Outcome", "Result", "__version__", "build", "build_many"]


def __getattr__(name: str) -> Any:
    # `leanedge --help` must not pay for numpy and onnx.
    if name in ("build", "Result"):
        from leanedge import pipeline

        return getattr(pipeline, name)
    if name in ("build_many", "Outcome"):
        from leanedge import several

        return getattr(several, name)
    raise AttributeError(f"module 'leanedge' has no attribute {name!r}")
