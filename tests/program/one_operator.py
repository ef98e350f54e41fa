"""Files of one operator written by hand: any code, any tensors, any options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tflite
from int8_cases import quant

from leanedge.export.tflite_file.encode import FileWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OneOperator"]


class OneOperator:
    """Operands are added in order, `data` ends the file."""

    def __init__(self) -> None:
        self.writer = FileWriter()
        self.inputs: list[int] = []
        self.operands: list[int] = []

    def input(self, dtype: Any = "int8", shape: tuple[int, ...] = (1, 4), **changes: Any) -> OneOperator:
        """An input of the model."""
        changes = {"quant": quant(0.1, 0, None, dtype) if dtype != "float32" else None, **changes}
        self.inputs.append(self.writer.tensor("x", shape, dtype, **changes))
        self.operands.append(self.inputs[-1])
        return self

    def constant(self, data: Any, **changes: Any) -> OneOperator:
        """A constant operand."""
        dtype: Any = str(data.dtype)
        self.operands.append(self.writer.tensor("c", data.shape, dtype, **{"data": data, **changes}))
        return self

    def absent(self) -> OneOperator:
        """An operand that is left out."""
        self.operands.append(-1)
        return self

    def data(
        self,
        code: int,
        shape: tuple[int, ...] = (1, 4),
        dtype: Any = "int8",
        options: str = "",
        fields: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> bytes:
        """The file: `options` is the schema's name of their table, `fields` its fields; a list is a vector of int32."""
        changes = {"quant": quant(0.1, 0, None, dtype) if dtype != "float32" else None, **changes}
        out = self.writer.tensor("y", shape, dtype, **changes)
        union, given = None, fields or {}
        if options:
            vectors = {name: self.writer.vector(value) for name, value in given.items() if isinstance(value, list)}
            values = {**given, **vectors}
            made = [(getattr(tflite, f"{options}Add{name}"), value) for name, value in values.items()]
            start, end = getattr(tflite, f"{options}Start"), getattr(tflite, f"{options}End")
            union = getattr(tflite.BuiltinOptions, options), self.writer.table(start, end, *made)
        self.writer.operator(code, 1, self.operands, [out], union)
        self.writer.subgraph("main", self.inputs, [out])
        ports = [(f"x{place}", tensor) for place, tensor in enumerate(self.inputs)]
        return self.writer.finish(ports, [("y", out)], "by hand")
