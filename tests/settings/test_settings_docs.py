"""docs/settings.md and docs/data.md: every key and every metric is there, and every block is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from leanedge.data import sets
from leanedge.errors import SettingsError
from leanedge.metric import METRICS
from leanedge.settings import InputSettings, MetricSettings, Settings, StateSettings, read_settings

DOCS = Path(__file__).parents[2] / "docs"
SETTINGS, DATA = (DOCS / "settings.md").read_text(), (DOCS / "data.md").read_text()


def test_the_table_holds_every_key_and_no_other():
    listed = re.findall(r"^\| `(\w+)` \|", SETTINGS.split("A whole file")[0], re.MULTILINE)
    assert listed == [field.alias or name for name, field in Settings.model_fields.items()]


def test_nested_keys_and_metrics_are_named():
    for model in (InputSettings, StateSettings, MetricSettings):
        for name in model.model_fields:
            assert re.search(rf"\b{name}\b", SETTINGS), name
    for name in METRICS:
        assert f"`{name}`" in SETTINGS


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", SETTINGS, re.DOTALL))
def test_yaml_blocks_are_read(block, tmp_path):
    (tmp_path / "leanedge.yaml").write_text(block)
    assert read_settings(tmp_path / "leanedge.yaml").model_fields_set


def test_the_message_is_the_one_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("leanedge.yaml").write_text("inputs:\n  x:\n    colour: RGB\n")
    with pytest.raises(SettingsError) as caught:
        read_settings(Path("leanedge.yaml"))
    assert "\n".join("    " + line for line in str(caught.value).splitlines()) in SETTINGS


def test_numbers_in_the_text():
    assert f"| 20 % | {sets.CALIBRATION} |" in DATA
    assert f"| 30 % | {sets.SELECTION:,} |" in DATA
    assert f"fewer than {sets.LEAST_FOR_SETS} samples" in DATA
    assert f"Fewer than {sets.LEAST_SAMPLES} are refused" in DATA
    assert sets.SAME_DATA in DATA


def test_python_block_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", DATA, re.DOTALL)
    exec(compile(block, "docs/data.md", "exec"), {})
    import numpy as np

    from leanedge.data.load import load_data
    from leanedge.data.sets import three_sets
    from leanedge.graph.model import TensorInfo

    found = three_sets(load_data("samples.npz", [TensorInfo("x", np.dtype(np.float32), (1, 6, 128))], Settings()), 0)
    assert len(found.calibration) + len(found.selection) + len(found.test) == 300
