"""The leanedge.yaml that `leanedge init` writes: filled in from the model and the data, every key explained."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from leanedge.data.idx_file import is_idx_name
from leanedge.data.npz_file import read_npz
from leanedge.data.pixels import example_settings
from leanedge.data.source import GROUP, LABELS, RESERVED, TEST
from leanedge.entry_point import is_entry_point
from leanedge.errors import OutputError, UsageError
from leanedge.graph.model import TensorInfo
from leanedge.load.model import check_path
from leanedge.load.onnx_file import load_onnx
from leanedge.metric.metric import METRICS
from leanedge.settings import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FILE_NAME", "initial_settings", "write_initial_settings"]

FILE_NAME = "leanedge.yaml"

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Tensor:
    """An input or output as the model file declares it: a dimension is a number, or its name where it is dynamic."""

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} [{', '.join(map(str, self.dims))}]"


def write_initial_settings(model: str | Path, data: str | Path | None, folder: Path, force: bool = False) -> Path:
    """Writes `initial_settings` to leanedge.yaml in `folder` and returns its path.

    Raises:
        UsageError: The file is there already, and not `force`.
        OutputError: It can't be written.
        ModelError, DataError: As `initial_settings`.
    """
    path = folder / FILE_NAME
    if path.exists() and not force:
        raise UsageError("is here already", where=str(path), hint="edit it, or replace it with --force")
    text = initial_settings(model, data, folder)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"can't be written: {error.strerror}", where=str(path)) from error
    return path


def initial_settings(model: str | Path, data: str | Path | None = None, folder: Path | None = None) -> str:
    """The text of a leanedge.yaml for this model and data, with what can't be known as comments.

    Args:
        model: An .onnx file, which is read, or ``package.module:factory``, which is not run.
        data: An .npz file, which is read, or any other source.
        folder: Where the text will stand; paths are made relative to it. None: they stay as they are.

    Raises:
        ModelError: The model file can't be read.
        DataError: The .npz file can't be read.
    """
    inputs, outputs = _declared(model)
    arrays = read_npz(Path(data)).arrays if data is not None and str(data).endswith(".npz") else {}
    images = data is not None and Path(data).is_dir() and not is_entry_point(str(data))
    blocks = [
        "# What LeanEdge is told about one model and its data. Paths are relative to this file.\n"
        f"# A line that starts with # is not read: remove the # to use it.\nschema: {SCHEMA}",
        f"model: {_text(model, folder)}",
        _about_data(data, arrays, folder),
        _about_inputs(inputs, arrays, images, data),
        _about_state(inputs, outputs, arrays),
        _about_metric(outputs, arrays),
        "# What to build for; options of `leanedge build` go before these.\n"
        "# target: rpi4  # `leanedge targets` lists them; or a profile file of your own\n"
        "# budget: latency=20ms,ram=64MB,flash=8MB\n"
        "# max_drop: 1.0  # percentage points, or percent for mae and rmse\n"
        "# threads: 4  # default: the device's cores\n"
        "# output: dist/rpi4\n"
        "seed: 0",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _declared(model: str | Path) -> tuple[list[_Tensor], list[_Tensor]]:
    if is_entry_point(str(model)) and not Path(model).exists():
        return [], []
    check_path(Path(model))
    proto = load_onnx(Path(model))
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [_tensor(value) for value in proto.graph.input if value.name not in constants]
    return inputs, [_tensor(value) for value in proto.graph.output]


def _tensor(value: onnx.ValueInfoProto) -> _Tensor:
    kind = value.type.tensor_type
    dims = tuple(
        int(dim.dim_value) if dim.dim_value > 0 else str(dim.dim_param or f"axis{axis}")
        for axis, dim in enumerate(kind.shape.dim)
    )
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)) if kind.elem_type else np.dtype(np.float32)
    return _Tensor(value.name, dtype, dims)


def _about_data(data: str | Path | None, arrays: Mapping[str, Array], folder: Path | None) -> str:
    keys = "".join(f"#   {key}: {array.dtype} {list(array.shape)}\n" for key, array in arrays.items())
    found = f"# It holds\n{keys}" if keys else ""
    line = (
        "# data: samples.npz  # or a folder of images by class, idx files, package.module:function"
        if data is None
        else f"data: {_text(data, folder)}"
    )
    test = (
        ""
        if TEST in arrays
        else "\n# test_data: test.npz  # the test set, if you have one apart; else half of the samples"
    )
    others = [
        key
        for key, array in arrays.items()
        if key not in (*RESERVED, "x") and array.ndim == 1 and array.dtype.kind in "iuUS"
    ]
    group = ""
    if GROUP not in arrays:
        group = (
            f"\n# groups: {_scalar(others[0]) if others else 'person'}  # key that says which samples belong together"
        )
    return found + line + test + group


def _about_inputs(inputs: Sequence[_Tensor], arrays: Mapping[str, Array], images: bool, data: str | Path | None) -> str:
    if not inputs:
        return "# inputs:  # static shapes and preprocessing, see docs/settings.md"
    lines = ["# The model's inputs are", *(f"#   {tensor}" for tensor in inputs)]
    fixed = {tensor.name: _fixed_shape(tensor, inputs, arrays) for tensor in inputs}
    known = {
        name: shape for name, shape in fixed.items() if shape is not None and all(isinstance(d, int) for d in shape)
    }
    open_ = {name: shape for name, shape in fixed.items() if shape is not None and name not in known}
    if known:
        lines.append("inputs:  # dynamic axes are fixed to the shapes of the data")
        lines += [f"  {_scalar(name)}: {{shape: [{', '.join(map(str, shape))}]}}" for name, shape in known.items()]
    if open_:
        lines.append("# Fix the dynamic axes: a number in place of each name.")
        lines += [] if known else ["# inputs:"]
        lines += [f"#  {_scalar(name)}: {{shape: [{', '.join(map(str, shape))}]}}" for name, shape in open_.items()]
    idx = data is not None and (
        is_idx_name(Path(data).name)
        or (Path(data).is_dir() and any(is_idx_name(path.name) for path in Path(data).iterdir()))
    )
    if images or idx:
        first = inputs[0]
        shape = tuple(dim if isinstance(dim, int) else 1 if axis == 0 else 224 for axis, dim in enumerate(first.dims))
        example = example_settings(TensorInfo(_scalar(first.name), first.dtype, shape))
        lines.append("# Images need their preprocessing stated: correct this to what the model was trained with.")
        lines += [f"# {line}" for line in example.splitlines()]
    return "\n".join(lines)


def _fixed_shape(
    tensor: _Tensor, inputs: Sequence[_Tensor], arrays: Mapping[str, Array]
) -> tuple[int | str, ...] | None:
    """The shape with dynamic axes taken from the data where it fits; None when only the batch axis is dynamic."""
    if all(isinstance(dim, int) for dim in tensor.dims[1:]):
        return None
    array = arrays.get(tensor.name, arrays.get("x") if len(inputs) == 1 else None)
    if array is not None and array.ndim == len(tensor.dims):
        pairs = zip(tensor.dims[1:], array.shape[1:], strict=True)
        if all(not isinstance(dim, int) or dim == size for dim, size in pairs):
            return (1, *(int(size) for size in array.shape[1:]))
    return (1, *tensor.dims[1:])


def _about_state(inputs: Sequence[_Tensor], outputs: Sequence[_Tensor], arrays: Mapping[str, Array]) -> str:
    """Pairs that look like a state: an input that the data lacks and an output of its type and shape."""
    fed = {tensor.name for tensor in inputs if tensor.name in arrays}
    free = [tensor for tensor in inputs if tensor.name not in fed] if len(inputs) > 1 else []
    pairs = []
    taken: set[str] = set()
    for tensor in free:
        match = next((o for o in outputs if o.name not in taken and _could_feed(o, tensor)), None)
        if match is not None:
            taken.add(match.name)
            pairs.append(f"#   {_scalar(tensor.name)}: {_scalar(match.name)}")
    if not pairs:
        return ""
    head = "# A streaming model? Which output goes in again at the next step (these have equal shapes):\n# state:\n"
    return head + "\n".join(pairs)


def _could_feed(source: _Tensor, target: _Tensor) -> bool:
    if source.dtype != target.dtype or len(source.dims) != len(target.dims):
        return False
    pairs = zip(source.dims, target.dims, strict=True)
    return all(a == b or isinstance(a, str) or isinstance(b, str) for a, b in pairs)


def _about_metric(outputs: Sequence[_Tensor], arrays: Mapping[str, Array]) -> str:
    labels = arrays.get(LABELS)
    lines = [f"# The model's outputs are {', '.join(map(str, outputs))}"] if outputs else []
    if labels is not None and labels.dtype.kind in "biu" and labels.ndim == 1:
        classes = int(labels.max()) + 1 if len(labels) else 0
        lines.append(
            f"# labels: [...]  # names of the {classes} classes 0 to {classes - 1}, in this order, or a file of them"
        )
        default = "top1"
    else:
        default = "sqnr" if labels is None else "rmse"
    lines.append(f"# metric: {default}  # {' '.join(METRICS)} or package.module:function; by default the labels decide")
    return "\n".join(lines)


def _text(path: str | Path, folder: Path | None) -> str:
    text = str(path)
    if folder is not None and not (is_entry_point(text) and not Path(text).exists()):
        text = os.path.relpath(text, folder)
    return _scalar(text)


def _scalar(text: str) -> str:
    """The text as YAML, quoted where it would be read as anything else."""
    plain = re.fullmatch(r"[A-Za-z_./][\w./-]*", text) and text.lower() not in ("null", "true", "false")
    return text if plain else json.dumps(text, ensure_ascii=False)
