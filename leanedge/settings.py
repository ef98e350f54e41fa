"""leanedge.yaml: everything about one model and its data that the model file does not say, read once into Settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from leanedge.entry_point import is_entry_point
from leanedge.errors import SettingsError, UsageError
from leanedge.yaml_file import StrictModel, parse

__all__ = ["SCHEMA", "InputSettings", "MetricSettings", "Settings", "StateSettings", "read_settings"]

SCHEMA = 1
"""Version of leanedge.yaml that this release reads and `leanedge init` writes."""

Positive = Annotated[int, Field(gt=0)]
Size = Positive | tuple[Positive, Positive]
PerChannel = float | tuple[float, ...]


class InputSettings(StrictModel):
    """What one model input takes: its shape, and how pixels become its values.

    A pixel (0 to 255) becomes ``(pixel * scale - mean) / std``. `mean`, `std` and `scale` are one number, or one for
    each channel in the model's own channel order.

    Attributes:
        shape: Static shape, with or without the batch axis; fixes dynamic axes.
        layout: Where the model has its channels.
        color: The model's channel order; ``gray`` is one channel (ITU-R 601 luma).
        resize: Shorter side, or (height, width); bilinear with anti-aliasing.
        crop: Side, or (height, width), cut from the middle after `resize`.
        mean: Subtracted after `scale`.
        std: Divided by, last.
        scale: Multiplied with, first.
    """

    shape: tuple[Positive, ...] | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    color: Literal["RGB", "BGR", "gray"] | None = None
    resize: Size | None = None
    crop: Size | None = None
    mean: PerChannel | None = None
    std: PerChannel | None = None
    scale: PerChannel | None = None

    @property
    def has_arithmetic(self) -> bool:
        """True when it is stated how pixel values become input values (``scale: 1`` states that they stay)."""
        return self.mean is not None or self.std is not None or self.scale is not None

    @field_validator("std")
    @classmethod
    def _std_divides(cls, value: PerChannel | None) -> PerChannel | None:
        if value is not None and min(value if isinstance(value, tuple) else (value,), default=0) <= 0:
            raise ValueError("must be above 0: values are divided by it")
        return value


class StateSettings(StrictModel):
    """Where a streaming model's state input comes from.

    Attributes:
        output: The output that is fed back on the next step.
        reset: Value of every element before the first step.
    """

    output: str
    reset: float = 0.0


class MetricSettings(StrictModel):
    """How good an output is.

    Attributes:
        name: One of `leanedge.metric.METRICS`, or ``module:function``.
        output: The output it reads; by default the first that fits.
        threshold: For one column: the value above which a sample is of class 1.
        higher_is_better: For a function of your own.
        unit: For a function of your own.
    """

    name: str
    output: str | None = None
    threshold: float = 0.5
    higher_is_better: bool = True
    unit: str = ""


class Settings(StrictModel):
    """The content of leanedge.yaml, frozen; relative paths already joined to the file's folder.

    Attributes:
        schema_version: `SCHEMA`; the key is ``schema``.
        model: Model file, or ``package.module:factory``.
        data: A .npz file, an image folder, idx files, or ``package.module:function``.
        test_data: The test set, when it is not part of `data`.
        inputs: Model input -> its settings.
        state: State input -> where it comes from (streaming models).
        labels: Class names in the order of the model's classes.
        metric: None: chosen by the labels, see `leanedge.metric.resolve_metric`.
        groups: Key of the data that says which samples belong together, in place of ``group``.
        target: Device name or profile file.
        budget: As on the command line: ``latency=20ms,ram=64MB``; or one key for each.
        max_drop: Percentage points for fractional metrics, else relative percent.
        threads: Threads on the device; None: the profile's cores.
        seed: Of every random choice.
        output: Folder of the artifact.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    schema_version: int = Field(default=SCHEMA, alias="schema")
    model: str | None = None
    data: str | None = None
    test_data: str | None = None
    inputs: dict[str, InputSettings] = Field(default_factory=dict)
    state: dict[str, StateSettings] = Field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    metric: MetricSettings | None = None
    groups: str | None = None
    target: str | None = None
    budget: str | None = None
    max_drop: float | None = Field(default=None, ge=0)
    threads: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    output: str | None = None

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes that are stated: what `graph.canonicalise` takes."""
        return {name: entry.shape for name, entry in self.inputs.items() if entry.shape is not None}

    @property
    def state_links(self) -> dict[str, str]:
        """State input -> the output that feeds it."""
        return {name: entry.output for name, entry in self.state.items()}

    def with_options(self, **options: Any) -> Settings:
        """These settings with some replaced, as given on the command line; None leaves one as it is.

        Raises:
            UsageError: A value that the settings don't allow.
        """
        given = {name: value for name, value in options.items() if value is not None}
        try:
            return Settings.model_validate({**{name: getattr(self, name) for name in self.model_fields_set}, **given})
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]).replace("_", "-") if first["loc"] else "an option"
            raise UsageError(f"{first['input']!r} does not fit", where=f"--{name}", allowed=first["msg"]) from error

    @field_validator("schema_version")
    @classmethod
    def _known_schema(cls, value: int) -> int:
        if value != SCHEMA:
            raise ValueError(f"this release reads schema {SCHEMA}; {value} needs another release of leanedge")
        return value

    @field_validator("model", "data", "test_data", "output")
    @classmethod
    def _beside_the_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or info.context is None or is_entry_point(value):
            return value
        if not value:
            raise ValueError("is empty")
        return str(info.context["folder"] / Path(value).expanduser())

    @field_validator("target")
    @classmethod
    def _profile_beside_the_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or info.context is None or not value.endswith((".yaml", ".yml")):
            return value
        return str(info.context["folder"] / Path(value).expanduser())

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_from_file(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return tuple(value) if isinstance(value, list) else value
        path = (info.context["folder"] if info.context else Path()) / Path(value).expanduser()
        try:
            names = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ValueError(
                f"{path} can't be read: {error.strerror}; give a list of class names or such a file"
            ) from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not text with one class name a line") from error
        return tuple(name.strip() for name in names if name.strip())

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and len(set(value)) != len(value):
            twice = next(name for name in value if value.count(name) > 1)
            raise ValueError(f"class {twice!r} is named twice")
        return value

    @field_validator("metric", mode="before")
    @classmethod
    def _metric_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("state", mode="before")
    @classmethod
    def _state_by_name(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: {"output": entry} if isinstance(entry, str) else entry for name, entry in value.items()}

    @field_validator("budget", mode="before")
    @classmethod
    def _budget_as_text(cls, value: Any) -> Any:
        return ",".join(f"{name}={limit}" for name, limit in value.items()) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _state_feeds_back_once(self) -> Settings:
        outputs = [entry.output for entry in self.state.values()]
        if len(set(outputs)) != len(outputs):
            raise ValueError("state: two inputs take the same output")
        return self


def read_settings(path: Path) -> Settings:
    """Reads leanedge.yaml.

    Raises:
        SettingsError: With ``file:line``, the key, what is allowed, and the nearest right key.
    """
    return parse(path, Settings, SettingsError)
