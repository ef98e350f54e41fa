"""Image folders and idx files: preprocessing is stated, never guessed, and is done as stated."""

from __future__ import annotations

import gzip
import re
import struct
import sys

import numpy as np
import pytest
from PIL import Image

import leanedge.data.image_folder
from leanedge.data.idx_file import read_idx
from leanedge.data.load import load_data
from leanedge.errors import DataError, MissingProgram
from leanedge.graph.model import TensorInfo
from leanedge.settings import InputSettings, Settings, StateSettings
from leanedge.yaml_file import parse

STATED = InputSettings(color="RGB", resize=(8, 6), scale=1 / 255, mean=(0.1, 0.2, 0.3), std=0.5)


def info(shape=(1, 3, 8, 6), dtype=np.float32):
    return TensorInfo("x", np.dtype(dtype), shape)


def settings(**changes):
    labels = changes.pop("labels", None)
    return Settings(inputs={"x": STATED.model_copy(update=changes)}, labels=labels)


def refusal(source, made=None, inputs=None) -> str:
    with pytest.raises(DataError) as caught:
        load_data(source, inputs or [info()], made or settings())
    return str(caught.value)


@pytest.fixture
def folder(tmp_path):
    """Two classes of plain colours, 3 and 2 images of different sizes."""
    for name, colours in {"cat": [(255, 0, 0)] * 3, "dog": [(0, 0, 255)] * 2}.items():
        (tmp_path / "set" / name).mkdir(parents=True)
        for index, colour in enumerate(colours):
            Image.new("RGB", (10 + index, 20), colour).save(tmp_path / "set" / name / f"{index}.png")
    return tmp_path / "set"


# ---- folders


def test_folder_by_class(folder):
    found = load_data(folder, [info()], settings())
    assert found.samples.inputs["x"].shape == (5, 1, 3, 8, 6)
    assert found.samples.labels.tolist() == [0, 0, 0, 1, 1]
    assert found.class_names == ("cat", "dog")
    assert found.test is None
    red = found.samples.inputs["x"][0, 0]
    np.testing.assert_allclose(red[:, 0, 0], (np.array([1, 0, 0]) - [0.1, 0.2, 0.3]) / 0.5, rtol=1e-6)


def test_bgr_and_channels_last(folder):
    made = settings(color="BGR", mean=None, std=None, scale=1.0)
    found = load_data(str(folder), [info((1, 8, 6, 3))], made)
    assert found.samples.inputs["x"][0, 0, 0, 0].tolist() == [0, 0, 255]


def test_gray(folder):
    made = settings(color="gray", mean=None, std=None, scale=1.0)
    found = load_data(folder, [info((1, 1, 8, 6))], made)
    assert found.samples.inputs["x"][0, 0, 0, 0, 0] == round(0.299 * 255)


def test_integer_input_takes_pixels(folder):
    made = settings(mean=None, std=None, scale=None)
    found = load_data(folder, [info(dtype=np.uint8)], made)
    assert found.samples.inputs["x"].dtype == np.uint8
    assert found.samples.inputs["x"][0, 0, :, 0, 0].tolist() == [255, 0, 0]


def test_resize_of_the_shorter_side_then_crop(tmp_path):
    (tmp_path / "a").mkdir()
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 40:] = 255
    Image.fromarray(picture).save(tmp_path / "a" / "0.png")
    made = settings(resize=20, crop=(8, 6), mean=None, std=None, scale=1.0)
    values = load_data(tmp_path, [info()], made).samples.inputs["x"][0, 0, 0]
    assert (values[:, :2] == 0).all()
    assert (values[:, 4:] == 255).all()


def test_order_of_classes_is_the_labels(folder):
    found = load_data(folder, [info()], settings(labels=("dog", "cat", "cow")))
    assert found.samples.labels.tolist() == [1, 1, 1, 0, 0]
    assert found.class_names == ("dog", "cat", "cow")


def test_train_and_test_folders(folder, tmp_path):
    (tmp_path / "parts").mkdir()
    folder.rename(tmp_path / "parts" / "train")
    (tmp_path / "parts" / "test").mkdir()
    (tmp_path / "parts" / "test" / "dog").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "parts" / "test" / "dog" / "t.png")
    found = load_data(tmp_path / "parts", [info()], settings())
    assert found.samples.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.test.tolist() == [False] * 5 + [True]


def test_images_without_classes(tmp_path):
    for index in range(3):
        Image.new("RGB", (9, 9)).save(tmp_path / f"{index}.jpg")
    found = load_data(tmp_path, [info()], settings())
    assert len(found.samples) == 3
    assert found.samples.labels is None


def test_upright_by_exif(tmp_path):
    (tmp_path / "a").mkdir()
    image = Image.new("RGB", (16, 12))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    image.save(tmp_path / "a" / "0.png", exif=exif)
    made = settings(resize=None, crop=(16, 12), mean=None, std=None, scale=1.0)
    values = load_data(tmp_path, [info((1, 3, 16, 12))], made).samples.inputs["x"][0, 0, 0]
    assert np.argwhere(values).tolist() == [[0, 11]]


def test_share_is_drawn_when_there_are_too_many(folder, monkeypatch):
    monkeypatch.setattr(leanedge.data.image_folder, "MOST_BYTES", 3 * 3 * 8 * 6 * 4)
    found = load_data(folder, [info()], settings())
    assert len(found.samples) == 3
    assert "3 of 5 images were drawn" in found.notes[0]


# ---- folders that are refused


def test_preprocessing_not_stated_gives_an_example_that_works(folder, tmp_path):
    message = refusal(folder, Settings())
    assert "how pixels become the model's input x is not stated: color, resize or crop, scale, mean or std" in message
    example = message[re.search(r"^inputs:", message, re.MULTILINE).start() :]
    (tmp_path / "leanedge.yaml").write_text(example)
    made = parse(tmp_path / "leanedge.yaml", Settings, DataError)
    assert len(load_data(folder, [info()], made).samples) == 5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"color": None}, "not stated: color"),
        ({"resize": None}, "not stated: resize or crop"),
        ({"mean": None, "std": None, "scale": None}, "not stated: scale, mean or std"),
        ({"resize": (8, 7)}, "is 8 by 7 pixels of 3 channels, the model's input x takes 8 by 6 of 3"),
        ({"color": "gray", "mean": None}, "8 by 6 pixels of 1 channels"),
        ({"mean": (0.1, 0.2)}, "inputs.x.mean has 2 numbers, the input 3 channels"),
        ({"resize": 4, "crop": (8, 6)}, "before the crop of 8 by 6"),
    ],
)
def test_stated_wrongly(folder, changes, says):
    assert says in refusal(folder, settings(**changes))


def test_layout_that_is_not_clear(folder):
    assert "not stated: layout" in refusal(folder, settings(), [info((1, 3, 8, 3))])


def test_model_that_takes_no_images(folder):
    assert "images don't fit the model's input x of shape (1, 10)" in refusal(folder, inputs=[info((1, 10))])
    assert "the model has 2 inputs" in refusal(folder, inputs=[info(), TensorInfo("z", np.dtype(np.float32), (1,))])
    made = Settings(state={"h": StateSettings(output="o")})
    assert "the model has state" in refusal(folder, made, [info(), TensorInfo("h", np.dtype(np.float32), (1,))])


def test_unknown_class(folder):
    message = refusal(folder, settings(labels=("cat", "dogs")))
    assert "the folder 'dog' is no class" in message
    assert "did you mean 'dogs'?" in message


def test_empty_folders(tmp_path):
    assert "holds no images and no idx files" in refusal(tmp_path)
    (tmp_path / "a").mkdir()
    assert "holds no images" in refusal(tmp_path)


def test_damaged_image(folder):
    whole = (folder / "cat" / "1.png").read_bytes()
    (folder / "cat" / "1.png").write_bytes(whole[:40])
    message = refusal(folder)
    assert "1.png: can't be decoded" in message
    (folder / "cat" / "1.png").write_text("no image")
    assert "1.png: can't be decoded" in refusal(folder)


def test_pillow_absent(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingProgram, match="reading images needs Pillow") as caught:
        load_data(folder, [info()], settings())
    assert "pip install 'leanedge[images]'" in str(caught.value)


# ---- idx files


def idx(array: np.ndarray, code=8) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def fashion(tmp_path):
    images = np.arange(6 * 8 * 6, dtype=np.uint8).reshape(6, 8, 6)
    labels = np.arange(6, dtype=np.uint8) % 3
    for prefix, part in (("train", slice(0, 4)), ("t10k", slice(4, 6))):
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[part])))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels[part])))
    return tmp_path


IDX_SETTINGS = Settings(inputs={"x": InputSettings(scale=0.5)})
GRAY = info((1, 1, 8, 6))


def test_idx_folder(fashion):
    found = load_data(fashion, [GRAY], IDX_SETTINGS)
    assert found.samples.inputs["x"].shape == (6, 1, 1, 8, 6)
    assert sorted(found.samples.labels.tolist()) == [0, 0, 1, 1, 2, 2]
    assert found.test.sum() == 2
    train = found.samples.take(np.flatnonzero(~found.test))
    assert train.inputs["x"][1, 0, 0, 0, :3].tolist() == [24, 24.5, 25]


def test_idx_pattern_and_single_file(fashion):
    assert len(load_data(str(fashion / "train-*"), [GRAY], IDX_SETTINGS).samples) == 4
    found = load_data(fashion / "t10k-images-idx3-ubyte.gz", [GRAY], IDX_SETTINGS)
    assert len(found.samples) == 2
    assert found.samples.labels.tolist() == [1, 2]
    assert found.test is None


def test_idx_pixels_are_stated_too(fashion):
    message = refusal(fashion, Settings(), [GRAY])
    assert "scale, mean or std" in message
    assert "color: gray" in message


def test_idx_signals_need_no_preprocessing(tmp_path):
    path = tmp_path / "x-images.idx2"
    path.write_bytes(idx(np.arange(6, dtype=">f4").reshape(3, 2), 13))
    assert load_data(path, [info((1, 2))], Settings()).samples.inputs["x"].reshape(-1).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not an idx file"),
        (b"\0\0\x07\x01", "is not an idx file"),
        (b"hello there", "is not an idx file"),
        (b"\0\0\x08\x03\0\0", "is cut short in its header"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], "says (2, 3) of uint8, 6 bytes, and holds 5"),
        (idx(np.zeros((2, 3), np.uint8)) + b"\0", "and holds 7"),
        (gzip.compress(idx(np.zeros((2, 3), np.uint8)))[:-12], "can't be read"),
        (b"\x1f\x8b" + b"garbage garbage", "can't be read"),
    ],
)
def test_idx_refusals(tmp_path, data, says):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_idx_pairs_that_do_not_match(fashion):
    (fashion / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(9, np.uint8))))
    assert "has 9 labels" in refusal(fashion, IDX_SETTINGS, [GRAY])
    (fashion / "t10k-labels-idx1-ubyte.gz").unlink()
    assert "has no labels file, others have" in refusal(fashion, IDX_SETTINGS, [GRAY])
    (fashion / "t10k-images-idx3-ubyte.gz").unlink()
    (fashion / "train-images-idx3-ubyte.gz").unlink()
    assert "has no idx file of images" in refusal(fashion, IDX_SETTINGS, [GRAY])
    assert "has no idx file of images" in refusal(str(fashion / "val*"), IDX_SETTINGS, [GRAY])
