"""Depthwise convolutions."""

from __future__ import annotations

from .compact import depthwise_compact
from .dsp import depthwise_planes, depthwise_strips
from .thumb1 import depthwise_bytes, depthwise_bytes_strips

__all__ = ["depthwise_bytes", "depthwise_bytes_strips", "depthwise_compact", "depthwise_planes", "depthwise_strips"]
