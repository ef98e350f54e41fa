"""load_model: from a file, an entry point or a Python object to a Graph."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from leanedge.entry_point import callers_code, find_function, is_entry_point
from leanedge.errors import ModelError, nearest
from leanedge.graph.canonicalise import canonicalise
from leanedge.load.onnx_file import check_model, load_onnx

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.graph.model import Graph

__all__ = ["LoadedModel", "check_path", "load_model"]

_FORMS = "an .onnx file, package.module:factory, an onnx.ModelProto, an nn.Module with an example input"

_SERIALIZED = (".pt", ".pt2", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".torchscript")


@dataclass(frozen=True)
class LoadedModel:
    """A model in LeanEdge's canonical form and where it came from.

    Attributes:
        graph: The float graph.
        name: Short, for folders and reports: the file's stem, the class or the function.
        source_sha256: Of the file's bytes; of the exported ONNX for a Python object.
        where: File or entry point, for messages.
    """

    graph: Graph
    name: str
    source_sha256: str
    where: str


def load_model(
    model: object, input_shapes: Mapping[str, tuple[int, ...]] | None = None, example_input: Any = None
) -> LoadedModel:
    """Loads a model of any form.

    Args:
        model: Path (or text) of an .onnx file; ``package.module:factory``, a function without arguments that returns
            an onnx.ModelProto or (nn.Module, example input); an onnx.ModelProto; an nn.Module.
        input_shapes: Input -> static shape, to fix dynamic axes; `Settings.input_shapes`.
        example_input: For an nn.Module: a tensor, a tuple of them, or a dict by argument name; batch of any size.

    Raises:
        ModelError: Not readable, another format, a factory that fails, a module that can't be exported.
        UnsupportedOperator: ONNX Runtime can't run a node.
        MissingProgram: A module, and torch is not installed.
    """
    if isinstance(model, str) and is_entry_point(model) and not Path(model).exists():
        return _from_factory(model, input_shapes)
    if isinstance(model, str | Path):
        return _from_file(Path(model), input_shapes)
    return _from_object(model, input_shapes, example_input, type(model).__name__, "")


def check_path(path: Path) -> None:
    """Raises ModelError when the path is no file, or is of a format that is known not to be read."""
    suffix = path.suffix.lower()
    if not path.exists():
        others = [other.name for other in path.parent.glob("*.onnx")] if path.parent.is_dir() else []
        raise ModelError(
            "there is no such file",
            where=str(path),
            allowed=_FORMS,
            hint=nearest(path.name, others) or "check the path",
        )
    if path.is_dir():
        raise ModelError("is a folder", where=str(path), allowed=_FORMS)
    if suffix == ".tflite":
        raise ModelError(
            "a .tflite file is int8 already and is built as it is; this step needs the float model",
            where=str(path),
            allowed=_FORMS,
            hint="leanedge build and leanedge inspect take it; here give the float model that it was converted from",
        )
    if suffix in _SERIALIZED:
        raise ModelError(
            f"{suffix} files hold pickled Python objects, which could run any code, and are never opened",
            where=str(path),
            allowed=_FORMS,
            hint=_factory_example(path),
        )


def _from_file(path: Path, input_shapes: Mapping[str, tuple[int, ...]] | None) -> LoadedModel:
    check_path(path)
    return _loaded(load_onnx(path), path.stem, str(path), path.read_bytes(), input_shapes)


def _factory_example(path: Path) -> str:
    build = (
        f"        module = torch.export.load({path.name!r}).module()  # opens the file: only if you trust it\n"
        if path.suffix == ".pt2"
        else "        module = MyModule()\n"
        f"        module.load_state_dict(torch.load({path.name!r}, weights_only=True))\n"
    )
    return (
        "write a function that makes the module, and give package.module:factory:\n    def factory():\n"
        + build
        + "        return module, torch.zeros(1, 3, 224, 224)  # an example input"
    )


def _from_factory(text: str, input_shapes: Mapping[str, tuple[int, ...]] | None) -> LoadedModel:
    function = find_function(text, ModelError, text)
    try:
        with callers_code():
            made = function()
    except Exception as error:  # any code of the user's runs here; its own error is the message
        raise ModelError(
            f"raised {type(error).__name__}: {error}", where=text, allowed="a function without arguments"
        ) from error
    name = text.split(":")[1]
    if isinstance(made, tuple | list) and len(made) == 2:
        return _from_object(made[0], input_shapes, made[1], name, text)
    return _from_object(made, input_shapes, None, name, text)


def _from_object(
    model: object, input_shapes: Mapping[str, tuple[int, ...]] | None, example: Any, name: str, where: str
) -> LoadedModel:
    where = where or name
    if isinstance(model, onnx.ModelProto):
        check_model(model, where)
        graph_name = model.graph.name if name == "ModelProto" and model.graph.name else name
        return _loaded(model, graph_name, where, model.SerializeToString(deterministic=True), input_shapes)
    if any(kind.__module__.startswith("torch.") and kind.__name__ == "Module" for kind in type(model).__mro__):
        from leanedge.load.torch_module import export_module

        exported = export_module(model, example, where)
        return _loaded(exported, name, where, exported.SerializeToString(deterministic=True), input_shapes)
    raise ModelError(f"{type(model).__name__} is no model", where=where, allowed=_FORMS)


def _loaded(
    proto: onnx.ModelProto, name: str, where: str, data: bytes, input_shapes: Mapping[str, tuple[int, ...]] | None
) -> LoadedModel:
    graph = canonicalise(proto, where, input_shapes)
    return LoadedModel(graph, name, hashlib.sha256(data).hexdigest(), where)
