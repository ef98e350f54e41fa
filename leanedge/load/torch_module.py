"""PyTorch modules to ONNX, by torch.export."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

from leanedge.errors import LeanEdgeError, MissingProgram, ModelError
from leanedge.load.onnx_file import check_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    import onnx

__all__ = ["export_module"]

_OPSET = 18  # what torch's exporter is written for; lower ones go through a lossy conversion


def export_module(module: Any, example_input: Any, where: str) -> onnx.ModelProto:
    """Exports an nn.Module in eval mode with batch 1; the module is left as it was.

    Args:
        module: An nn.Module.
        example_input: A tensor, a tuple of them, or a dict by the forward method's argument names. Axis 0 is
            cut to its first entry when it is a batch: longer than 1, and of one length in all inputs and outputs.
        where: For messages.

    Raises:
        ModelError: No example input, or torch.export can't trace the module; its reason is in the message.
        MissingProgram: torch is not installed.
    """
    torch = _torch()
    if example_input is None:
        raise ModelError(
            "a PyTorch module needs an example input",
            where=where,
            allowed="example_input=torch.zeros(1, ...), or a factory that returns (module, example input)",
        )
    arguments, named = _example(example_input, torch, where)
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        arguments, named = _with_batch_1(module, arguments, named, torch, where)
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module, arguments, kwargs=named or None, dynamo=True, opset_version=_OPSET, verbose=False
            )
    except LeanEdgeError:
        raise
    except Exception as error:  # torch raises a wide family of types here
        raise ModelError(
            f"can't be exported by torch.export: {_reason(error)}",
            where=where,
            allowed="modules whose forward pass does not branch on tensor values",
            hint="torch.export.export(module, args) shows the whole message; or export to ONNX yourself",
        ) from error
    finally:
        for part, training in modes:
            part.training = training
    return _proto(program, where)


def _torch() -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise MissingProgram(
            "loading a PyTorch model needs torch", allowed="the extra `torch`", hint="pip install 'leanedge[torch]'"
        ) from error
    module: ModuleType = torch
    return module


def _example(example: Any, torch: ModuleType, where: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    values = (
        example.values() if isinstance(example, dict) else example if isinstance(example, tuple | list) else (example,)
    )
    for value in values:
        if not isinstance(value, torch.Tensor):
            raise ModelError(
                f"the example input holds {type(value).__name__}",
                where=where,
                allowed="tensors, a tuple or a dict of them",
            )
    return (
        ((), {str(name): value for name, value in example.items()})
        if isinstance(example, dict)
        else (tuple(values), {})
    )


def _with_batch_1(
    module: Any, arguments: tuple[Any, ...], named: dict[str, Any], torch: ModuleType, where: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example cut to its first entry where axis 0 is a batch: it has one length in all inputs and all outputs."""
    try:
        with _quiet(), torch.no_grad():
            made = module(*arguments, **named)
    except Exception as error:  # any code of the user's runs here; its own error is the message
        raise ModelError(
            f"its forward pass fails on the example input: {type(error).__name__}: {error}",
            where=where,
            hint="give an example input that the module takes",
        ) from error
    outputs = made.values() if isinstance(made, dict) else made if isinstance(made, tuple | list) else (made,)
    tensors = [*arguments, *named.values(), *(value for value in outputs if isinstance(value, torch.Tensor))]
    sizes = {tensor.shape[0] if tensor.dim() else 0 for tensor in tensors}
    if len(sizes) != 1 or sizes <= {0, 1}:
        return arguments, named
    return tuple(value[:1] for value in arguments), {name: value[:1] for name, value in named.items()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's prints, warnings and log lines out of the caller's terminal."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    said = io.StringIO()
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The innermost cause's first line: the exporter wraps it in several layers."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _proto(program: Any, where: str) -> onnx.ModelProto:
    with _quiet():
        program.optimize()
        proto: onnx.ModelProto = program.model_proto
    check_model(proto, where)
    return proto
