"""Depthwise convolutions."""

from __future__ import annotations

from .dsp import depthwise_planes, depthwise_strips

__all__ = ["depthwise_planes", "depthwise_strips"]
