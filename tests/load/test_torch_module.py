"""PyTorch modules: exported with batch 1 in eval mode, quietly, and left as they were."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from leanedge.errors import MissingProgram, ModelError
from leanedge.graph.run import float_runner
from leanedge.load import load_model

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
nn = torch.nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop, self.out = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.Linear(8, 4)

    def forward(self, image):
        return self.out(self.drop(torch.relu(self.norm(self.conv(image)))).mean((2, 3)))


class TwoInputs(nn.Module):
    def forward(self, a, b):
        return {"total": a + b, "gap": a - b}


class BranchesOnValues(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else x * 2


class SaysALot(nn.Module):
    def forward(self, x):
        print("hello from forward")  # noqa: T201 - what is tested is that nobody hears it
        return torch.relu(x)


def refusal(module, example) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(module, example_input=example)
    return str(caught.value)


@pytest.fixture(scope="module")
def loaded():
    torch.manual_seed(0)
    net = Net().train()
    net.norm.eval()
    with torch.no_grad():
        net.norm.running_mean.uniform_(-1, 1)
    return net, load_model(net, example_input=torch.randn(4, 3, 9, 9))


def test_same_outputs_with_batch_norm_folded(loaded):
    net, found = loaded
    assert found.name == "Net"
    assert (found.graph.inputs[0].name, found.graph.inputs[0].shape) == ("image", (1, 3, 9, 9))
    assert not {"BatchNormalization", "Dropout"} & {node.op_type for node in found.graph.nodes}
    x = np.random.default_rng(0).normal(size=(1, 3, 9, 9)).astype(np.float32)
    ours = float_runner(found.graph)({"image": x})[found.graph.outputs[0].name]
    modes = [part.training for part in net.modules()]
    net.eval()
    with torch.no_grad():
        np.testing.assert_allclose(ours, net(torch.tensor(x)).numpy(), rtol=1e-4, atol=1e-5)
    for part, mode in zip(net.modules(), modes, strict=True):
        part.training = mode


def test_modes_are_left_as_they_were(loaded):
    net, _ = loaded
    assert net.training
    assert net.drop.training
    assert not net.norm.training


def test_dict_of_inputs_and_quiet(capfd):
    found = load_model(TwoInputs(), example_input={"a": torch.zeros(1, 5), "b": torch.ones(1, 5)})
    assert [info.name for info in found.graph.inputs] == ["a", "b"]
    assert len(found.graph.outputs) == 2
    load_model(SaysALot(), example_input=torch.zeros(1, 3))
    printed = capfd.readouterr()
    assert printed.err == ""
    assert printed.out == ""


def test_axis_0_that_is_no_batch_stays():
    class Pools(nn.Module):
        def forward(self, x):
            return torch.relu(x).mean(0, keepdim=True)

    found = load_model(Pools(), example_input=torch.zeros(6, 5))
    assert found.graph.inputs[0].shape == (6, 5)


def test_factory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leanedge_test_torch.py").write_text(
        "import torch\ndef net():\n    return torch.nn.Linear(5, 2), torch.zeros(1, 5)\n"
        "def bare():\n    return torch.nn.Linear(5, 2)\n"
    )
    found = load_model("leanedge_test_torch:net")
    assert (found.name, found.graph.inputs[0].shape) == ("net", (1, 5))
    with pytest.raises(ModelError, match="needs an example input") as caught:
        load_model("leanedge_test_torch:bare")
    assert "a factory that returns (module, example input)" in str(caught.value)


def test_refusals():
    net = nn.Linear(5, 2).train()
    assert "Linear: a PyTorch module needs an example input" in refusal(net, None)
    assert "the example input holds ndarray" in refusal(net, np.zeros((1, 5), np.float32))
    assert "its forward pass fails on the example input: RuntimeError" in refusal(net, torch.zeros(1, 4))
    assert net.training
    message = refusal(BranchesOnValues(), torch.zeros(1, 4))
    assert "can't be exported by torch.export" in message
    assert "does not branch on tensor values" in message


def test_torch_absent(monkeypatch):
    net = nn.Linear(5, 2)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingProgram, match="loading a PyTorch model needs torch") as caught:
        load_model(net, example_input=3)
    assert "pip install 'leanedge[torch]'" in str(caught.value)
