"""The shipped examples do what their READMEs say: models load, accuracy holds, people do not mix, files are small."""

from __future__ import annotations

import importlib.util
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SHAPES = {"watch": (6, 128), "fashion": (1, 28, 28)}
STATED = {"watch": (529, 583), "fashion": (1812, 2000)}  # right, of: the README's row for samples.npz
MAX_BYTES = {"model.onnx": 200_000, "samples.npz": 3_000_000}
# fp32 kernels of another processor may move a sample that sits on a decision boundary.
FLIPS = 2

each_example = pytest.mark.parametrize("name", sorted(SHAPES))


def settings(name: str) -> dict[str, Any]:
    return yaml.safe_load((EXAMPLES / name / "leanedge.yaml").read_text())


def samples(name: str) -> dict[str, np.ndarray]:
    with np.load(EXAMPLES / name / settings(name)["data"]) as content:
        return dict(content)


def imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up here
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


def test_every_example_folder_is_tested() -> None:
    assert {path.parent.name for path in EXAMPLES.glob("*/leanedge.yaml")} == set(SHAPES)


@each_example
def test_model_is_valid_onnx_without_traces_of_its_making(name: str) -> None:
    path = EXAMPLES / name / settings(name)["model"]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {o.domain: o.version for o in model.opset_import}[""] >= 17
    assert not re.search(rb"\.py\b|/home/|/root/|site-packages", path.read_bytes())
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert tuple(shape[1:]) == SHAPES[name]
    assert model.graph.input[0].name == "x"


@each_example
def test_stated_accuracy_is_reproduced_on_the_test_mask(name: str) -> None:
    data = samples(name)
    session = onnxruntime.InferenceSession(EXAMPLES / name / settings(name)["model"])
    (logits,) = session.run(None, {"x": data["x"][data["test"]].astype(np.float32)})
    right, count = STATED[name]
    assert len(logits) == count
    assert abs(int((logits.argmax(1) == data["y"][data["test"]]).sum()) - right) <= FLIPS


@each_example
def test_readme_states_the_accuracy_tested_here(name: str) -> None:
    right, count = STATED[name]
    readme = (EXAMPLES / name / "README.md").read_text()
    assert re.search(rf"\|\s*{right:,}\s*\|\s*{count:,}\s*\|", readme)
    assert f"{100 * right / count:.1f} %" in readme


@each_example
def test_samples_are_whole(name: str) -> None:
    data = samples(name)
    n = len(data["y"])
    assert data["x"].shape == (n, *SHAPES[name])
    assert data["x"].dtype == np.float16
    assert np.isfinite(data["x"]).all()
    assert data["test"].dtype == np.bool_
    labels = settings(name)["labels"]
    for part in (data["test"], ~data["test"]):
        assert (np.bincount(data["y"][part], minlength=len(labels)) >= 30).all()
    assert data["y"].max() == len(labels) - 1


def test_nobody_is_in_both_sets() -> None:
    data = samples("watch")
    test, training = (set(data["group"][mask].tolist()) for mask in (data["test"], ~data["test"]))
    assert test == {8, 9, 10}
    assert training == {1, 2, 3, 4, 5, 6, 7}


@each_example
def test_no_test_sample_is_a_training_sample(name: str) -> None:
    data = samples(name)
    seen = {x.tobytes() for x in data["x"][~data["test"]]}
    assert not [i for i, x in enumerate(data["x"][data["test"]]) if x.tobytes() in seen]


@each_example
def test_files_stay_small(name: str) -> None:
    for file, limit in MAX_BYTES.items():
        assert (EXAMPLES / name / file).stat().st_size <= limit


@each_example
def test_data_licence_is_there_and_named(name: str) -> None:
    text = (EXAMPLES / name / "DATA-LICENSE").read_text()
    assert "Copyright (c)" in text
    assert "AS IS" in text
    assert "DATA-LICENSE" in (EXAMPLES / name / "README.md").read_text()


def test_idx_files_are_read_and_others_refused(tmp_path: Path) -> None:
    import gzip

    get_data = imported(EXAMPLES / "fashion" / "get_data.py")
    path = tmp_path / "two-images.gz"
    path.write_bytes(gzip.compress(b"\x00\x00\x08\x03" + np.array([2, 2, 3], ">u4").tobytes() + bytes(range(12))))
    np.testing.assert_array_equal(get_data.read_idx(path), np.arange(12).reshape(2, 2, 3))
    path.write_bytes(gzip.compress(b"\x00\x00\x0d\x01" + np.array([1], ">u4").tobytes() + bytes(4)))
    with pytest.raises(SystemExit, match="not an idx file"):
        get_data.read_idx(path)


def test_images_are_drawn_equally_from_each_class() -> None:
    get_data = imported(EXAMPLES / "fashion" / "get_data.py")
    labels = np.repeat(np.arange(10), [30, *[50] * 9]).astype(np.uint8)
    images = np.arange(len(labels))
    drawn, drawn_labels = get_data.take(images, labels, 200, seed=0)
    assert np.bincount(drawn_labels).tolist() == [20] * 10
    assert len(set(drawn.tolist())) == 200
    np.testing.assert_array_equal(labels[drawn], drawn_labels)


@pytest.fixture(scope="module")
def train() -> Any:
    return imported(EXAMPLES / "watch" / "train.py")


class TestWatchTraining:
    """The parts of examples/watch/train.py that make the samples and the augmentation."""

    def recording(self, train: Any, length: int, label: int = 0) -> Any:
        signal = np.random.default_rng(length).normal(size=(6, length)).astype(np.float32)
        return train.Recording(signal, label, person=label + 1)

    def test_windows_keep_to_their_recording(self, train: Any) -> None:
        recordings = [self.recording(train, 300, 0), self.recording(train, 200, 1)]
        x, y, person = train.windows(recordings, 64)
        assert x.shape == (3 + 2, 6, 128)
        assert y.tolist() == [0, 0, 0, 1, 1]
        assert person.tolist() == [1, 1, 1, 2, 2]
        np.testing.assert_allclose(x[1], recordings[0].signal[:, 64:192], atol=0.5 / train.GRID)

    def test_rotations_are_rotations(self, train: Any) -> None:
        sampler = train.Sampler([self.recording(train, 400)], train.Settings(), 0)
        turn = sampler.rotations(50)
        np.testing.assert_allclose(turn @ turn.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (50, 3, 3)), atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(turn), 1)
        assert np.abs(turn - np.eye(3)).max() > 0.1

    def test_unaugmented_batches_are_windows_of_the_recordings(self, train: Any) -> None:
        plain = train.Settings(batch=4, rotation_deg=1e-9, stretch=0, gain=0, noise=0, mirror=False, mixup=0)
        recordings = [self.recording(train, 200, 0), self.recording(train, 250, 1)]
        x, target = train.Sampler(recordings, plain, 3).batch()
        for window, label in zip(x.numpy(), target.argmax(1).tolist(), strict=True):
            signal = recordings[label].signal
            # Starts lie between samples: the window is the interpolation of two neighbouring ones.
            best = min(
                np.abs(window - (1 - t) * signal[:, i : i + 128] - t * signal[:, i + 1 : i + 129]).max()
                for i in range(signal.shape[1] - 128)
                for t in [fraction(window, signal[:, i : i + 129])]
            )
            assert best < 1e-4

    def test_mirror_is_the_reflection_of_the_x_axis(self, train: Any) -> None:
        plain = {"batch": 64, "rotation_deg": 1e-9, "stretch": 0, "gain": 0, "noise": 0, "mixup": 0}
        signal = np.broadcast_to(np.arange(1, 7, dtype=np.float32)[:, None], (6, 200))
        recordings = [train.Recording(signal, 0, 1)]
        x, _ = train.Sampler(recordings, train.Settings(**plain), 0).batch()
        seen = {tuple(np.round(v).astype(int)) for v in x[:, :, 0].numpy()}
        assert seen == {(1, 2, 3, 4, 5, 6), (-1, 2, 3, 4, -5, -6)}

    def test_data_set_may_not_make_other_objects(self, train: Any, tmp_path: Path) -> None:
        path = tmp_path / "evil.npy"
        np.save(path, np.array({"X": Path("/")}, dtype=object))
        with path.open("rb") as file, pytest.raises(pickle.UnpicklingError, match="only numpy arrays"):
            train._load_pickled_array(file)
        np.save(path, np.array({"X": [np.arange(3.0)]}, dtype=object))
        with path.open("rb") as file:
            assert train._load_pickled_array(file)["X"][0].tolist() == [0, 1, 2]


def fraction(window: np.ndarray, signal: np.ndarray) -> float:
    """The t for which window is nearest to (1 - t) * signal[:, :-1] + t * signal[:, 1:] (least squares)."""
    step = signal[:, 1:] - signal[:, :-1]
    return float(((window - signal[:, :-1]) * step).sum() / (step * step).sum())
