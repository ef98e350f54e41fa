"""C source from a Program: kernels chosen for each layer, weights, one arena, a small public interface."""

from leanedge.export.c_source.emit import CSource, emit
from leanedge.export.c_source.interface import ModelNotes
from leanedge.export.c_source.kernel import Constant, Kernel, KernelMaker, Layer
from leanedge.export.c_source.layers import make_kernels, make_layers
from leanedge.export.c_source.pixels import PixelRule, stated_pixels
from leanedge.export.c_source.portable import portable_kernel

__all__ = [
    "CSource",
    "Constant",
    "Kernel",
    "KernelMaker",
    "Layer",
    "ModelNotes",
    "PixelRule",
    "emit",
    "make_kernels",
    "make_layers",
    "portable_kernel",
    "stated_pixels",
]
