"""Which mixed candidates are asked for, and when it stops."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from leanedge.candidates import Candidate, Refusal
from leanedge.evaluate import Evaluation
from leanedge.metric import Score
from leanedge.mix import mixed_candidates
from leanedge.target import load_target

RANKED = ("e", "d", "c", "b", "a", "f")
ORT = Candidate("w8a8", "dense", 0.0, "linux_onnxruntime", "onnxruntime")
LITE = Candidate("w8a8", "dense", 0.0, "linux_tflite", "ai_edge_litert")
BENCH: Any = SimpleNamespace(graph=None, steps=None, max_drop=1.0)


def made(candidate: Candidate, drop: float) -> Evaluation:
    artifact: Any = None
    return Evaluation(candidate, artifact, Score(0.9, 10, None, None), drop, 0.0, {}, {}, {}, False)


@pytest.fixture(autouse=True)
def _ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanedge.mix.rank_operators", lambda *_: [(name, 1.0) for name in RANKED])


def asked(
    results: dict[Candidate, Evaluation | Refusal], drops: dict[int, float | None]
) -> list[tuple[str, tuple[str, ...]]]:
    """(runtime, float operators) in the order asked for; `drops` by the number in float, None is a failure."""
    found = []
    for candidate in mixed_candidates(results, BENCH):
        assert candidate.scheme == "mixed"
        found.append((candidate.runtime, candidate.float_operators))
        drop = drops[len(candidate.float_operators)]
        results[candidate] = Refusal(candidate, "no", "failed") if drop is None else made(candidate, drop)
    return found


def test_the_worst_operators_are_left_in_float_and_halving_finds_the_least_number() -> None:
    found = asked({ORT: made(ORT, 5.0)}, {1: 4.0, 2: 0.5})
    assert found == [("onnxruntime", ("d", "e")), ("onnxruntime", ("e",))]
    assert [len(names) for _, names in asked({ORT: made(ORT, 5.0)}, {2: 3.0, 4: 0.5})] == [2, 4]


def test_it_never_leaves_all_in_float() -> None:
    found = asked({ORT: made(ORT, 5.0)}, {2: 4.0, 4: 4.0})
    assert [len(names) for _, names in found] == [2, 4]
    assert found[-1][1] == ("b", "c", "d", "e")


def test_a_mixed_one_that_fails_counts_as_losing_too_much() -> None:
    assert [len(names) for _, names in asked({ORT: made(ORT, 5.0)}, {2: None, 4: 0.0})] == [2, 4]


def test_integers_that_failed_their_check_count_as_lossy_and_refused_ones_do_not() -> None:
    assert len(asked({ORT: Refusal(ORT, "far", "failed")}, {1: 0.0, 2: 0.0})) == 2
    for status in ("refused", "not_tried"):
        assert asked({ORT: Refusal(ORT, "absent", status)}, {}) == []  # type: ignore[arg-type]


def test_nothing_is_asked_for_where_integers_keep_the_drop() -> None:
    assert asked({ORT: made(ORT, 0.9)}, {}) == []
    cut, dynamic = replace(ORT, pattern="channel", level=0.5), replace(ORT, scheme="w8a8_dynamic")
    assert asked({ORT: made(ORT, 0.9), cut: made(cut, 9.0), dynamic: made(dynamic, 9.0)}, {}) == []


def test_each_runtime_has_its_own() -> None:
    found = asked({ORT: made(ORT, 5.0), LITE: made(LITE, 5.0)}, {1: 0.0, 2: 0.0})
    assert found[1::2] == [("onnxruntime", ("e",)), ("ai_edge_litert", ("e",))]


def test_a_kind_that_can_not_mix_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    only = replace(load_target("linux_onnxruntime"), schemes=("fp32", "w8a8"))
    monkeypatch.setattr("leanedge.mix.load_target", lambda kind: only)
    assert asked({ORT: made(ORT, 5.0)}, {}) == []
