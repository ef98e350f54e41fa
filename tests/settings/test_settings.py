"""leanedge.yaml: what is read, where paths point, what is refused and how it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from leanedge.errors import SettingsError, UsageError
from leanedge.settings import InputSettings, MetricSettings, Settings, StateSettings, read_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def write(tmp_path):
    def make(text: str) -> Path:
        path = tmp_path / "leanedge.yaml"
        path.write_text(text)
        return path

    return make


def refusal(path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        read_settings(path)
    return str(caught.value)


def test_every_key(write, tmp_path):
    (tmp_path / "names.txt").write_text("cat\n\ndog\n")
    made = read_settings(
        write(
            "schema: 1\nmodel: net.onnx\ndata: d.npz\ntest_data: my.data:test\n"
            "inputs:\n  x: {shape: [1, 3, 8, 8], layout: NCHW, color: BGR, resize: 9, crop: [8, 8],"
            " mean: [1, 2, 3], std: 2, scale: 1e-2}\n"
            "state:\n  h: hn\n  c: {output: cn, reset: 0.5}\n"
            "labels: names.txt\nmetric: {name: f1, output: y, threshold: 0.3}\ngroups: person\n"
            "target: boards/mine.yaml\nbudget: {latency: 20ms, ram: 64MB}\nmax_drop: 2\n"
            "threads: 2\nseed: 7\noutput: out\n"
        )
    )
    assert made.model == str(tmp_path / "net.onnx")
    assert made.data == str(tmp_path / "d.npz")
    assert made.test_data == "my.data:test"
    assert made.inputs["x"] == InputSettings(
        shape=(1, 3, 8, 8), layout="NCHW", color="BGR", resize=9, crop=(8, 8), mean=(1.0, 2.0, 3.0), std=2.0, scale=0.01
    )
    assert made.input_shapes == {"x": (1, 3, 8, 8)}
    assert made.state == {"h": StateSettings(output="hn"), "c": StateSettings(output="cn", reset=0.5)}
    assert made.state_links == {"h": "hn", "c": "cn"}
    assert made.labels == ("cat", "dog")
    assert made.metric == MetricSettings(name="f1", output="y", threshold=0.3)
    assert made.target == str(tmp_path / "boards/mine.yaml")
    assert made.budget == "latency=20ms,ram=64MB"
    assert (made.groups, made.max_drop, made.threads, made.seed) == ("person", 2, 2, 7)
    assert made.output == str(tmp_path / "out")


def test_defaults(write):
    made = read_settings(write(""))
    assert made == Settings()
    assert (made.seed, made.metric, made.labels, made.inputs) == (0, None, None, {})


def test_a_named_target_is_no_path(write):
    assert read_settings(write("target: rpi4")).target == "rpi4"


def test_labels_that_yaml_1_1_would_turn_false(write):
    assert read_settings(write("labels: [NO, YES, off]")).labels == ("NO", "YES", "off")


def test_frozen(write):
    with pytest.raises(ValueError, match="frozen"):
        read_settings(write("seed: 1")).seed = 2


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("modle: a", 1, ["unknown key 'modle'", "did you mean 'model'?"]),
        ("seed: 1\nmax-drop: 2", 2, ["unknown key 'max-drop'", "did you mean 'max_drop'?"]),
        ("seed: 1\nseed: 2", 2, ["key 'seed' is given twice, first on line 1"]),
        ("seed: -1", 1, ["seed: -1 does not fit", "greater than or equal to 0"]),
        ("seed: '1'", 1, ["seed", "a whole number"]),
        ("max_drop: -1", 1, ["max_drop"]),
        ("max_drop: .nan", 1, ["max_drop", "finite"]),
        ("threads: 0", 1, ["threads"]),
        ("schema: 2", 1, ["this release reads schema 1"]),
        ("model: ''", 1, ["model: is empty"]),
        ("labels: [a, b, a]", 1, ["class 'a' is named twice"]),
        ("labels: [1, 2]", 1, ["labels[0]", "in quotes"]),
        ("labels: none.txt", 1, ["none.txt can't be read", "No such file"]),
        ("inputs:\n  x:\n    colour: RGB", 3, ["unknown key 'inputs.x.colour'", "did you mean 'color'?"]),
        ("inputs:\n  x:\n    color: rgb", 3, ["inputs.x.color", "RGB, BGR, gray"]),
        ("inputs:\n  x:\n    shape: [1, 0]", 3, ["inputs.x.shape[1]: 0", "greater than 0"]),
        ("inputs:\n  x:\n    std: 0", 3, ["inputs.x.std: must be above 0"]),
        ("inputs:\n  x:\n    std: [1, -1, 1]", 3, ["inputs.x.std: must be above 0"]),
        ("state:\n  h: {outptu: a}", 2, ["unknown key 'state.h.outptu'", "did you mean 'output'?"]),
        ("state: {a: o, b: o}", 1, ["two inputs take the same output"]),
        ("metric: {nam: f1}", 1, ["unknown key 'metric.nam'"]),
        ("budget: 5", 1, ["budget"]),
    ],
)
def test_refused(write, text, line, says):
    path = write(text)
    message = refusal(path)
    assert message.startswith(f"{path}:{line}: ")
    for part in says:
        assert part in message


def test_labels_file_that_is_no_text(write, tmp_path):
    (tmp_path / "names.bin").write_bytes(b"\xff\xfe\x00")
    assert "is not text with one class name a line" in refusal(write("labels: names.bin"))


def test_options_over_settings(write):
    made = read_settings(write("seed: 1\nthreads: 2\nmetric: f1\nstate: {a: b}\nlabels: [x, y]"))
    changed = made.with_options(seed=5, threads=None)
    assert (changed.seed, changed.threads, changed.metric, changed.state) == (5, 2, made.metric, made.state)
    assert changed.labels == ("x", "y")
    assert made.seed == 1


def test_option_that_does_not_fit():
    with pytest.raises(UsageError, match="--max-drop: -1 does not fit"):
        Settings().with_options(max_drop=-1)
