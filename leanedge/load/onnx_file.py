"""Reads ONNX files: opset 11 to the newest onnx knows, external data from inside the file's own folder only."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data

from leanedge.errors import ModelError

__all__ = ["OLDEST_OPSET", "check_model", "load_onnx"]

OLDEST_OPSET = 11
NEWEST_OPSET = onnx.defs.onnx_opset_version()


def load_onnx(path: Path) -> onnx.ModelProto:
    """Reads and checks the file.

    Raises:
        ModelError: Not there, not ONNX, truncated, damaged, an opset out of range, or external data that is
            missing or lies outside the model's folder.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"can't be read: {error.strerror}", where=str(path), hint="check the path") from error
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(
            "is not an ONNX model, or is cut short",
            where=str(path),
            allowed="a file written by onnx.save or torch.onnx.export",
            hint=f"check that it is complete (it has {len(data)} bytes)",
        ) from error
    _load_external(model, path)
    check_model(model, str(path))
    return model


def check_model(model: onnx.ModelProto, where: str) -> None:
    """Raises ModelError unless the model is a whole, valid ONNX graph with an opset in range."""
    if not model.graph.node or not model.opset_import:
        raise ModelError("holds no ONNX graph", where=where, allowed="a file written by onnx.save or torch.onnx.export")
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), OLDEST_OPSET)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ModelError(
            f"opset {opset} can't be handled",
            where=where,
            allowed=f"opset {OLDEST_OPSET} to {NEWEST_OPSET}",
            hint="export again with opset_version=17, or onnx.version_converter.convert_version",
        )
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ModelError(
            f"is not valid ONNX: {str(error).strip().splitlines()[0]}",
            where=where,
            hint="export it again; onnx.checker.check_model shows the whole message",
        ) from error


def _load_external(model: onnx.ModelProto, path: Path) -> None:
    """Loads external tensors, refusing any file that is not below the model's own folder."""
    folder = path.resolve().parent
    external = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    for tensor in external:
        location = ExternalDataInfo(tensor).location
        target = (folder / location).resolve()
        if PurePosixPath(location).is_absolute() or not target.is_relative_to(folder):
            raise ModelError(
                f"tensor {tensor.name} points to {location!r}, outside the model's folder",
                where=str(path),
                allowed="external data in files beside the model",
            )
        if not target.is_file():
            raise ModelError(
                f"its external data file {location!r} is missing", where=str(path), hint="copy it beside the model"
            )
    if external:
        try:
            load_external_data_for_model(model, str(folder))
        except (ValueError, OSError, onnx.checker.ValidationError) as error:
            raise ModelError(f"its external data can't be read: {error}", where=str(path)) from error
