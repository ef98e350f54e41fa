"""What the command line shows. Everything takes the console to write to, so that stdout stays clean for JSON."""

from leanedge.report.terminal.devices import print_target, print_targets
from leanedge.report.terminal.findings import print_findings
from leanedge.report.terminal.inspection import print_inspection
from leanedge.report.terminal.outcomes import print_outcomes
from leanedge.report.terminal.result import print_result, print_verdict
from leanedge.report.terminal.steps import RunningStep, Steps, make_console, silent_steps

__all__ = [
    "RunningStep",
    "Steps",
    "make_console",
    "print_findings",
    "print_inspection",
    "print_outcomes",
    "print_result",
    "print_target",
    "print_targets",
    "print_verdict",
    "silent_steps",
]
