from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from made_up_report import make_report

if TYPE_CHECKING:
    from leanedge.report.content import Report


@pytest.fixture
def report() -> Report:
    return make_report()
