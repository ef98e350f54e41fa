"""Figures, statuses and the verdict in words, the same in the terminal, HTML and Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leanedge.figures import Figure
    from leanedge.report.content import CandidateRow, Check, Chosen, Report, Status, Verdict

__all__ = [
    "FIGURE_TITLES",
    "SCHEME_TITLES",
    "STATUS_WORDS",
    "accuracy_change",
    "change",
    "check_word",
    "checks_sentence",
    "column_title",
    "count",
    "cut",
    "excess",
    "figure",
    "headline",
    "how",
    "how_briefly",
    "interval",
    "limit",
    "loss_limit",
    "one_how",
    "outcome",
    "quantity",
    "round_quantity",
    "sentence",
    "setup",
    "significant",
]

SCHEME_TITLES = {
    "fp32": "32-bit float",
    "fp16": "16-bit float weights, computed in float",
    "w8a8": "8-bit integer weights and activations",
    "w8a8_pt": "8-bit integer weights and activations, one scale a tensor",
    "w8a8_dynamic": "8-bit weights, activations quantized at run time",
    "mixed": "8-bit integer, some operators in float",
}

STATUS_WORDS: dict[Status, str] = {
    "chosen": "chosen",
    "fits": "fits",
    "too_slow": "too slow",
    "too_big": "too big",
    "too_much_energy": "too much energy",
    "too_lossy": "too lossy",
    "refused": "refused",
    "failed": "failed",
    "not_tried": "not tried",
}

FIGURE_TITLES = {
    "accuracy": "accuracy",
    "latency_ms": "latency",
    "flash_bytes": "flash",
    "ram_bytes": "RAM",
    "energy_uj": "energy",
    "runtime_bytes": "runtime, installed",
}

_COMPARATIVES = {"latency_ms": ("faster", "slower"), "energy_uj": ("less", "more")}


def significant(value: float, digits: int = 3) -> str:
    """`value` with that many significant digits, never in exponent form.

    >>> significant(20.4321), significant(1234.5), significant(0.000123456), significant(0.0)
    ('20.4', '1234', '0.000123', '0')
    """
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits}g}")  # first, as 999.9 gains a digit
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{value:.{decimals}f}"


def quantity(value: float, unit: str) -> str:
    """A value with its unit as people write it; KB and MB are 1000-based.

    >>> quantity(3579226, "bytes"), quantity(0.704, "fraction"), quantity(1250.0, "ms"), quantity(812.0, "uJ")
    ('3.58 MB', '70.4 %', '1.25 s', '812 µJ')
    """
    if unit == "fraction":
        return f"{value * 100:.1f} %"
    ladder = {
        "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "B")),
        "ms": ((1e3, "s"), (1.0, "ms"), (1e-3, "µs")),
        "uJ": ((1e6, "J"), (1e3, "mJ"), (1.0, "µJ")),
    }.get(unit)
    if ladder is None:
        return f"{significant(value)} {unit}".rstrip()
    # The step is chosen after rounding, so that 999 999 bytes are 1.00 MB and not 1000 KB.
    rounded = float(f"{value:.3g}")
    step, name = next((each for each in ladder if abs(rounded) >= each[0]), ladder[-1])
    if name == "B":
        return f"{value:.0f} B"
    return f"{significant(value / step)} {name}"


def round_quantity(value: float, unit: str) -> str:
    """A round value, as of a tick or a limit, without trailing zeros.

    >>> round_quantity(30.0, "ms"), round_quantity(0.7, "fraction"), round_quantity(1.5e6, "bytes")
    ('30 ms', '70 %', '1.5 MB')
    """
    return re.sub(r"(\.\d*?)0+(?=\D|$)", lambda match: match[1].rstrip("."), quantity(value, unit))


def loss_limit(max_drop: float, unit: str) -> str:
    """The largest loss of accuracy in words.

    >>> loss_limit(1.0, "fraction"), loss_limit(0.5, "fraction"), loss_limit(2, "ms")
    ('at most 1 point', 'at most 0.5 points', 'at most 2 %')
    """
    word = "%" if unit != "fraction" else "point" if max_drop == 1 else "points"
    return f"at most {max_drop:g} {word}"


def count(number: int | None) -> str:
    """A large count as people write it, "unknown" for None.

    >>> count(300774272), count(950)
    ('301 M', '950')
    """
    if number is None:
        return "unknown"
    for step, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= step:
            return f"{significant(number / step)}{name}"
    return str(number)


def figure(known: Figure | None) -> str:
    """The value of a figure, or the word for not having one."""
    if known is None:
        return "–"
    return "unavailable" if known.value is None else quantity(known.value, known.unit)


def interval(known: Figure | None) -> tuple[float, float] | None:
    """The ends between which a figure is known to lie, in its unit.

    From its detail: ``interval`` [low, high]; ``low_ms`` and ``high_ms`` (or ``_uj``, ``_bytes``); ``spread_ms``, the
    distance of the quartiles, halved to both sides; or a relative ``error``.
    """
    if known is None or known.value is None:
        return None
    detail, value = known.detail, known.value
    suffix = known.unit.lower()
    ends = detail.get("interval", [detail.get(f"low_{suffix}"), detail.get(f"high_{suffix}")])
    spread, error = detail.get(f"spread_{suffix}"), detail.get("error")
    if isinstance(ends, (list, tuple)) and len(ends) == 2 and None not in ends:
        return float(ends[0]), float(ends[1])
    if isinstance(spread, (int, float)):
        return value - spread / 2, value + spread / 2
    if isinstance(error, (int, float)):
        return value * (1 - error), value * (1 + error)
    return None


def how_briefly(known: Figure | None) -> str:
    """The word for how a figure is known, and the few facts that say how far to trust it."""
    if known is None:
        return ""
    detail = known.detail
    if known.value is None:
        return f"unavailable: {detail.get('reason', 'no reason was given')}"
    places = {"host": "on this machine", "this machine": "on this machine", "emulator": "in the emulator"}
    start, parts = [str(known.how)], []
    if detail.get("by"):
        start.append(f"by {detail['by']}")
    if detail.get("where"):
        start.append(places.get(str(detail["where"]), str(detail["where"])))
    if detail.get("n"):
        start.append(f"on {_counted(detail['n'], detail.get('set', ''), 'samples')}")
    if pair := interval(known):
        name = "" if "error" in detail and "interval" not in detail else "95 % interval "
        if f"spread_{known.unit.lower()}" in detail:
            name = "quartiles "
        parts.append(f"{name}{_range(pair, known.unit)}")
    if isinstance(detail.get("error"), (int, float)):
        parts.append(f"typical error {float(detail['error']) * 100:.0f} %")
    parts += [_counted(detail[key], "", key) for key in ("models", "threads", "runs") if detail.get(key)]
    if detail.get("runtime_bytes"):
        parts.append(f"{quantity(detail['runtime_bytes'], 'bytes')} of it the runtime's")
    parts += [str(detail[key]) for key in ("borrowed", "note", "reason") if detail.get(key)]
    if detail.get("cached"):
        parts.append(f"cached from {detail['cached']}")
    return ", ".join([" ".join(start), *parts])


def how(known: Figure | None) -> str:
    """Everything that is known of how a figure is known."""
    if known is None:
        return ""
    rest = "; ".join(
        f"{key.replace('_', ' ')}: {_plain(key, value)}" for key, value in known.detail.items() if value is not None
    )
    return f"{known.how}; {rest}" if rest else known.how


def _counted(number: Any, kind: str, things: str) -> str:
    word = things[:-1] if number == 1 else things
    return f"{number} {kind} {word}" if kind else f"{number} {word}"


def _range(pair: tuple[float, float], unit: str) -> str:
    low, high = (quantity(each, unit) for each in pair)
    suffix = low.rpartition(" ")[2]
    return f"{low.rpartition(' ')[0] if high.endswith(' ' + suffix) and ' ' in low else low} to {high}"


def _plain(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(str(name), each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return (" to " if key == "interval" else ", ").join(_plain(key, each) for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        ends = {"bytes": "bytes", "_ms": "ms", "_uj": "uJ"}
        unit = next((unit for end, unit in ends.items() if key.endswith(end)), "")
        return quantity(value, unit) if unit else str(value) if isinstance(value, int) else significant(value, 4)
    return str(value)


def change(name: str, before: Figure | None, after: Figure | None) -> str:
    """How a cost changed: ``2.3× faster``, ``14 % more``; empty when one side is not known."""
    if before is None or after is None or not before.value or not after.value:
        return ""
    better, worse = _COMPARATIVES.get(name, ("smaller", "larger"))
    ratio = before.value / after.value
    word, ratio = (better, ratio) if ratio >= 1 else (worse, 1 / ratio)
    if ratio < 1.005:
        return "no change"
    if ratio < 1.2:
        # "9 % faster" means 9 % less time, "9 % slower" 9 % more.
        return f"{100 * (1 - 1 / ratio if word == better else ratio - 1):.0f} % {word}"
    return f"{ratio:.1f}× {word}" if ratio < 20 else f"{ratio:.0f}× {word}"


def accuracy_change(before: Figure | None, after: Figure | None, *, higher_is_better: bool) -> str:
    """How the metric changed: in points of a percent, in dB, or in percent of an error; empty when not known."""
    if before is None or after is None or before.value is None or after.value is None:
        return ""
    gain = (after.value - before.value) * (1 if higher_is_better else -1)
    word = "better" if gain > 0 else "worse"
    if after.unit == "fraction":
        return "no change" if abs(gain) < 5e-5 else f"{abs(gain) * 100:.1f} points {word}"
    if after.unit == "dB" or before.value == 0:
        return "no change" if gain == 0 else f"{significant(abs(gain))} {after.unit} {word}".replace("  ", " ")
    share = abs(gain / before.value)
    return "no change" if share < 5e-4 else f"{share * 100:.1f} % {word}"


def one_how(report: Report, name: str) -> str:
    """The word for a column of candidates when all its figures are known in the same way, else nothing."""
    hows = {row.figures[name].how for row in report.candidates if name in row.figures} - {"unavailable"}
    return hows.pop() if len(hows) == 1 else ""


def column_title(report: Report, name: str) -> str:
    """The title of a column of candidates."""
    return report.data.metric if name == "accuracy" else FIGURE_TITLES.get(name, name)


def outcome(row: CandidateRow) -> str:
    """What became of a candidate and why, in one phrase; why one was chosen is told apart."""
    detail = "" if row.status == "chosen" else excess(row) or row.reason
    return f"{STATUS_WORDS[row.status]}: {detail}" if detail else STATUS_WORDS[row.status]


def sentence(text: str) -> str:
    """`text` with a capital and a full stop.

    >>> sentence("the fastest of 3")
    'The fastest of 3.'
    """
    text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def cut(row: CandidateRow | Chosen) -> str:
    """The pattern and how much it removes.

    >>> from leanedge.report.content import Chosen
    >>> cut(Chosen("a", "channel", 0.3, "w8a8", "onnxruntime", ""))
    'channel −30 % MACs'
    """
    return "dense" if row.pattern == "dense" else f"{row.pattern} −{row.level * 100:.0f} % MACs"


def setup(row: CandidateRow | Chosen) -> str:
    """Scheme, pattern and runtime on one line."""
    return f"{row.scheme}, {cut(row)}, {row.runtime}"


def excess(row: CandidateRow) -> str:
    """By how much a candidate is over each limit."""
    parts = []
    for name, over in row.excess.items():
        known = row.figures.get(name)
        unit = known.unit if known else ""
        if name == "accuracy":
            word = "points" if unit == "fraction" else "%"
            parts.append(f"{significant(over, 2)} {word} beyond the loss allowed")
        else:
            parts.append(f"{FIGURE_TITLES.get(name, name)} over by {quantity(over, unit)}")
    return ", ".join(parts)


def limit(name: str, value: float) -> str:
    """A budget's limit in words."""
    unit = (
        "bytes" if name.endswith("_bytes") else "ms" if name.endswith("_ms") else "uJ" if name.endswith("_uj") else ""
    )
    return f"{FIGURE_TITLES.get(name, name)} ≤ {round_quantity(value, unit)}"


def check_word(check: Check) -> str:
    """passed, failed or not checked."""
    return "not checked" if check.passed is None else "passed" if check.passed else "failed"


def checks_sentence(verdict: Verdict) -> str:
    """How the checks went, counted."""
    checks = verdict.checks
    ran = [check for check in checks if check.passed is not None]
    failed = [check.name for check in ran if not check.passed]
    parts = []
    if failed:
        parts.append(f"{len(failed)} of {len(ran)} checks failed: {', '.join(failed)}")
    elif ran:
        parts.append(f"{len(ran)} of {len(ran)} checks passed")
    if skipped := [check.name for check in checks if check.passed is None]:
        parts.append(f"not checked: {', '.join(skipped)}")
    return "; ".join(parts) or "no check was made"


def headline(report: Report) -> tuple[str, str]:
    """The verdict's word, and the sentence that follows it."""
    if report.chosen is None:
        word = "Interrupted" if report.interrupted else "Nothing fits"
        return word, (
            "The build was stopped before any candidate was complete."
            if report.interrupted
            else f"No candidate fits {report.target.title} and the budget. The table says by how much each is over."
        )
    figures = report.figures
    changes: Mapping[str, str] = {
        name: change(name, figures.get(f"{name}_fp32"), figures.get(name))
        for name in ("latency_ms", "flash_bytes", "ram_bytes")
    }
    parts = [changes["latency_ms"], changes["flash_bytes"]]
    if changes["ram_bytes"]:
        parts.append(f"RAM {changes['ram_bytes']}")
    accuracy = accuracy_change(
        figures.get("accuracy_fp32"), figures.get("accuracy"), higher_is_better=report.data.higher_is_better
    )
    if accuracy:
        parts.append(f"{report.data.metric} {'unchanged' if accuracy == 'no change' else accuracy}")
    parts = [part for part in parts if part and part != "no change"]
    if parts:
        sentence = f"{', '.join(parts)}, compared with fp32 on the same device."
    elif report.chosen.scheme == "fp32":
        sentence = "Built as fp32."
    else:
        sentence = f"Built for {report.target.title}."
    word = "Passed" if report.verdict.passed else "Failed"
    if report.interrupted:
        word = f"Interrupted, {word.lower()}"
        sentence = f"The best candidate that was complete: {sentence}"
    return word, sentence[0].upper() + sentence[1:]
