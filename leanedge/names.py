"""The closed sets of names that plans, reports and the command line use, each written once."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["PATTERNS", "SCHEMES", "How", "Pattern", "Scheme"]

Scheme = Literal["fp32", "fp16", "w8a8", "w8a8_pt", "w8a8_dynamic", "mixed"]
"""How numbers are stored and computed.

``fp16`` is fp16 storage of weights, computed in float. ``w8a8`` is full integer with per-channel weights where the
runtime has them, ``_pt`` per tensor. ``w8a8_dynamic`` has int8 weights and activations whose range is found at run
time. ``mixed`` is ``w8a8`` with some operators left in float; the report lists which.
"""

Pattern = Literal["dense", "channel"]
"""What was cut out of the weights: nothing, or whole output channels."""

How = Literal["proved", "measured", "predicted", "unavailable"]
"""How a figure is known."""

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
