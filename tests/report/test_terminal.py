from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from made_up_report import make_report
from rich.console import Console

from leanedge.doctor import Finding
from leanedge.profile import list_profiles, load_profile
from leanedge.report import terminal
from leanedge.report.content import Report, Verdict

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def plain() -> Console:
    return Console(file=io.StringIO(), width=80, highlight=False)


def tty(width: int = 130) -> Console:
    return Console(file=io.StringIO(), width=width, highlight=False, force_terminal=True, no_color=True)


def written(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_steps_are_plain_lines_without_a_terminal() -> None:
    console, clock = plain(), Clock()
    steps = terminal.Steps(console, clock=clock)
    with steps.step("Reading [bold]the[/] model") as step:
        clock.now += 1.25
        step.say("not shown")
        step.done("66 operators")
    with steps.step("Candidates", total=2) as step, steps.step("w8a8") as inner:
        inner.advance()
        step.advance()
    steps.say("a note")
    assert written(console).splitlines() == [
        "Reading [bold]the[/] model: 66 operators, 1.2 s",
        "  w8a8: 0.0 s",
        "Candidates: 0.0 s",
        "a note",
    ]


def test_verbose_steps_say_what_they_are_at() -> None:
    console = plain()
    with terminal.Steps(console, verbose=True, clock=Clock()).step("Validating") as step:
        step.say("emulation")
    assert written(console) == "  emulation\nValidating: 0.0 s\n"


def test_a_long_step_says_where_it_is_now_and_then() -> None:
    console, clock = plain(), Clock()
    with terminal.Steps(console, clock=clock).step("Calibrating", total=100) as step:
        for _ in range(100):
            clock.now += 0.5
            step.advance()
    lines = written(console).splitlines()
    assert lines[0] == "Calibrating: 20 %, about 40 s left"
    assert len(lines) == 5
    assert lines[-1] == "Calibrating: 50.0 s"


@pytest.mark.parametrize("console", [plain(), tty()])
def test_a_step_that_fails_says_so_and_does_not_hide_it(console: Console) -> None:
    steps = terminal.Steps(console, clock=Clock())
    with pytest.raises(KeyboardInterrupt), steps.step("Calibrating"):
        raise KeyboardInterrupt
    assert "stopped after" in written(console)
    with steps.step("Next"):
        pass
    assert "Next" in written(console)


def test_a_terminal_shows_a_bar_and_the_time_left() -> None:
    console = tty()
    with terminal.Steps(console).step("Calibrating", total=4) as step:
        step.advance(2)
        step.say("batch 2")
        assert step._live is not None
        step._live.refresh()
        step.done("4 samples")
    text = written(console)
    assert "Calibrating: batch 2" in text
    assert "s left" in text
    assert text.rstrip().splitlines()[-1].endswith("4 samples")


def test_silent_steps_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    steps = terminal.silent_steps()
    with steps.step("a", total=1) as step:
        step.advance()
        step.say("b")
        step.done("c")
    steps.say("d")
    assert capsys.readouterr() == ("", "")


def test_stdout_is_kept_for_json(capsys: pytest.CaptureFixture[str], report: Report) -> None:
    terminal.print_result(terminal.make_console(json=True), report)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Passed" in captured.err
    terminal.print_result(terminal.make_console(), report)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "Passed" in captured.out


def test_a_poor_encoding_does_not_stop_the_build(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console = terminal.make_console()
    terminal.print_result(console, report)
    console.file.flush()
    assert b"2.3x faster" in raw.getvalue()
    assert b"channel -30 % MACs" in raw.getvalue()


def test_the_result_in_plain_lines(report: Report, tmp_path: Path) -> None:
    console = plain()
    terminal.print_result(console, report, tmp_path)
    text = written(console)
    assert "\x1b" not in text
    assert "\nPassed: 2.3× faster, 3.9× smaller" in text
    assert "\nlatency: 20.2 ms, fp32 46.0 ms, 2.3× faster, predicted by counted instructions" in text
    assert "\nenergy: unavailable: the profile states no power for this load\n" in text
    assert "\nChosen: w8a8, dense, onnxruntime: The fastest of the candidates" in text
    assert "\ncandidate 1: w8a8, dense, onnxruntime; top1 70.7 % measured; latency 20.2 ms predicted;" in text
    assert "and 17 more candidates" in text
    assert "\npassed: outputs, emulator against host: 32 samples, 32 000 values equal (bit for bit)\n" in text
    assert "\nnot checked: on the device" in text
    assert f"\nreport: {tmp_path / 'report.html'}\n" in text


@pytest.mark.parametrize("width", [60, 80, 112, 160])
def test_the_result_in_tables(report: Report, width: int) -> None:
    console = tty(width)
    terminal.print_result(console, report, verbose=True)
    text = written(console)
    assert "Passed" in text
    assert "70.4 %" in text
    assert "predicted" in text
    assert "chosen" in text
    assert "refused" in text
    assert "not checked" in text


def test_when_nothing_fits_each_excess_is_shown() -> None:
    rows = tuple(row for row in make_report().candidates if row.status not in ("chosen", "fits"))
    console = plain()
    terminal.print_result(console, make_report(chosen=None, candidates=rows, verdict=Verdict(False)))
    text = written(console)
    assert "Nothing fits" in text
    assert text.count("\ncandidate ") == len(rows) == 21
    assert "flash over by 4.53 MB" in text
    assert "more candidates" not in text


def test_a_verdict_alone(report: Report) -> None:
    console = plain()
    terminal.print_verdict(console, report.verdict)
    assert written(console).splitlines()[-1] == "Passed: 4 of 4 checks passed; not checked: on the device"


@pytest.mark.parametrize("console", [plain(), tty()])
def test_every_shipped_device_can_be_shown(console: Console) -> None:
    profiles = [load_profile(name) for name in list_profiles()]
    terminal.print_targets(console, profiles)
    text = written(console)
    for profile in profiles:
        assert profile.name in text
        terminal.print_target(console, profile)
    assert profiles[0].cpu.source[:20] in written(console)


@pytest.mark.parametrize("console", [plain(), tty()])
def test_findings_end_with_what_to_do(console: Console) -> None:
    found = Finding("numpy", "2.0", True, "core", "")
    missing = Finding("openvino", "", False, "offers OpenVINO on x86", "pip install 'leanedge[openvino]'")
    terminal.print_findings(console, [found])
    assert "nothing is missing" in written(console)
    terminal.print_findings(console, [found, missing])
    assert "pip install 'leanedge[openvino]'" in written(console)
