"""Data from Python: iterables of samples or batches, loaders, functions by name; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import leanedge.data.python_source
from leanedge.data.load import load_data
from leanedge.errors import DataError
from leanedge.graph.model import TensorInfo
from leanedge.settings import Settings, StateSettings

X = TensorInfo("x", np.dtype(np.float32), (1, 3, 4))
Z = TensorInfo("z", np.dtype(np.float32), (1, 2))
RNG = np.random.default_rng(0)
ARRAY = RNG.normal(size=(10, 3, 4)).astype(np.float32)
LABELS = np.arange(10) % 3


def load(source, inputs=(X,), settings=None):
    return load_data(source, inputs, settings or Settings())


def refusal(source, inputs=(X,), settings=None) -> str:
    with pytest.raises(DataError) as caught:
        load(source, inputs, settings)
    return str(caught.value)


def check(found):
    assert np.array_equal(found.samples.inputs["x"][:, 0], ARRAY)
    assert found.samples.labels.tolist() == LABELS.tolist()


def test_dict_of_arrays():
    check(load({"x": ARRAY, "y": LABELS}))


def test_generator_of_samples():
    check(load((x, int(y)) for x, y in zip(ARRAY, LABELS, strict=True)))


def test_samples_with_the_model_s_batch_axis():
    check(load((x[None], y) for x, y in zip(ARRAY, LABELS, strict=True)))


def test_batches_with_a_shorter_last_one():
    check(load([(ARRAY[start : start + 4], LABELS[start : start + 4]) for start in range(0, 10, 4)]))


def test_dicts():
    check(load([{"x": x, "y": y} for x, y in zip(ARRAY, LABELS, strict=True)]))
    check(load([{"x": ARRAY[i : i + 5], "y": LABELS[i : i + 5]} for i in (0, 5)]))


def test_dicts_with_group_and_test():
    rows = [
        {"x": x, "y": y, "group": i // 2, "test": i > 7} for i, (x, y) in enumerate(zip(ARRAY, LABELS, strict=True))
    ]
    found = load(rows)
    assert found.samples.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert found.test.sum() == 2


def test_without_labels():
    found = load(list(ARRAY))
    assert found.samples.labels is None
    assert len(found.samples) == 10


def test_two_inputs():
    second = RNG.normal(size=(10, 2)).astype(np.float32)
    found = load([(a, b, y) for a, b, y in zip(ARRAY, second, LABELS, strict=True)], [X, Z])
    assert np.array_equal(found.samples.inputs["z"][:, 0], second)
    check(found)


def test_data_loader():
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    tensors = TensorDataset(torch.tensor(ARRAY, requires_grad=True), torch.tensor(LABELS))
    check(load(DataLoader(tensors, batch_size=4)))


def test_generator_function():
    def rows():
        yield from zip(ARRAY, LABELS, strict=True)

    check(load(rows))


def test_entry_point(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leanedge_test_rows.py").write_text(
        "import numpy as np\ndef rows():\n    return {'x': np.ones((2, 3, 4), np.float32), 'y': np.array([0, 1])}\n"
        "def broken():\n    raise KeyError('lost')\ndef number():\n    return 3\n"
    )
    assert load("leanedge_test_rows:rows").samples.labels.tolist() == [0, 1]
    assert "leanedge_test_rows:broken: raised KeyError: 'lost'" in refusal("leanedge_test_rows:broken")
    assert "gave int" in refusal("leanedge_test_rows:number")
    message = refusal("leanedge_test_rows:row")
    assert "leanedge_test_rows has no function 'row'" in message
    assert "did you mean 'rows'?" in message
    assert "there is no module 'leanedge_test_nothing'" in refusal("leanedge_test_nothing:rows")


def test_entry_point_whose_module_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leanedge_test_fails.py").write_text("1 / 0\n")
    (tmp_path / "leanedge_test_needs.py").write_text("import leanedge_test_absent\n")
    assert "importing leanedge_test_fails failed: ZeroDivisionError" in refusal("leanedge_test_fails:f")
    assert "needs 'leanedge_test_absent', which is not installed" in refusal("leanedge_test_needs:f")


def test_sequences():
    settings = Settings(state={"h": StateSettings(output="hn")})
    inputs = [X, TensorInfo("h", np.dtype(np.float32), (1, 2))]
    sequences = RNG.normal(size=(4, 6, 3, 4)).astype(np.float32)
    each = load([(s, 1) for s in sequences], inputs, settings).samples
    assert each.inputs["x"].shape == (4, 6, 1, 3, 4)
    assert each.labels.tolist() == [1] * 4
    batches = load([sequences[:3], sequences[3:]], inputs, settings).samples
    assert np.array_equal(batches.inputs["x"], each.inputs["x"])
    uneven = [(s[: 5 + i], 1) for i, s in enumerate(sequences[:2])]
    assert "x differs in shape between items" in refusal(uneven, inputs, settings)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (3, "gave int"),
        (ARRAY, "gave ndarray"),
        (None, "gave NoneType"),
        ([], "yielded nothing"),
        ([(ARRAY[0], 1, 2)], "item 0: has 3 parts, the model 1 inputs"),
        ([np.zeros((4, 3))], "item 0: x has the shape (4, 3)"),
        ([{"a": ARRAY[0]}], "item 0: has no 'x'"),
        ([(ARRAY[0], 1), ARRAY[1]], "item 1 has ['x'], others ['x', 'y']"),
        ([(ARRAY[:4], LABELS[:3])], "y has the shape (3,), the batch {4}"),
        ([(ARRAY[0], np.zeros(2)), (ARRAY[0], np.zeros(3))], "y differs in shape between items: (2,), (3,)"),
    ],
)
def test_refused(source, says):
    assert says in refusal(source)


def test_forms_are_named():
    assert "a dict of arrays, or an iterable (DataLoader, generator, list)" in refusal(3)


def test_exception_in_a_generator():
    def rows():
        yield ARRAY[0]
        raise RuntimeError("the disk is gone")

    assert "item 1 raised RuntimeError: the disk is gone" in refusal(rows())


def test_endless_generator_is_bounded(monkeypatch):
    monkeypatch.setattr(leanedge.data.python_source, "MOST_ITEMS", 50)

    def rows():
        while True:
            yield ARRAY[0]

    found = load(rows())
    assert len(found.samples) == 50
    assert "only the first 50 items were taken" in found.notes[0]
