"""Files: what is read, and the message for each way in which one can be wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from nets import assert_same_outputs, net

from leanedge.errors import ModelError
from leanedge.graph.canonicalise import canonicalise
from leanedge.load.onnx_file import load_onnx

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "(float[N,8] x) => (float[N,5] y) { y = MatMul(x, w) }"


def external(folder: Path, location: str) -> Path:
    """A model whose weight lies in `location`."""
    model = net(TEXT, w=(8, 5))
    tensor = model.graph.initializer[0]
    raw = tensor.raw_data
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    target = folder / location
    if target.resolve().parent.is_dir():
        target.write_bytes(raw)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    model = load_onnx(external(tmp_path, "weights.bin"))
    assert_same_outputs(net(TEXT, w=(8, 5)), canonicalise(model, "test").bytes)


def test_external_data_below_the_model(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert load_onnx(external(tmp_path, "data/weights.bin")).graph.initializer[0].raw_data


@pytest.mark.parametrize("location", ["../weights.bin", "data/../../weights.bin", "/tmp/weights.bin"])
def test_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    model = net(TEXT, w=(8, 5))
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location)
    (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"tensor w points to .*outside the model's folder"):
        load_onnx(folder / "model.onnx")


def test_external_data_through_a_link_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(folder, "weights.bin")
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    (folder / "weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(ModelError, match="outside the model's folder"):
        load_onnx(path)


def test_external_data_missing_or_short(tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin")
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(ModelError):
        canonicalise(load_onnx(path), str(path))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"weights.bin' is missing"):
        load_onnx(path)


@pytest.mark.parametrize("size", [1, 20, 100, -1, -40])
def test_truncated_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(net(TEXT, w=(8, 5)).SerializeToString()[:size])
    with pytest.raises(ModelError, match=str(path)):
        canonicalise(load_onnx(path), str(path))


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, world\n", b"This is not a model, but a longer text.\n" * 50, b"\x89PNG\r\n\x1a\n" + bytes(99)],
)
def test_files_that_are_no_models(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx"):
        load_onnx(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        load_onnx(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="can't be read"):
        load_onnx(tmp_path)


@pytest.mark.parametrize("opset", [1, 7, 10, onnx.defs.onnx_opset_version() + 1])
def test_opsets_out_of_range(tmp_path: Path, opset: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(net("(float[1,8] x) => (float[1,8] y) { y = Relu(x) }", opset).SerializeToString())
    with pytest.raises(ModelError, match=f"opset {opset} can't be handled"):
        load_onnx(path)


@pytest.mark.parametrize("opset", [11, onnx.defs.onnx_opset_version()])
def test_opsets_at_the_ends_of_the_range(tmp_path: Path, opset: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(net("(float[1,8] x) => (float[1,8] y) { y = Relu(x) }", opset).SerializeToString())
    assert load_onnx(path).opset_import[0].version == opset


def test_a_graph_that_reads_what_nobody_makes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(net("(float[1,8] x) => (float[1,8] y) { y = Add(x, nothing) }").SerializeToString())
    with pytest.raises(ModelError, match="not valid ONNX"):
        load_onnx(path)


def test_weights_of_float16_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(
        net(
            "(float16[1,8] x) => (float16[1,8] y) { y = MatMul(x, w) }", w=np.eye(8, dtype=np.float16)
        ).SerializeToString()
    )
    assert canonicalise(load_onnx(path), "test").inputs[0].dtype == np.float16
