"""What each runtime's integer kernels demand of scales: a table that calibration obeys, never patched at export."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from leanedge.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.graph.operators import Kind

__all__ = ["RULES", "QuantRules", "rules_named"]


@dataclass(frozen=True)
class QuantRules:
    """The integer arithmetic of one runtime.

    Attributes:
        name: Its key in `RULES`.
        integer: Operator kinds that have an integer kernel there.
        per_channel: Kinds whose weights may have one scale an output channel; the others' have one a tensor.
        tied: Kinds whose outputs have the scale and zero point of their inputs (they move integers, or pick them).
        fixed: Kind -> (scale, zero point as int8) that its output always has.
        float_output: Kinds whose integer kernel can hand out float, so that their output need not be quantized.
        whole: True where a model is integer from input to output: every operator with an integer kernel uses it and
            model inputs and outputs are integers. False where an operator that gains nothing from it stays in float.
    """

    name: str
    integer: frozenset[Kind]
    per_channel: frozenset[Kind]
    tied: frozenset[Kind]
    fixed: Mapping[Kind, tuple[float, int]] = field(default_factory=dict)
    float_output: frozenset[Kind] = frozenset()
    whole: bool = False


_ONNXRUNTIME = QuantRules(
    name="onnxruntime",
    # The kernels of onnxruntime/contrib_ops/cpu/quantization that QDQ groups are fused to, and data movement on
    # uint8. Softmax, products of two activations, hard_swish, tanh, div: float between DequantizeLinear and
    # QuantizeLinear is as fast and loses less. ConvTranspose has no integer kernel.
    integer=frozenset(
        {
            "conv",
            "linear",
            "add",
            "mul",
            "clip",
            "max_pool",
            "average_pool",
            "mean",
            "sigmoid",
            "leaky_relu",
            "concat",
            "reshape",
            "transpose",
            "split",
            "slice",
            "pad",
            "resize",
            "gather",
        }
    ),
    per_channel=frozenset({"conv", "linear"}),
    tied=frozenset({"clip", "max_pool", "reshape", "transpose", "split", "slice", "pad", "resize", "gather"}),
    float_output=frozenset({"linear"}),
)

RULES: Mapping[str, QuantRules] = {
    "onnxruntime": _ONNXRUNTIME,
    # The same QDQ file: OpenVINO's low-precision transformations read the same groups.
    "openvino": QuantRules(
        name="openvino",
        integer=_ONNXRUNTIME.integer,
        per_channel=_ONNXRUNTIME.per_channel,
        tied=_ONNXRUNTIME.tied,
        float_output=_ONNXRUNTIME.float_output,
    ),
    # https://ai.google.dev/edge/litert/models/quantization_spec ("Int8 quantized operator specifications").
    "tflite": QuantRules(
        name="tflite",
        integer=frozenset(
            {
                "conv",
                "conv_transpose",
                "linear",
                "matmul",
                "add",
                "sub",
                "mul",
                "clip",
                "max_pool",
                "average_pool",
                "mean",
                "softmax",
                "sigmoid",
                "tanh",
                "hard_swish",
                "hard_sigmoid",
                "leaky_relu",
                "prelu",
                "reshape",
                "transpose",
                "concat",
                "split",
                "slice",
                "pad",
                "resize",
                "gather",
            }
        ),
        per_channel=frozenset({"conv", "conv_transpose"}),
        tied=frozenset(
            {
                "max_pool",
                "average_pool",
                "reshape",
                "transpose",
                "concat",
                "split",
                "slice",
                "pad",
                "resize",
                "gather",
            }
        ),
        fixed={"softmax": (1 / 256, -128), "sigmoid": (1 / 256, -128), "tanh": (1 / 128, 0)},
        whole=True,
    ),
}
"""Every set of rules, by the name that targets and `QuantSpec.rules` use."""


def rules_named(name: str) -> QuantRules:
    """The rules of that name.

    Raises:
        UsageError: There are none.
    """
    if name not in RULES:
        raise UsageError(
            f"there are no quantization rules {name!r}", allowed=", ".join(RULES), hint=nearest(name, RULES)
        )
    return RULES[name]
