"""What was asked for: leanedge.yaml with the options over it, each parsed once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from leanedge.budget import Budget, parse_budget
from leanedge.entry_point import is_entry_point
from leanedge.errors import UsageError, nearest
from leanedge.export.c_source.pixels import stated_pixels
from leanedge.integer_file import is_tflite
from leanedge.plan import Objective, Plan, read_plan
from leanedge.profile import DeviceProfile, load_profile
from leanedge.settings import Settings, read_settings
from leanedge.target import BuildOptions, Optimize

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SETTINGS_FILE", "Request", "find_settings", "read_request"]

SETTINGS_FILE = "leanedge.yaml"
DEFAULT_TARGET = "host"
DEFAULT_MAX_DROP = 1.0


@dataclass(frozen=True)
class Request:
    """A build, parsed.

    Attributes:
        model: Path, entry point, ModelProto or module.
        data: Path, entry point or object.
        test_data: The same, or None.
        settings: leanedge.yaml, or its defaults.
        profile: The device.
        budget: Limits.
        max_drop: Largest loss allowed.
        objective: What is best.
        optimize: What kernels are chosen for, for target kinds that build.
        logits: A final softmax is left out.
        threads: On the device.
        output: Folder to write.
        plan: A plan to build again, or None.
        require_validation: A check that could not be made is a failure.
        seed: Of everything random.
    """

    model: Any
    data: Any
    test_data: Any
    settings: Settings
    profile: DeviceProfile
    budget: Budget
    max_drop: float
    objective: Objective
    optimize: Optimize
    logits: bool
    threads: int
    output: Path
    plan: Plan | None
    require_validation: bool
    seed: int

    def options_for(self, name: str, where: str, sha256: str) -> BuildOptions:
        """For target kinds that build.

        Args:
            name: The model's.
            where: Its file or factory.
            sha256: Of its bytes.
        """
        device = self.profile
        model = where if is_entry_point(where) else Path(where).name  # whose disk it lies on changes no byte
        rules = {name: stated_pixels(entry) for name, entry in self.settings.inputs.items()}
        return BuildOptions(
            self.optimize,
            self.budget.flash_bytes,
            self.budget.ram_bytes,
            name,
            made_from=(
                f"For {device.title}, optimized for {self.optimize}.",
                f"leanedge build {model} --target {device.name} --optimize {self.optimize}",
            ),
            model_sha256=sha256,
            labels=self.settings.labels or (),
            pixels={name: rule for name, rule in rules.items() if rule is not None},
        )


def find_settings(model: Any, settings: str | Path | None) -> Settings:
    """The named leanedge.yaml, else the one in this folder, else the one beside the model file, else the defaults.

    Raises:
        SettingsError: The file is wrong.
        UsageError: The named file is not there.
    """
    if settings is not None:
        return read_settings(Path(settings))
    places = [Path(SETTINGS_FILE)]
    if isinstance(model, (str, Path)) and not is_entry_point(str(model)):
        places.append(Path(model).parent / SETTINGS_FILE)
    for place in places:
        if place.is_file():
            return read_settings(place)
    return Settings()


def read_request(model: Any, options: Mapping[str, Any]) -> Request:
    """Parses the arguments of `leanedge.build`.

    Raises:
        UsageError: An option is wrong or missing.
        ProfileError: The target is unknown or its profile is wrong.
        SettingsError: leanedge.yaml is wrong.
    """
    settings = find_settings(model, options["settings"])
    given = _either(model, settings.model)
    if given is None:
        raise UsageError(
            "no model is given",
            allowed="leanedge build MODEL, or `model:` in leanedge.yaml",
            hint="leanedge init model.onnx --data samples.npz writes one",
        )
    data = _either(options["data"], settings.data)
    as_is = is_tflite(given)
    if options["logits"] and not as_is:
        raise UsageError("only a .tflite file's final softmax can be left out", where="--logits", allowed=".tflite")
    if as_is and options["data"] is not None:
        raise UsageError(
            "a .tflite file is int8 already and takes no data: it is proved equal on made inputs",
            where="--data",
            hint="leave it out, or give the float model",
        )
    if as_is and options["plan"] is not None:
        raise UsageError(
            "a plan chooses patterns and schemes; a .tflite file is int8 already and is built as it is",
            where="--plan",
            hint="leave it out",
        )
    if data is None and not as_is:
        raise UsageError(
            "no data is given: calibration and the choice need samples",
            where="--data",
            allowed="an .npz file, an image folder, idx files, module:function",
            hint="leanedge build MODEL --data samples.npz",
        )
    profile = load_profile(_either(options["target"], settings.target) or DEFAULT_TARGET)
    budget = _either(options["budget"], settings.budget)
    parsed = budget if isinstance(budget, Budget) else parse_budget(budget) if budget is not None else Budget()
    return Request(
        model=given,
        data=data,
        test_data=_either(options["test_data"], settings.test_data),
        settings=settings,
        profile=profile,
        budget=parsed,
        max_drop=_max_drop(_either(options["max_drop"], settings.max_drop)),
        objective=_objective(options["objective"], parsed),
        logits=bool(options["logits"]),
        optimize=_one_of(Optimize, "--optimize", options["optimize"] or "speed"),
        threads=_either(options["threads"], settings.threads) or profile.threads,
        output=Path(_either(options["output"], settings.output) or Path("dist") / profile.name),
        plan=read_plan(Path(options["plan"])) if options["plan"] is not None else None,
        require_validation=bool(options["require_validation"]),
        seed=int(_either(options["seed"], settings.seed) or 0),
    )


def _either(option: Any, setting: Any) -> Any:
    return setting if option is None else option


def _max_drop(value: float | None) -> float:
    if value is None:
        return DEFAULT_MAX_DROP
    if not 0 <= value < float("inf"):
        raise UsageError(f"{value} is not a loss", where="--max-drop", allowed="0 or more")
    return float(value)


def _objective(text: str | None, budget: Budget) -> Objective:
    """By default the least loss that fits where a budget is given, else the fastest within the allowed drop."""
    limited = any(limit is not None for limit in budget.to_dict().values())
    known: Objective = _one_of(Objective, "--objective", text or ("accuracy" if limited else "latency"))
    return known


def _one_of(literal: Any, option: str, text: str) -> Any:
    """The text, if it is one of a Literal's values."""
    names = get_args(literal)
    if text not in names:
        word = option.removeprefix("--")
        raise UsageError(f"unknown {word} {text!r}", where=option, allowed=", ".join(names), hint=nearest(text, names))
    return text
