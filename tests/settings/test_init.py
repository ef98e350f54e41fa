"""`leanedge init`: what it writes is read back, and what it can't know stays a comment."""

from __future__ import annotations

import gzip

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from leanedge.errors import DataError, ModelError, OutputError, UsageError
from leanedge.init import initial_settings, write_initial_settings
from leanedge.settings import read_settings


def save(path, inputs, outputs):
    """A model of Identity nodes: only its declared inputs and outputs matter here."""
    nodes = [helper.make_node("Identity", [inputs[min(i, len(inputs) - 1)][0]], [o[0]]) for i, o in enumerate(outputs)]
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in side]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "g", *values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def model(tmp_path):
    return save(tmp_path / "net.onnx", [("x", ["batch", 6, 128])], [("logits", ["batch", 6, 128])])


def test_written_file_is_read_back(tmp_path, model):
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 6, 128), np.float16), y=np.array([0, 1, 2, 1]), spk=np.arange(4))
    path = write_initial_settings(model, tmp_path / "d.npz", tmp_path)
    made = read_settings(path)
    assert made.model == str(tmp_path / "net.onnx")
    assert made.data == str(tmp_path / "d.npz")
    assert (made.schema_version, made.inputs, made.state) == (1, {}, {})
    text = path.read_text()
    assert "model: net.onnx" in text
    assert "#   x: float32 [batch, 6, 128]" in text
    assert "#   spk: int64 [4]" in text
    assert "# groups: spk" in text
    assert "names of the 3 classes 0 to 2" in text
    assert "# test_data:" in text


def test_every_comment_is_a_key_that_is_known(tmp_path, model):
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 6, 128), np.float16), y=np.array([0, 1, 0, 1]))
    path = write_initial_settings(model, tmp_path / "d.npz", tmp_path)
    known = ("test_data:", "groups:", "metric:", "target:", "budget:", "max_drop:", "threads:", "output:")
    lines = [line.removeprefix("# ") if line.startswith(tuple(f"# {key}" for key in known)) else line
             for line in path.read_text().splitlines()]  # fmt: skip
    assert sum(line.startswith(known) for line in lines) == len(known)
    path.write_text("\n".join(lines))
    made = read_settings(path)
    assert (made.target, made.threads, made.max_drop, made.groups) == ("rpi4", 4, 1.0, "person")


def test_dynamic_axes_take_the_data_s_shape(tmp_path):
    model = save(tmp_path / "net.onnx", [("audio in", ["n", 1, "time"])], [("y", ["n", 1, "time"])])
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 1, 99), np.float32))
    made = read_settings(write_initial_settings(model, tmp_path / "d.npz", tmp_path))
    assert made.input_shapes == {"audio in": (1, 1, 99)}


def test_dynamic_axes_without_data_stay_a_comment(tmp_path):
    model = save(tmp_path / "net.onnx", [("x", ["n", 1, "time"])], [("y", ["n", 1, "time"])])
    text = initial_settings(model)
    assert "#  x: {shape: [1, 1, time]}" in text
    assert "# data: samples.npz" in text
    assert read_settings(write_initial_settings(model, None, tmp_path)).inputs == {}


def test_state_is_proposed(tmp_path):
    model = save(tmp_path / "net.onnx", [("x", [1, 8]), ("h", [1, 4])], [("y", [1, 8]), ("hn", [1, 4])])
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 9, 8), np.float32))
    text = initial_settings(model, tmp_path / "d.npz")
    assert "# state:\n#   h: hn" in text


def test_images_get_an_example_of_preprocessing(tmp_path):
    model = save(tmp_path / "net.onnx", [("x", ["n", 3, 32, 48])], [("y", ["n", 3, 32, 48])])
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    path = write_initial_settings(model, tmp_path / "pictures", tmp_path)
    assert read_settings(path).inputs == {}
    text = path.read_text()
    assert "#     resize: [32, 48]" in text
    start = text.index("# inputs:")
    example = "\n".join(line.removeprefix("# ") for line in text[start : text.index("\n\n", start)].splitlines())
    path.write_text(text + "\n" + example)
    assert read_settings(path).inputs["x"].resize == (32, 48)


def test_idx_folder_gets_the_example_too(tmp_path):
    model = save(tmp_path / "net.onnx", [("x", ["n", 1, 28, 28])], [("y", ["n", 1, 28, 28])])
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b""))
    assert "color: gray" in initial_settings(model, tmp_path)


def test_factory_is_not_run():
    text = initial_settings("nowhere.to_be:found", None)
    assert 'model: "nowhere.to_be:found"' in text


def test_refusals(tmp_path, model):
    with pytest.raises(ModelError, match="there is no such file"):
        initial_settings(tmp_path / "none.onnx")
    with pytest.raises(DataError, match="there is no such file"):
        initial_settings(model, tmp_path / "none.npz")
    write_initial_settings(model, None, tmp_path)
    with pytest.raises(UsageError, match="is here already"):
        write_initial_settings(model, None, tmp_path)
    write_initial_settings(model, None, tmp_path, force=True)
    with pytest.raises(OutputError, match="can't be written"):
        write_initial_settings(model, None, tmp_path / "none")
