"""ocr_cls: PP-OCR's text direction classifier (0 or 180 degrees) on rendered lines of text."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.workloads.fetch import debian, wheel, write_samples
from benchmarks.workloads.sentences import sentences
from benchmarks.workloads.workload import UnavailableWorkload, Workload

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

PACKAGE = "rapidocr-onnxruntime==1.4.4"
MODEL_FILE = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
FONT_PACKAGES = ("fonts-dejavu-core", "fonts-liberation")
HEIGHT, WIDTH = 48, 192
LINES, TEST_LINES = 900, 400  # each line is shown upright and upside down


def load(cache: Path) -> Workload:
    """The model from PyPI; text from this Python's own documentation strings, fonts from Debian."""
    model, samples = cache / "ocr_cls" / "model.onnx", cache / "ocr_cls" / "samples.npz"
    if not model.exists():
        model.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(wheel(cache, PACKAGE) / MODEL_FILE, model)
    if not samples.exists():
        write_samples(samples, rendered_lines(cache))
    return Workload(
        name="ocr_cls",
        model=model,
        samples=samples,
        metric="top1",
        licence="model Apache-2.0; text PSF-2.0 (Python), fonts Bitstream Vera (DejaVu) and OFL-1.1 (Liberation)",
        notes="image axes are free in the file; both directions of a line are in the same set",
        labelled=True,
        inputs={"x": {"shape": [1, 3, HEIGHT, WIDTH]}},
    )


def rendered_lines(cache: Path, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """x (2 * LINES, 3, 48, 192) BGR in -1..1, padded with 0 on the right as PP-OCR does; y 0, 1."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UnavailableWorkload("Pillow is needed to render text: pip install pillow") from error
    random = np.random.default_rng(seed)
    fonts = sorted(path for package in FONT_PACKAGES for path in debian(cache, package).rglob("*.ttf"))
    texts = sentences(seed)
    x = np.zeros((2 * LINES, 3, HEIGHT, WIDTH), np.float16)
    for line in range(LINES):
        words = texts[line % len(texts)].split()
        first = int(random.integers(max(1, len(words) - 3)))
        text = " ".join(words[first : first + int(random.integers(1, 4))])[:24]
        image = _render(text, fonts[int(random.integers(len(fonts)))], random)
        for upside_down in (0, 1):
            turned = image.rotate(180 * upside_down)
            width = min(WIDTH, -(-HEIGHT * turned.width // turned.height))
            pixels = np.asarray(turned.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)
            x[2 * line + upside_down, :, :, :width] = (pixels[:, :, ::-1].transpose(2, 0, 1) / 255 - 0.5) / 0.5
    group = np.repeat(np.arange(LINES), 2)
    return {"x": x, "y": np.tile([0, 1], LINES), "test": group >= LINES - TEST_LINES, "group": group}


def _render(text: str, font_file: Path, random: np.random.Generator) -> Image:
    """Dark on light or light on dark, a size of 18 to 44, a tilt of up to 2 degrees, a tight margin."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(font_file), int(random.integers(18, 45)))
    left, top, right, bottom = font.getbbox(text)
    margin = int(random.integers(2, 9))
    dark, light = random.integers(0, 110, 3), random.integers(150, 256, 3)
    ink, paper = (dark, light) if random.random() < 0.7 else (light, dark)
    size = (round(right - left) + 2 * margin, round(bottom - top) + 2 * margin)
    image = Image.new("RGB", size, tuple(int(v) for v in paper))
    ImageDraw.Draw(image).text((margin - left, margin - top), text, font=font, fill=tuple(int(v) for v in ink))
    tilt = float(random.uniform(-2, 2))
    return image.rotate(tilt, Image.Resampling.BILINEAR, fillcolor=tuple(int(v) for v in paper))
