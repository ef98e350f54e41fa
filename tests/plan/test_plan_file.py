"""plan.json: it comes back as it was, and a wrong one is refused with the key and the nearest right one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_choose import NOWHERE

from leanedge.candidates import Candidate
from leanedge.errors import UsageError
from leanedge.evaluate import Evaluation
from leanedge.metric import Score
from leanedge.plan import plan_of, read_plan


def plan_text() -> str:
    made = Evaluation(
        Candidate("mixed", "channel", 0.5, "linux_tflite", "ai_edge_litert", ("first",)),
        NOWHERE,
        Score(0.9, 100, None, None),
        drop=0.1,
        drop_error=0.1,
        channels={"first": (8, 16)},
        weight_bits={"first": 32, "head": 8},
        activation_bits={"head": 8},
        from_cache=False,
    )
    return plan_of(made, ["first", "clamp", "head"], target="rpi4", model_sha256="m", data_sha256="d", seed=3).to_json()


def test_a_plan_comes_back_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(plan_text())
    plan = read_plan(tmp_path / "plan.json")
    assert plan.to_json() == plan_text()
    assert plan.candidate == Candidate("mixed", "channel", 0.5, "linux_tflite", "ai_edge_litert", ("first",))
    first, clamp, head = plan.operators["first"], plan.operators["clamp"], plan.operators["head"]
    assert (first.weight_bits, first.activation_bits, first.channels, first.channels_before) == (32, 32, 8, 16)
    assert (clamp.weight_bits, clamp.activation_bits, clamp.channels) == (None, 32, None)
    assert (head.weight_bits, head.activation_bits) == (8, 8)
    assert json.loads(plan_text())["schema"] == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema"),
        ({"scheme": "w8a9"}, "scheme"),
        ({"level": 1.0}, "level"),
        ({"level": -0.1}, "level"),
        ({"pattern": "chanel"}, "pattern"),
        ({"seed": "three"}, "seed"),
        ({"sedd": 3}, "did you mean 'seed'"),
        ({"target": None}, "target"),
    ],
)
def test_a_wrong_plan_is_refused_by_key(change: dict[str, object], words: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({**json.loads(plan_text()), **change}, indent=2))
    with pytest.raises(UsageError, match=r"plan\.json") as caught:
        read_plan(tmp_path / "plan.json")
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", plan_text()[:100]])
def test_a_damaged_plan_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UsageError):
        read_plan(tmp_path / "plan.json")


def test_a_missing_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_plan(tmp_path / "plan.json")
