"""Make workloads and show what they are: `python -m benchmarks.workloads [name...]`.

For each: a leanedge.yaml beside its samples in the cache, and one row with what ONNX Runtime measures in fp32 on the
samples marked `test`. A workload that can't be had here is listed with the reason, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import yaml

from benchmarks.workloads import NAMES, UnavailableWorkload, default_cache, load

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.workloads.workload import Workload

Array = np.ndarray[Any, Any]


def read_samples(workload: Workload, session: onnxruntime.InferenceSession) -> tuple[dict[str, Array], Array, Array]:
    """Model input -> samples in its own dtype, all in memory; `y` (empty when not labelled); the test mask."""
    with np.load(workload.samples) as content:
        data = dict(content)
    state = workload.state or {}
    inputs = [value for value in session.get_inputs() if value.name not in state]
    if len(inputs) == 1 and "x" in data:
        data[inputs[0].name] = data["x"]
    dtypes = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
    return {v.name: data[v.name].astype(dtypes[v.type]) for v in inputs}, data.get("y", np.empty(0)), data["test"]


def run(workload: Workload, session: onnxruntime.InferenceSession, samples: dict[str, Array]) -> list[Array]:
    """Every output, one sample (or one step of a sequence) a call; axis 0 is samples, then steps of a sequence."""
    count = len(next(iter(samples.values())))
    results = []
    for index in range(count):
        sample = {name: array[index] for name, array in samples.items()}
        if workload.state:
            results.append(_run_sequence(workload, session, sample))
        else:
            results.append([out[0] for out in session.run(None, {name: a[None] for name, a in sample.items()})])
    return [np.stack(output) for output in zip(*results, strict=True)]


def _run_sequence(workload: Workload, session: onnxruntime.InferenceSession, sample: dict[str, Array]) -> list[Array]:
    links = workload.state or {}
    shapes = {value.name: value.shape for value in session.get_inputs()}
    carried = {
        name: np.zeros(workload.inputs[name]["shape"] if name in workload.inputs else shapes[name], np.float32)
        for name in links
    }
    names = [value.name for value in session.get_outputs()]
    steps = []
    for step in range(len(next(iter(sample.values())))):
        outputs = session.run(None, {**{name: array[step][None] for name, array in sample.items()}, **carried})
        carried = {name: outputs[names.index(output)] for name, output in links.items()}
        steps.append([out for name, out in zip(names, outputs, strict=True) if name not in links.values()])
    return [np.stack(output) for output in zip(*steps, strict=True)]


def measure(workload: Workload) -> dict[str, str]:
    """The row of the table."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(workload.model), options)
    samples, y, test = read_samples(workload, session)
    outputs = run(workload, session, {name: array[test] for name, array in samples.items()})
    if not all(np.isfinite(output).all() for output in outputs):
        raise SystemExit(f"{workload.name}: the fp32 outputs are not finite")
    metric = "no labels"
    if workload.labelled:
        right = outputs[0].argmax(1) == y[test]
        metric = f"{workload.metric} {right.mean():.4f} ({right.sum()} of {len(right)})"
    if "tflite" in workload.twins:
        metric += f"; tflite twin differs by at most {_twin_difference(workload, samples, outputs, test):.1e}"
    opsets = {item.domain or "ai.onnx": item.version for item in onnx.load(workload.model).opset_import}
    return {
        "name": workload.name,
        "inputs": _signature(session.get_inputs()),
        "outputs": _signature(session.get_outputs()),
        "opset": str(opsets["ai.onnx"]),
        "samples": f"{len(test)} ({test.sum()} test)",
        "model bytes": f"{workload.model.stat().st_size:,}",
        "fp32": metric,
    }


def _twin_difference(workload: Workload, samples: dict[str, Array], outputs: list[Array], test: Array) -> float:
    """Largest difference between the ONNX and the TFLite model over ten test samples, outputs matched by shape."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(workload.twins["tflite"]), num_threads=1)
    (entry,) = interpreter.get_input_details()
    x = next(iter(samples.values()))[test]
    interpreter.resize_tensor_input(entry["index"], (1, *x.shape[1:]))
    interpreter.allocate_tensors()
    worst = 0.0
    for index in range(min(10, len(x))):
        interpreter.set_tensor(entry["index"], x[index : index + 1])
        interpreter.invoke()
        for detail in interpreter.get_output_details():
            value = interpreter.get_tensor(detail["index"])[0]
            # Two outputs have one shape: the nearer is the same one.
            worst = max(
                worst, min(float(np.abs(value - o[index]).max()) for o in outputs if o[index].shape == value.shape)
            )
    return worst


def _signature(values: list[Any]) -> str:
    return ", ".join(f"{v.name} {v.type[7:-1]}[{','.join(str(d) for d in v.shape)}]" for v in values)


def write_settings(workload: Workload, folder: Path) -> Path:
    """A leanedge.yaml for `leanedge build` to be run in `folder`."""
    content: dict[str, Any] = {"model": str(workload.model), "data": str(workload.samples), "metric": workload.metric}
    if workload.state:
        content["state"] = {name: {"output": output} for name, output in workload.state.items()}
    if workload.inputs:
        content["inputs"] = {name: dict(entry) for name, entry in workload.inputs.items()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "leanedge.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def main() -> int:
    """Make, measure and print; 1 when something could not be had."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workloads", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which, of {', '.join(NAMES)}; default: all")
    args = parser.parse_args()
    unknown = set(args.names) - set(NAMES)
    if unknown:
        parser.error(f"no workload {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    cache = default_cache()
    missing = 0
    for name in args.names or NAMES:
        print(f"{name}: making", file=sys.stderr, flush=True)
        try:
            workload = load(name, cache)
        except UnavailableWorkload as reason:
            print(f"{name}\n  not available: {reason}\n", flush=True)
            missing += 1
            continue
        row = measure(workload)
        row |= {
            "notes": workload.notes,
            "licence": workload.licence,
            "settings": str(write_settings(workload, cache / name)),
        }
        print(
            "\n  ".join([row.pop("name"), *(f"{key}: {value}" for key, value in row.items())]), end="\n\n", flush=True
        )
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
