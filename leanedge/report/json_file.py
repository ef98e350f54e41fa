"""``report.json``: written strictly, read back into the same types."""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import types
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from leanedge.errors import InputError
from leanedge.figures import Figure
from leanedge.report.content import SCHEMA, Report

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_report", "to_json", "write_json"]


def to_json(report: Report) -> str:
    """The text of report.json: strict JSON (RFC 8259), so no NaN and no infinity."""
    return json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(report: Report, path: Path) -> None:
    """Writes report.json at `path`."""
    path.write_text(to_json(report), encoding="utf-8")


def read_report(path: Path) -> Report:
    """The report that `write_json` wrote.

    Raises:
        InputError: It can't be read, is not a report, or a newer LeanEdge wrote it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise InputError(f"the report can't be read: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        raise InputError(f"this is not JSON: {error}", where=str(path)) from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise InputError("this is not a LeanEdge report: it has no 'schema' number", where=str(path))
    if schema > SCHEMA:
        raise InputError(
            f"the report has schema {schema}, from a newer LeanEdge",
            where=str(path),
            allowed=f"schema {SCHEMA} and older",
            hint="upgrade LeanEdge",
        )
    try:
        report = _build(Report, content, "report")
    except (ValueError, TypeError) as error:
        raise InputError(f"the report is damaged: {error}", where=str(path)) from error
    assert isinstance(report, Report)
    return report


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _build(kind: Any, value: Any, where: str) -> Any:
    """`value` (JSON) as `kind`: a dataclass, tuple[X, ...], Mapping[str, X], Literal, X | Y or a plain type."""
    if kind is Any:
        return value
    if kind is Figure:
        # The types of Figure are not importable at run time, so they are spelled here.
        _need(isinstance(value, dict) and set(value) == {"value", "unit", "how", "detail"}, "a figure", value, where)
        return Figure(value["value"], value["unit"], value["how"], value["detail"])
    if dataclasses.is_dataclass(kind):
        _need(isinstance(value, dict), "an object", value, where)
        hints = get_type_hints(kind)
        names = {each.name for each in dataclasses.fields(kind)}
        required = {
            each.name
            for each in dataclasses.fields(kind)
            if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        }
        if unknown := sorted(set(value) - names):
            raise ValueError(f"{where} has unknown key(s) {', '.join(unknown)}")
        if missing := sorted(required - set(value)):
            raise ValueError(f"{where} lacks {', '.join(missing)}")
        built = {name: _build(hints[name], item, f"{where}.{name}") for name, item in value.items()}
        return kind(**built)  # type: ignore[operator]  # is_dataclass also admits instances
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        _need(isinstance(value, list), "a list", value, where)
        return tuple(_build(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is collections.abc.Mapping:
        _need(isinstance(value, dict), "an object", value, where)
        return {key: _build(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is Literal:
        _need(value in arguments, f"one of {', '.join(arguments)}", value, where)
        return value
    if origin in (Union, types.UnionType):
        for option in arguments:
            try:
                return _build(option, value, where)
            except (ValueError, TypeError) as error:
                last = error
        raise last
    if kind is float:
        _need(isinstance(value, (int, float)) and not isinstance(value, bool), "a number", value, where)
        return value
    _need(type(value) is kind, f"of type {kind.__name__}", value, where)
    return value


def _need(good: bool, wanted: str, value: object, where: str) -> None:
    if not good:
        raise ValueError(f"{where} is {str(value)[:60]!r}, not {wanted}")
