"""The strict YAML loader: scalars, positions, refusals, and pydantic's errors in words with file and line."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from leanedge.errors import SettingsError
from leanedge.yaml_file import StrictModel, key_text, load_yaml, parse


class Inner(StrictModel):
    shape: tuple[int, ...] | None = None
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    scale: float = 1.0


class Outer(StrictModel):
    model: str
    rate: float = 0
    clock_hz: int = 0
    inputs: dict[str, Inner] = Field(default_factory=dict)
    regions: list[Inner] = Field(default_factory=list)
    labels: list[str] | str | None = None
    on: bool = False


@pytest.fixture
def refused(tmp_path):
    def check(text: str | bytes) -> str:
        path = tmp_path / "a.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(SettingsError) as caught:
            parse(path, Outer, SettingsError)
        message = str(caught.value)
        assert message.startswith(str(path))
        return message.removeprefix(str(path))

    return check


@pytest.fixture
def accepted(tmp_path):
    def read(text: str) -> Outer:
        path = tmp_path / "a.yaml"
        path.write_text(text)
        return parse(path, Outer, SettingsError)

    return read


def test_numbers_with_exponents_are_numbers(accepted):
    made = accepted("model: a\nrate: 1e-3\nclock_hz: 1.5e9\n")
    assert made.rate == 0.001
    assert made.clock_hz == 1_500_000_000
    assert isinstance(made.clock_hz, int)


def test_hexadecimal_and_underscores(accepted):
    assert accepted("model: a\nclock_hz: 0x4000_0000").clock_hz == 0x4000_0000
    assert accepted("model: a\nclock_hz: 1_000").clock_hz == 1000


@pytest.mark.parametrize("word", ["NO", "no", "on", "off", "yes", "1:30", "2024-01-01", "010", "0o17", "=", "1.2.3"])
def test_words_of_yaml_1_1_stay_text(accepted, word):
    assert accepted(f"model: a\nlabels: [{word}]").labels == [word]


def test_no_is_not_false(refused):
    message = refused("model: a\non: NO")
    assert ":2: on:" in message
    assert "true or false" in message


def test_version_must_be_quoted(refused, accepted):
    assert "in quotes" in refused("model: 3.10")
    assert accepted("model: '3.10'").model == "3.10"


def test_duplicate_key(refused):
    message = refused("model: a\nrate: 1\nmodel: b\n")
    assert message.startswith(":3: key 'model' is given twice, first on line 1")


def test_duplicate_nested_key(refused):
    assert ":4: key 'inputs.x' is given twice, first on line 3" in refused("model: a\ninputs:\n  x: {}\n  x: {}\n")


def test_unknown_key_names_line_and_nearest(refused):
    message = refused("rate: 1\n\nmodle: a\n")
    assert message.startswith(":3: unknown key 'modle'")
    assert "did you mean 'model'?" in message
    assert "allowed: clock_hz, inputs, labels" in message


def test_unknown_nested_key(refused):
    message = refused("model: a\ninputs:\n  x:\n    shpe: [1]\n")
    assert message.startswith(":4: unknown key 'inputs.x.shpe'")
    assert "did you mean 'shape'?" in message
    assert "layout, scale, shape" in message


def test_unknown_key_in_a_list(refused):
    message = refused("model: a\nregions:\n  - scale: 1\n  - scal: 2\n")
    assert message.startswith(":4: unknown key 'regions[1].scal'")


def test_missing_key(refused):
    message = refused("rate: 1")
    assert ":1: key 'model' is missing" in message


def test_wrong_choice(refused):
    message = refused("model: a\ninputs:\n  x:\n    layout: NCWH\n")
    assert message.startswith(':4: inputs.x.layout: "NCWH" is not known')
    assert "NCHW, NHWC" in message
    assert "did you mean 'NCHW'?" in message


def test_wrong_type_in_a_list(refused):
    message = refused("model: a\ninputs:\n  x:\n    shape: [1,\n      q]\n")
    assert message.startswith(':5: inputs.x.shape[1]: "q" does not fit')
    assert "a whole number" in message


def test_union_says_what_all_members_take(refused):
    assert "a list or text" in refused("model: a\nlabels: 3")


def test_several_errors_are_counted(refused):
    message = refused("model: 1\nrate: x\nclock_hz: y\n")
    assert message.startswith(":1: model")
    assert "2 more: rate, clock_hz" in message


@pytest.mark.parametrize("value", [".nan", ".inf"])
def test_not_finite(refused, value):
    assert ":2: rate:" in refused(f"model: a\nrate: {value}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &n 1\nb: *n\n", ":2: aliases"),
        ("a: &n [*n]\n", ":1: aliases"),
        ("a: {b: 1}\n<<: {c: 1}\n", ":2: merge keys"),
        ("a: !!python/name:os.system x", ":1: the tag"),
        ("a: !!set {x}", ":1: the tag"),
        ("? [a]\n: 1", ":1: a key must be one word"),
        ("- 1\n- 2", "holds no keys"),
        ("just text", "holds no keys"),
        ("model: [a", ":1: while parsing"),
        ("model: a\n\trate: 1", ":2: "),
        ("a: 1\n---\nb: 2", ":2: expected a single document"),
        ("[" * 5000, "nested too deep"),
        ("a: !!int x", ":1: 'x' is not a number"),
        ("a: " + "9" * 5000, ":1: "),
        ("model: \x07", "is not YAML"),
        (b"model: \xff\xfe", "is not UTF-8"),
        ("", ":1: key 'model' is missing"),
    ],
)
def test_refused(refused, text, says):
    assert says in refused(text)


def test_unreadable(tmp_path):
    with pytest.raises(SettingsError, match="No such file") as caught:
        parse(tmp_path / "none.yaml", Outer, SettingsError)
    assert str(tmp_path / "none.yaml") in str(caught.value)
    with pytest.raises(SettingsError, match="can't be read"):
        parse(tmp_path, Outer, SettingsError)


def test_positions(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb:\n  - x\n  - c: 2\n")
    data, positions = load_yaml(path)
    assert data == {"a": 1, "b": ["x", {"c": 2}]}
    assert positions == {(): 1, ("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1): 4, ("b", 1, "c"): 4}


def test_key_text():
    assert key_text(("a", 0, "b", "c")) == "a[0].b.c"


_TEXT = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=20)
_SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    _SCALARS | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT.filter(bool), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_TEXT.filter(bool), _VALUES, max_size=4))
def test_json_is_read_as_it_is(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    found, positions = load_yaml(path)
    assert found == data
    assert set(positions) >= {(key,) for key in found}
