"""Runs a Program in numpy: the reference of every device. Integers bit for bit, floats up to the order of sums."""

from __future__ import annotations

from leanedge.program.simulate.run import initial_state, run_operator, simulate, simulate_step, simulate_tensors
from leanedge.program.simulate.samples import simulate_samples, simulate_sequence

__all__ = [
    "initial_state",
    "run_operator",
    "simulate",
    "simulate_samples",
    "simulate_sequence",
    "simulate_step",
    "simulate_tensors",
]
