"""Quantization: from a float Graph and calibration samples to every integer of the compressed model."""

from leanedge.compress.quantize.equalization import equalize
from leanedge.compress.quantize.quantize import quantize, quantize_best
from leanedge.compress.quantize.rules import RULES, QuantRules

__all__ = ["RULES", "QuantRules", "equalize", "quantize", "quantize_best"]
