"""Arrays fitted to a model: keys, shapes, dtypes, finite values, labels, groups, the test mask; .npz files."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from leanedge.data.fit import cast
from leanedge.data.load import load_data
from leanedge.errors import DataError
from leanedge.graph.model import TensorInfo
from leanedge.settings import InputSettings, Settings, StateSettings

F32 = np.dtype(np.float32)
X = TensorInfo("x", F32, (1, 3, 4))


def info(name="x", shape=(1, 3, 4), dtype=np.float32):
    return TensorInfo(name, np.dtype(dtype), shape)


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def refusal(source, inputs=(X,), settings=None) -> str:
    with pytest.raises(DataError) as caught:
        load_data(source, inputs, settings or Settings())
    return str(caught.value)


# ---- keys


def test_npz_with_everything(tmp_path):
    path = tmp_path / "d.npz"
    x = np.arange(60, dtype=np.float16).reshape(5, 3, 4)
    np.savez(path, x=x, y=np.uint8([0, 1, 2, 1, 0]), test=[0, 0, 0, 1, 1], group=["b", "a", "b", "c", "c"], mean=1.0)
    found = load_data(path, [info("audio")], Settings())
    assert found.samples.inputs["audio"].shape == (5, 1, 3, 4)
    assert found.samples.inputs["audio"].dtype == np.float32
    assert np.array_equal(found.samples.inputs["audio"][:, 0], x)
    assert found.samples.labels.dtype == np.int64
    assert found.samples.groups.tolist() == [1, 0, 1, 2, 2]
    assert found.test.tolist() == [False, False, False, True, True]
    assert found.other_keys == ("mean",)
    assert not found.samples.streaming


def test_inputs_by_name_come_in_the_model_s_order():
    found = load_data({"b": zeros(2, 1), "a": zeros(2, 3, 4)}, [info("a"), info("b", (1, 1))], Settings())
    assert list(found.samples.inputs) == ["a", "b"]


def test_name_goes_before_x():
    found = load_data({"x": zeros(2, 9), "a": np.ones((2, 3, 4), np.float32)}, [info("a")], Settings())
    assert found.samples.inputs["a"].sum() == 24
    assert found.other_keys == ("x",)


def test_missing_key():
    message = refusal({"audoi": zeros(2, 3, 4), "y": zeros(2)}, [info("audio")])
    assert "has no key for the model input 'audio'; its keys are audoi, y" in message
    assert "'audio', or 'x'" in message
    assert "did you mean 'audoi'?" in message


def test_x_is_not_for_several_inputs():
    message = refusal({"x": zeros(2, 3, 4)}, [info("a"), info("b")])
    assert "no key for the model input 'a'" in message
    assert "or 'x'" not in message


# ---- shapes


@pytest.mark.parametrize("shape", [(7, 3, 4), (7, 1, 3, 4)])
def test_shapes_that_fit(shape):
    assert load_data({"x": zeros(*shape)}, [X], Settings()).samples.inputs["x"].shape == (7, 1, 3, 4)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((3, 4), "one sample without its sample axis: x[None]"),
        ((1, 3, 5), "the right inputs.*.shape"),
        ((7, 4, 3), "np.moveaxis(x, -1, 1)"),
        ((7, 12), "x.reshape(len(x), 3, 4)"),
        ((7, 3, 4, 1), "x.reshape(len(x), 3, 4)"),
    ],
)
def test_shapes_that_do_not_fit(shape, says):
    message = refusal({"x": zeros(*shape)})
    assert f"data: x: has the shape {shape}; the model's input x takes (1, 3, 4)" in message
    assert "(n, 3, 4) or (n, 1, 3, 4)" in message
    assert says in message


def test_channels_first_for_a_channels_last_model():
    assert "np.moveaxis(x, 1, -1)" in refusal({"x": zeros(7, 3, 8, 9)}, [info(shape=(1, 8, 9, 3))])


def test_scalar_input_takes_one_number_a_sample_or_one_for_all():
    inputs = [X, info("rate", (), np.int64)]
    each = load_data({"x": zeros(2, 3, 4), "rate": np.array([1, 2])}, inputs, Settings()).samples
    assert [int(sample["rate"]) for sample in each] == [1, 2]
    all_ = load_data({"x": zeros(2, 3, 4), "rate": np.array(16000)}, inputs, Settings()).samples
    assert [int(sample["rate"]) for sample in all_] == [16000, 16000]
    assert all_.inputs["rate"].shape == (2,)


def test_one_number_for_a_larger_input():
    assert "is one number" in refusal({"x": zeros(2, 3, 4), "b": np.array(1.0)}, [X, info("b")])


def test_only_constants():
    assert "there are no samples" in refusal({"x": np.array(1.0)}, [info(shape=())])


def test_different_lengths():
    message = refusal({"a": zeros(5, 3, 4), "b": zeros(4, 3, 4)}, [info("a"), info("b")])
    assert "b has 4 rows, a has 5 samples" in message


def test_no_samples():
    assert "holds no samples" in refusal({"x": zeros(0, 3, 4)})


# ---- dtypes


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.float16([[0.1]]), np.float32),
        (np.float64([[0.5]]), np.float32),
        (np.uint8([[255]]), np.float32),
        (np.int64([[2**24]]), np.float32),
        (np.int64([[-5]]), np.int32),
        (np.float32([[3.0]]), np.int64),
        (np.bool_([[True]]), np.float32),
        (np.float32([[65504]]), np.float16),
    ],
)
def test_casts_without_loss(array, dtype):
    made = cast(array, info(dtype=dtype), "x")
    assert made.dtype == dtype
    assert made.astype(np.float64) == array.astype(np.float64)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.float64([[0.1]]), np.float32),
        (np.float64([[1e300]]), np.float32),
        (np.int64([[2**24 + 1]]), np.float32),
        (np.int64([[2**31]]), np.int32),
        (np.float32([[0.5]]), np.int64),
        (np.float16([[0.5]]), np.int64),
        (np.uint8([[200]]), np.int8),
        (np.int8([[-1]]), np.uint8),
        (np.int64([[-1]]), np.uint64),
        (np.float32([[1e5]]), np.float16),
        (np.float32([[2.0]]), np.bool_),
    ],
)
def test_casts_with_loss_are_refused(array, dtype):
    with pytest.raises(DataError, match=r"would change, the first .* in sample 0") as caught:
        cast(array, info(dtype=dtype), "f: x")
    assert f".astype(np.{np.dtype(dtype)})" in str(caught.value)


@given(hnp.arrays(st.sampled_from([np.int8, np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64]),
                  hnp.array_shapes(min_dims=2, max_dims=2, max_side=4)),
       st.sampled_from([np.int8, np.uint8, np.int32, np.int64, np.float32, np.float64]))  # fmt: skip
def test_cast_never_changes_a_value(array, dtype):
    try:
        made = cast(array, info(dtype=dtype), "x")
    except DataError:
        return
    assert all(int(a) == int(b) if float(a).is_integer() else float(a) == float(b)
               for a, b in zip(array.flat, made.flat, strict=True))  # fmt: skip


def test_text_and_complex_are_refused():
    assert "holds <U1, the model takes float32" in refusal({"x": np.full((2, 3, 4), "a")})
    assert "numbers and bool" in refusal({"x": zeros(2, 3, 4, dtype=complex)})


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "an infinite value"), (-np.inf, "an infinite")])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_not_finite(value, word, dtype):
    x = zeros(9, 3, 4, dtype=dtype)
    x[5, 1, 2] = value
    message = refusal({"x": x})
    assert f"x: sample 5 holds {word}" in message
    x[7] = value
    assert "(and 1 more samples)" in refusal({"x": x})


# ---- pixels


def test_uint8_is_cast_and_said_so():
    found = load_data({"x": np.full((2, 3, 4), 200, np.uint8)}, [X], Settings())
    assert found.samples.inputs["x"].max() == 200
    assert "as it is, 0 to 255" in found.notes[0]


def test_uint8_goes_through_stated_preprocessing():
    settings = Settings(inputs={"x": InputSettings(scale=1 / 255, mean=0.5, std=0.25, layout="NCHW")})
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    found = load_data({"x": pixels}, [info(shape=(1, 3, 4, 5))], settings)
    wanted = (pixels.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(found.samples.inputs["x"][:, 0], wanted, atol=1e-6)
    assert "went through inputs.x" in found.notes[0]
    same = load_data({"x": pixels.transpose(0, 3, 1, 2)}, [info(shape=(1, 3, 4, 5))], settings)
    assert np.array_equal(same.samples.inputs["x"], found.samples.inputs["x"])


def test_float_values_are_the_model_s_own_even_with_preprocessing_stated():
    settings = Settings(inputs={"x": InputSettings(scale=2.0)})
    found = load_data({"x": np.ones((2, 3, 4), np.float32)}, [X], settings)
    assert found.samples.inputs["x"].max() == 1
    assert "inputs.x is for uint8 pixels only" in found.notes[0]


def test_pixels_of_a_streaming_model():
    settings = Settings(state={"h": StateSettings(output="hn")}, inputs={"x": InputSettings(scale=0.5, layout="NHWC")})
    pixels = np.full((2, 6, 4, 5, 1), 10, np.uint8)
    found = load_data({"x": pixels}, [info(shape=(1, 4, 5, 1)), info("h", (1, 2))], settings)
    assert found.samples.inputs["x"].shape == (2, 6, 1, 4, 5, 1)
    assert found.samples.inputs["x"].max() == 5


def test_number_of_channel_constants():
    settings = Settings(inputs={"x": InputSettings(mean=(1.0, 2.0), layout="NCHW")})
    assert "inputs.x.mean has 2 numbers, the input 3 channels" in refusal(
        {"x": zeros(2, 3, 4, 5, dtype=np.uint8)}, [info(shape=(1, 3, 4, 5))], settings
    )


# ---- streaming


STREAM = Settings(state={"h": StateSettings(output="hn")})


@pytest.mark.parametrize("shape", [(5, 7, 3, 4), (5, 7, 1, 3, 4)])
def test_sequences(shape):
    found = load_data({"x": zeros(*shape), "sr": np.array(8)}, [X, info("h", (1, 2)), info("sr", (), np.int64)], STREAM)
    assert found.samples.streaming
    assert found.samples.inputs["x"].shape == (5, 7, 1, 3, 4)
    assert found.samples.inputs["sr"].shape == (5, 7)
    assert "h" not in found.samples.inputs


def test_sequence_refusals():
    message = refusal({"x": zeros(5, 3, 5)}, [X, info("h", (1, 2))], STREAM)
    assert "(n, steps, 3, 4) or (n, steps, 1, 3, 4)" in message
    assert "takes sequences of steps" in message
    inputs = [info("a"), info("b"), info("h", (1, 2))]
    assert "b has 6 steps, a has 7" in refusal({"a": zeros(5, 7, 3, 4), "b": zeros(5, 6, 3, 4)}, inputs, STREAM)


# ---- labels, groups, test


def labelled(y, **settings):
    return load_data({"x": zeros(4, 3, 4), "y": np.array(y)}, [X], Settings(**settings)).samples.labels


def test_labels():
    assert labelled([0, 1, 2, 1]).dtype == np.int64
    assert labelled([True, False, True, False]).tolist() == [1, 0, 1, 0]
    assert labelled([[1], [2], [3], [4]]).shape == (4,)
    assert labelled([0.5, 1, 2, 3]).dtype == np.float64
    assert labelled(np.zeros((4, 2, 2))).shape == (4, 2, 2)
    assert labelled(["b", "a", "b", "b"], labels=("a", "b")).tolist() == [1, 0, 1, 1]
    assert labelled([b"b", b"a", b"b", b"b"], labels=("a", "b")).tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("y", "settings", "says"),
    [
        ([0, 1], {}, "y has 2 rows, x has 4 samples"),
        (3, {}, "y is one value, x has 4 samples"),
        ([0, 1, 2, 0], {"labels": ("a", "b")}, "y: label 2 of sample 2 is out of range (1 such labels)"),
        ([0, -1, -1, 0], {"labels": ("a", "b")}, "y: label -1 of sample 1 is out of range (2 such labels)"),
        ([0, np.nan, 1, 1], {}, "y: sample 1 holds NaN"),
        ([[0, 1], [0, np.inf], [0, 1], [0, 1]], {}, "y: sample 1 holds an infinite value"),
        (["a", "b", "a", "a"], {}, "holds class names, and their order is not known"),
        (["a", "kat", "a", "a"], {"labels": ("a", "cat")}, "label 'kat' of sample 1 is not among the labels"),
        ([1j, 1, 1, 1], {}, "holds complex128"),
    ],
)
def test_label_refusals(y, settings, says):
    message = refusal({"x": zeros(4, 3, 4), "y": np.array(y)}, settings=Settings(**settings))
    assert says in message


def test_label_range_names_what_is_allowed():
    message = refusal({"x": zeros(1, 3, 4), "y": np.array([7])}, settings=Settings(labels=("a", "b")))
    assert "0 to 1, the 2 classes in leanedge.yaml's labels" in message


def test_groups_by_another_key():
    source = {"x": zeros(3, 3, 4), "group": np.arange(3), "person": np.array([5, 5, 9])}
    assert load_data(source, [X], Settings(groups="person")).samples.groups.tolist() == [0, 0, 1]
    assert load_data(source, [X], Settings()).samples.groups.tolist() == [0, 1, 2]
    message = refusal(source, settings=Settings(groups="persn"))
    assert "has no key 'persn', which leanedge.yaml's groups asks for" in message
    assert "did you mean 'person'?" in message


def test_groups_of_two_columns():
    source = {"x": zeros(3, 3, 4), "group": np.array([[1, 2], [1, 3], [1, 2]])}
    assert load_data(source, [X], Settings()).samples.groups.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        ([True] * 4, "marks every sample"),
        ([0, 1, 2, 0], "(n,) bool"),
        ([0.0, 1.0, 0.0, 0.0], "(n,) bool"),
        ([True], "test has 1 rows"),
        ([[True], [False], [True], [True]], "(n,) bool"),
    ],
)
def test_mask_refusals(mask, says):
    assert says in refusal({"x": zeros(4, 3, 4), "test": np.array(mask)})


def test_mask_without_test_samples_is_no_mask():
    assert load_data({"x": zeros(4, 3, 4), "test": np.zeros(4, bool)}, [X], Settings()).test is None


# ---- the file


def test_objects_are_never_unpickled(tmp_path):
    path = tmp_path / "d.npz"

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    np.savez(path, x=zeros(2, 3, 4), evil=np.array([Trap()], dtype=object))
    assert "key 'evil' can't be read" in refusal(path)
    assert not (tmp_path / "sprung").exists()


def test_damaged_files(tmp_path):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=(50, 3, 4)).astype(np.float32))
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        assert "is not an .npz file, or is cut short" in refusal(path)
    path.write_bytes(whole[: len(whole) // 3] + bytes(50) + whole[len(whole) // 3 + 50 :])
    assert "d.npz" in refusal(path)
    path.write_text("hello")
    assert "is not an .npz file" in refusal(path)


def test_foreign_zip(tmp_path):
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "x")
    assert "has no key for the model input 'x'" in refusal(path)


def test_paths(tmp_path):
    assert "there is no such file" in refusal(tmp_path / "none.npz")
    assert "there is no such file" in refusal(str(tmp_path / "none"))
    (tmp_path / "a.csv").write_text("1,2")
    message = refusal(tmp_path / "a.csv")
    assert "its format .csv is not known" in message
    assert ".npz" in message
    np.save(tmp_path / "a.npz.npy", zeros(2, 3, 4))
    (tmp_path / "a.npz.npy").rename(tmp_path / "a.npz")
    assert "is one array, not an .npz file" in refusal(tmp_path / "a.npz")
