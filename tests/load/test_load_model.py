"""Models of every form: files, entry points, ModelProto; and what is refused, with what to do."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from leanedge.errors import ModelError
from leanedge.graph.run import float_runner
from leanedge.load import load_model


def model(dims=("n", 4)):
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims)) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "small", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def refusal(*arguments, **named) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(*arguments, **named)
    return str(caught.value)


def test_file(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(model(), path)
    for given in (path, str(path)):
        found = load_model(given)
        assert (found.name, found.where) == ("net", str(path))
        assert found.source_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert found.graph.inputs[0].shape == (1, 4)


def test_proto():
    found = load_model(model(("n", "t")), {"x": (1, 7)})
    assert found.name == "small"
    assert found.graph.inputs[0].shape == (1, 7)
    assert found.source_sha256 == load_model(model(("n", "t")), {"x": (7,)}).source_sha256


def test_dynamic_axis_is_refused_by_name(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(model(("n", "t")), path)
    message = refusal(path)
    assert str(path) in message
    assert "input x has a dynamic axis 1 (t)" in message


def test_factory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(model(), tmp_path / "net.onnx")
    (tmp_path / "leanedge_test_factory.py").write_text(
        "import onnx\nprint('imported')\ndef net():\n    print('called')\n    return onnx.load('net.onnx')\n"
        "def broken():\n    raise OSError('no weights')\ndef number():\n    return 3\ndef needs(x):\n    return x\n"
    )
    found = load_model("leanedge_test_factory:net")
    assert (found.name, found.where) == ("net", "leanedge_test_factory:net")
    assert capsys.readouterr() == ("", "imported\ncalled\n")
    assert float_runner(found.graph)({"x": np.float32([[-1, 2, -3, 4]])})["y"].tolist() == [[0, 2, 0, 4]]
    assert "leanedge_test_factory:broken: raised OSError: no weights" in refusal("leanedge_test_factory:broken")
    assert "leanedge_test_factory:number: int is no model" in refusal("leanedge_test_factory:number")
    assert "a function without arguments" in refusal("leanedge_test_factory:needs")
    assert "did you mean 'net'?" in refusal("leanedge_test_factory:nett")
    assert "there is no module 'leanedge_test_nowhere'" in refusal("leanedge_test_nowhere.deep:net")


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.PTH", "a.ckpt", "a.pkl", "a.bin"])
def test_pickles_are_never_opened(tmp_path, name):
    (tmp_path / name).write_bytes(b"anything")
    message = refusal(tmp_path / name)
    assert "hold pickled Python objects, which could run any code, and are never opened" in message
    assert f"torch.load({name!r}, weights_only=True)" in message
    assert "package.module:factory" in message


def test_exported_program_is_not_opened_either(tmp_path):
    (tmp_path / "a.pt2").write_bytes(b"anything")
    message = refusal(tmp_path / "a.pt2")
    assert "never opened" in message
    assert "torch.export.load('a.pt2').module()" in message


def test_other_files(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"anything")
    message = refusal(tmp_path / "a.tflite")
    assert "a .tflite file is int8 already" in message
    assert "leanedge build" in message
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "a.onnx").write_text("no model")
    assert "is not an ONNX model, or is cut short" in refusal(tmp_path / "a.onnx")
    message = refusal(tmp_path / "b.onnx")
    assert "there is no such file" in message
    assert "did you mean 'a.onnx'?" in message
    assert "check the path" in refusal(tmp_path / "none" / "b.onnx")


@pytest.mark.parametrize("given", [None, 3, b"bytes", {"x": 1}])
def test_other_objects(given):
    assert f"{type(given).__name__} is no model" in refusal(given)
