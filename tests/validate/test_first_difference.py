"""Where two runs part is found and named: the operator whose weight was altered on one side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import two_sides
from onnx import helper
from two_sides import KINDS, alter_weight, exported, in_process

from leanedge.data.samples import Samples
from leanedge.errors import MissingProgram, ValidationFailed
from leanedge.load import load_model
from leanedge.profile import load_profile
from leanedge.target import Artifact, Pair, Target, Trace, Trial
from leanedge.validate import Emulation, Maker, Proving, emulate, first_difference
from leanedge.validate.difference import _made_by

PAIR = Pair("device", "", "host", "")
WEIGHT_OF = {"first": "w1", "depthwise": "w2", "pointwise": "w3", "head": "w4"}


def difference(target: Target, artifact: Artifact, proving: Proving) -> str:
    """What `emulate` says of the outputs."""
    return emulation(target, artifact, proving).checks[0].detail


def emulation(target: Target, artifact: Artifact, proving: Proving) -> Emulation:
    import leanedge.validate.emulation as room

    patch = pytest.MonkeyPatch()
    patch.setattr(room, "load_target", lambda kind: replace(target, pairs=(PAIR,)))
    with patch.context():
        return emulate(artifact, proving, load_profile("rpi4"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["fp32", "fp16", "w8a8"])
def test_the_altered_operator_is_named_with_its_tensor_and_both_values(kind: str, scheme: str, tmp_path: Path) -> None:
    graph, samples = two_sides.classifier()
    artifact, proving = exported(graph, samples, kind, scheme, tmp_path / "whole")
    makers = {maker.operator: value for value, maker in proving.makers.items()}
    for operator, weight in WEIGHT_OF.items():
        target = in_process(kind, lambda path, name=weight: alter_weight(path, name), tmp_path / operator)  # type: ignore[misc]
        found = emulation(target, artifact, proving).checks[0]
        assert found.passed is False
        assert "values differ, first at" in found.detail
        assert f"the two part in operator {operator} (" in found.detail, found.detail
        assert (
            f"tensor {makers[operator]}" in found.detail
            or f"tensor c{list(WEIGHT_OF).index(operator) + 1}" in found.detail
        )
        here, there = found.detail.split("at (")[-1].split("): ")[1].split(" here, ")
        assert float(here) != float(there.split(" in emulation")[0])


@pytest.mark.parametrize("kind", KINDS)
def test_an_unaltered_run_is_equal(kind: str, tmp_path: Path) -> None:
    graph, samples = two_sides.classifier()
    artifact, proving = exported(graph, samples, kind, "w8a8", tmp_path / "whole")
    found = emulation(in_process(kind, lambda path: None, tmp_path), artifact, proving)
    assert [(check.passed, check.rule) for check in found.checks] == [(True, "bit for bit: integer kernels up to here")]
    assert "logits: equal bit for bit" in found.checks[0].detail


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_that_shows_it_is_used(kind: str, tmp_path: Path) -> None:
    graph, samples = two_sides.classifier()  # on the first sample, all zeros, no weight of the first layer matters
    artifact, proving = exported(graph, samples, kind, "w8a8", tmp_path / "whole")
    words = difference(in_process(kind, lambda path: alter_weight(path, "w1"), tmp_path), artifact, proving)
    assert "operator first (conv)" in words
    assert "sample 0" not in words


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operator", ["left", "right0", "right7"])
def test_in_branches_the_right_one_is_named(kind: str, operator: str, tmp_path: Path) -> None:
    graph, samples = two_sides.two_branches()
    artifact, proving = exported(graph, samples, kind, "w8a8", tmp_path / "whole")
    words = difference(in_process(kind, lambda path: alter_weight(path, f"{operator}_w"), tmp_path), artifact, proving)
    assert f"operator {operator} (conv)" in words, words


@pytest.mark.parametrize("place", [0, 1, 11, 23])
def test_a_deep_model_is_searched_in_few_runs(place: int, tmp_path: Path) -> None:
    graph, samples = two_sides.deep()
    artifact, proving = exported(graph, samples, "linux_onnxruntime", "fp32", tmp_path / "whole")
    target = in_process("linux_onnxruntime", lambda path: alter_weight(path, f"w{place}"), tmp_path)
    runs = []

    def counted(trial: Trial, profile: object) -> Trace:
        runs.append(len(trial.artifacts))
        return target.run(trial, profile)  # type: ignore[arg-type]

    words = difference(replace(target, run=counted), artifact, proving)
    assert f"operator conv{place} (conv)" in words, words
    assert len(runs) <= 2 * 5
    assert max(runs) <= 9


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_streaming_model_the_step_is_found_and_its_state_is_fed(kind: str, tmp_path: Path) -> None:
    graph, samples, state, initial = two_sides.streaming()
    artifact, proving = exported(graph, Samples({}), kind, "fp32", tmp_path / "whole")
    artifact = replace(artifact, state=state)
    proving = replace(proving, samples=samples, initial=initial)
    words = difference(in_process(kind, lambda path: alter_weight(path, "u"), tmp_path), artifact, proving)
    assert "operator keep (linear)" in words, words
    assert "sample 0, step 1, " in words
    fed, kept = graph.constants["w"], graph.constants["u"]
    first_kept = np.tanh(samples.inputs["x"][0, 0] @ fed) @ kept  # what the first step left, at the second
    index, here = words.split("step 1, at (")[1].split("): ")
    assert float(here.split(" here")[0]) == pytest.approx(float(first_kept.flat[int(index.split(",")[1])]), rel=1e-4)


def test_a_difference_that_does_not_come_again_is_said_so(tmp_path: Path) -> None:
    graph, samples = two_sides.classifier()
    artifact, proving = exported(graph, samples, KINDS[0], "w8a8", tmp_path / "whole")
    target = in_process(KINDS[0], lambda path: None, tmp_path)
    here = target.run(Trial({"model": artifact}, "host", samples, "host"), load_profile("rpi4"))
    ours = here.observations["model"].outputs
    theirs = {"logits": np.where(np.arange(24)[:, None, None] == 7, 0.0, ours["logits"]).astype(np.float32)}
    words = first_difference(target, artifact, proving, PAIR, load_profile("rpi4"), (ours, theirs))
    assert words == "sample 7, run alone, gives equal logits on both: the difference depends on what ran before"


def test_the_output_that_differs_at_the_earliest_sample_is_looked_at(tmp_path: Path) -> None:
    nodes = [helper.make_node("Tanh", ["x"], ["a"], name="tanh"), helper.make_node("Exp", ["a"], ["b"], name="exp")]
    model = two_sides.model_of(nodes, {"x": [1, 3]}, {"a": [1, 3], "b": [1, 3]}, [])
    samples = Samples({"x": np.ones((8, 1, 3), np.float32)})
    artifact, proving = exported(load_model(model, {}).graph, samples, KINDS[0], "fp32", tmp_path / "whole")
    ours = {name: np.zeros((8, 1, 3), np.float32) for name in "ab"}
    place = np.arange(8)[:, None, None]
    theirs = {"a": np.where(place > 5, ours["a"], 1), "b": np.where(place == 2, 1, ours["b"])}
    theirs["a"][0:4] = 0
    target = in_process(KINDS[0], lambda path: None, tmp_path)
    words = first_difference(target, artifact, proving, PAIR, load_profile("rpi4"), (ours, theirs))
    assert words.startswith("sample 2, run alone, gives equal b")


def test_a_tensor_belongs_to_the_longest_value_that_it_is_named_for() -> None:
    made = Maker("first", "conv", ("x",)), Maker("second", "conv", ("a",)), Maker("third", "conv", ("a.b",))
    makers = dict(zip(("a", "a.b", "ab"), made, strict=True))
    for tensor, expected in {
        "a": ("a", made[0]),
        "a:q": ("a", made[0]),
        "a.int8": ("a", made[0]),
        "a.b:q": ("a.b", made[1]),
        "ab": ("ab", made[2]),
        "x.int8": ("x", None),
        "axe": ("", None),
    }.items():
        assert _made_by(tensor, makers) == expected


@pytest.mark.parametrize("error", [ValidationFailed("crashed"), MissingProgram("gone")])
def test_a_search_that_fails_leaves_the_failed_check(error: Exception, tmp_path: Path) -> None:
    graph, samples = two_sides.classifier()
    artifact, proving = exported(graph, samples, KINDS[0], "w8a8", tmp_path / "whole")
    target = in_process(KINDS[0], lambda path: alter_weight(path, "w1"), tmp_path)

    def run(trial: Trial, profile: object) -> Trace:
        if len(trial.artifacts) > 1:
            raise error
        return target.run(trial, profile)  # type: ignore[arg-type]

    check = emulation(replace(target, run=run), artifact, proving).checks[0]
    assert check.passed is False
    assert f"the place where they part was not found: {error}" in check.detail


def test_outputs_of_another_shape_fail_and_are_not_scored(tmp_path: Path) -> None:
    graph, samples = two_sides.classifier()
    artifact, proving = exported(graph, samples, KINDS[0], "w8a8", tmp_path / "whole")
    target = in_process(KINDS[0], lambda path: None, tmp_path)

    def run(trial: Trial, profile: object) -> Trace:
        trace = target.run(trial, profile)  # type: ignore[arg-type]
        if trial.where == "host":
            return trace
        seen = trace.observations["model"]
        return replace(
            trace, observations={"model": replace(seen, outputs={"logits": seen.outputs["logits"][..., :4]})}
        )

    found = emulation(replace(target, run=run), artifact, proving)
    assert found.checks[0].passed is False
    assert "float32 (24, 1, 4) where float32 (24, 1, 5) was expected" in found.checks[0].detail
    assert not found.outputs
