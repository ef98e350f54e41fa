"""Pixels to input values, as leanedge.yaml's ``inputs`` states it: resize, crop, color, layout, scale, mean, std."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.errors import DataError, MissingProgram

if TYPE_CHECKING:
    from types import ModuleType

    from leanedge.graph.model import TensorInfo
    from leanedge.settings import InputSettings

__all__ = ["example_settings", "image_to_input", "layout_of", "normalise_array", "pillow", "require_stated"]

Array = np.ndarray[Any, Any]


def pillow() -> ModuleType:
    """PIL.Image.

    Raises:
        MissingProgram: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingProgram(
            "reading images needs Pillow", allowed="the extra `images`", hint="pip install 'leanedge[images]'"
        ) from error
    return Image


def layout_of(entry: InputSettings | None, info: TensorInfo) -> str | None:
    """NCHW or NHWC: as stated, else the only one that leaves 1, 3 or 4 channels; None when both or none do."""
    if entry is not None and entry.layout is not None:
        return entry.layout
    if len(info.shape) != 4:
        return None
    first, last = info.shape[1] in (1, 3, 4), info.shape[3] in (1, 3, 4)
    return None if first == last else "NCHW" if first else "NHWC"


def example_settings(info: TensorInfo) -> str:
    """Lines of leanedge.yaml that state the preprocessing of an image input, ready to be corrected."""
    layout = layout_of(None, info) or "NCHW"
    shape = info.shape if len(info.shape) == 4 else (1, 3, 224, 224)
    channels, height, width = shape[1:] if layout == "NCHW" else (shape[3], *shape[1:3])
    color = "gray" if channels == 1 else "RGB"
    mean, std = ("0.449", "0.226") if channels == 1 else ("[0.485, 0.456, 0.406]", "[0.229, 0.224, 0.225]")
    return (
        f"inputs:\n  {info.name}:\n    layout: {layout}\n    color: {color}\n    resize: [{height}, {width}]\n"
        f"    scale: 0.00392156862745098  # 1/255: pixels 0..255 become 0..1\n    mean: {mean}\n    std: {std}"
    )


def require_stated(entry: InputSettings | None, info: TensorInfo, where: str, resizes: bool) -> InputSettings:
    """The input's settings, when they say all that turning pixels into values takes.

    Args:
        entry: What leanedge.yaml has for this input.
        info: The model's image input.
        where: For messages.
        resizes: The images may have any size, so `resize` or `crop` must be stated.

    Raises:
        DataError: Something is not stated; the message holds a ready example.
    """
    if len(info.shape) != 4:
        raise DataError(
            f"images don't fit the model's input {info.name} of shape {info.shape}",
            where=where,
            allowed="an input of shape (1, channels, height, width) or (1, height, width, channels)",
        )
    missing = []
    if layout_of(entry, info) is None:
        missing.append("layout")
    if resizes and (entry is None or entry.color is None):
        missing.append("color")
    if resizes and (entry is None or (entry.resize is None and entry.crop is None)):
        missing.append("resize or crop")
    if entry is None or (info.dtype.kind == "f" and not entry.has_arithmetic):
        missing.append("scale, mean or std (`scale: 1` keeps 0..255)")
    if missing or entry is None:
        raise DataError(
            f"how pixels become the model's input {info.name} is not stated: {', '.join(missing)}",
            where=where,
            hint="state in leanedge.yaml what the model was trained with, for example\n" + example_settings(info),
        )
    return entry


def image_to_input(image: Any, entry: InputSettings, info: TensorInfo, where: str) -> Array:
    """One PIL image as the model's input.

    Args:
        image: Any mode; turned upright by its EXIF tag, transparency dropped.
        entry: Stated preprocessing; see `leanedge.settings.InputSettings` for the order of steps.
        info: The model's input, of four axes.
        where: The file, for messages.

    Returns:
        An array of the input's shape without the batch axis.

    Raises:
        DataError: After resize and crop the size is not the model's.
    """
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image).convert("L" if entry.color == "gray" else "RGB")
    if entry.resize is not None:
        width, height = image.size
        if isinstance(entry.resize, int):
            short = min(width, height)
            size = (max(1, round(width * entry.resize / short)), max(1, round(height * entry.resize / short)))
        else:
            size = (entry.resize[1], entry.resize[0])
        image = image.resize(size, pillow().Resampling.BILINEAR)
    if entry.crop is not None:
        height, width = (entry.crop, entry.crop) if isinstance(entry.crop, int) else entry.crop
        left, top = (image.size[0] - width) // 2, (image.size[1] - height) // 2
        if left < 0 or top < 0:
            raise DataError(
                f"is {image.size[1]} by {image.size[0]} pixels before the crop of {height} by {width}",
                where=where,
                hint=f"state a resize of at least the crop for inputs.{info.name}",
            )
        image = image.crop((left, top, left + width, top + height))
    pixels: Array = np.asarray(image)
    if entry.color == "BGR":
        pixels = pixels[..., ::-1]
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    values: Array = _to_values(pixels[None], entry, info, where)[0]
    return values


def normalise_array(array: Array, entry: InputSettings, info: TensorInfo, where: str) -> Array:
    """Raw uint8 pixels (n, height, width[, channels]), or already in the model's own layout, as input values.

    Where both layouts would fit, the model's own is taken.

    Raises:
        DataError: The shape fits neither, or the model's layout is not known.
    """
    if len(info.shape) != 4:
        # A vector or a signal: there is no layout, and numbers that are one for each channel have no axis.
        return _arithmetic(array, entry, info, where, channel_axis=None).astype(info.dtype)
    own = info.shape[1:]
    layout = layout_of(entry, info)
    if array.shape[1:] in (own, info.shape):
        array = array.reshape(len(array), *own)
        if layout == "NCHW":
            array = np.moveaxis(array, 1, -1)
        return _to_values(array, entry, info, where)
    if array.ndim == 3:
        array = array[..., None]
    return _to_values(array, entry, info, where) if array.ndim == 4 else array


def _to_values(pixels: Array, entry: InputSettings, info: TensorInfo, where: str) -> Array:
    """(n, height, width, channels) uint8 to the model's layout, dtype and values."""
    layout = layout_of(entry, info)
    if layout is None:
        raise DataError(
            f"whether the model's input {info.name} {info.shape} is NCHW or NHWC is not stated",
            where=where,
            hint=f"add to leanedge.yaml:  inputs: {{{info.name}: {{layout: NCHW}}}}",
        )
    channels, height, width = info.shape[1:] if layout == "NCHW" else (info.shape[3], *info.shape[1:3])
    if pixels.shape[1:] != (height, width, channels):
        got = " by ".join(map(str, pixels.shape[1:3]))
        raise DataError(
            f"is {got} pixels of {pixels.shape[3]} channels, the model's input {info.name} takes {height} by {width} "
            f"of {channels}",
            where=where,
            hint=f"state resize, crop and color in inputs.{info.name} of leanedge.yaml",
        )
    values = _arithmetic(pixels, entry, info, where, channel_axis=-1)
    return np.ascontiguousarray(np.moveaxis(values, -1, 1) if layout == "NCHW" else values).astype(info.dtype)


def _arithmetic(pixels: Array, entry: InputSettings, info: TensorInfo, where: str, channel_axis: int | None) -> Array:
    if info.dtype.kind != "f":
        return pixels
    channels = None if channel_axis is None else pixels.shape[channel_axis]
    values = pixels.astype(np.float32)
    for name, number in (("scale", entry.scale), ("mean", entry.mean), ("std", entry.std)):
        if number is None:
            continue
        if isinstance(number, tuple) and len(number) != channels:
            raise DataError(
                f"inputs.{info.name}.{name} has {len(number)} numbers, the input "
                + (f"{channels} channels" if channels is not None else "no channel axis"),
                where=where,
                allowed="one number, or one for each channel",
            )
        operand = np.asarray(number, np.float32)
        values = values * operand if name == "scale" else values - operand if name == "mean" else values / operand
    return values
