"""Does the artifact do what the model does, and does the device's runtime do what this machine's does?

Two different questions: the first is about the quantizer and the exporter, the second about the platform.
"""

from leanedge.validate.difference import Maker, first_difference, makers_of
from leanedge.validate.emulation import Emulation, Proving, emulate, samples_to_emulate
from leanedge.validate.tolerance import Tolerance, apart, compare, shaped, tolerance_for

__all__ = [
    "Emulation",
    "Maker",
    "Proving",
    "Tolerance",
    "apart",
    "compare",
    "emulate",
    "first_difference",
    "makers_of",
    "samples_to_emulate",
    "shaped",
    "tolerance_for",
]
