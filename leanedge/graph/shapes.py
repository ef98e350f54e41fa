"""Shape inference: ONNX's own, with data propagation, on static inputs."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from leanedge.errors import ModelError

__all__ = ["infer_shapes"]


def infer_shapes(model: ir.Model, forget: bool = False) -> ir.Model:
    """Returns a copy of the model with the type and shape of every value that inference can find.

    Args:
        model: May be changed.
        forget: Drop the shapes of inner values and outputs first, as after channels were cut.

    Raises:
        ModelError: Shapes contradict each other.
    """
    proto = ir.to_proto(model)
    if forget:
        del proto.graph.value_info[:]
        for output in proto.graph.output:
            output.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(
            f"its shapes do not fit together: {str(error).strip().splitlines()[-1]}",
            hint="check the model with onnx.checker.check_model(..., full_check=True)",
        ) from error
    restored: ir.Model = ir.from_proto(inferred)
    return restored
