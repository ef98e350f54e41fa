"""Reads YAML files into typed models: a duplicate or unknown key is an error with its file, line and nearest right key.

The scalars are those of YAML 1.2's core schema (yaml.org/spec/1.2.2, section 10.3.2), not PyYAML's 1.1: ``1e-3`` is a
number, and ``NO``, ``on``, ``1:30``, ``2024-01-01`` and ``010`` are text. Keys are always text. A number written with
an exponent that is whole is an int, so that ``1.5e9`` fits a field in hertz. Aliases, merge keys and tags are refused.
"""

from __future__ import annotations

import json
import re
import types
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from leanedge.errors import InputError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["KeyPath", "Positions", "StrictModel", "key_text", "load_yaml", "parse", "parse_text"]

KeyPath = tuple[str | int, ...]
"""Keys and list indices from the top of the file down to a value; ``()`` is the file itself."""

Positions = dict[KeyPath, int]
"""Line, counted from 1, of every key and list item."""

Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """What a YAML file's record derives from: frozen, unknown keys refused, no type coerced, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def load_yaml(path: Path, error_type: type[InputError] = InputError) -> tuple[dict[str, Any], Positions]:
    """Reads one file that holds a mapping; an empty file is an empty mapping.

    Returns:
        Its plain values (dict, list, str, int, float, bool, None), and where each key stands.

    Raises:
        InputError: As `error_type`: not readable, not UTF-8, not YAML, no mapping, or a key given twice.
    """
    return _load_text(_read(path, error_type), str(path), error_type)


def parse(path: Path, model: type[Model], error_type: type[InputError] = InputError) -> Model:
    """Reads the file into `model`, strictly; validators may read ``info.context["folder"]``, the file's folder.

    Raises:
        InputError: As `error_type`: as `load_yaml`, or a value that `model` refuses, with ``file:line``, the key, what
            is allowed and the nearest right key.
    """
    return parse_text(_read(path, error_type), model, error_type, str(path), path.parent)


def parse_text(text: str, model: type[Model], error_type: type[InputError], where: str, folder: Path) -> Model:
    """As `parse`, for text that is already read: `where` stands for the file in messages."""
    data, positions = _load_text(text, where, error_type)
    try:
        # By way of JSON, pydantic's strict mode takes lists for tuples and text for paths, and nothing else.
        return model.model_validate_json(json.dumps(data), strict=True, context={"folder": folder})
    except ValidationError as error:
        raise _readable(error, model, data, positions, where=where, error_type=error_type) from error


def key_text(path: Iterable[str | int]) -> str:
    """A key path as it is shown to people.

    >>> key_text(("memory", 0, "origin"))
    'memory[0].origin'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


# ---- text to plain values


class _Refused(yaml.MarkedYAMLError):
    """Something that YAML allows and LeanEdge does not."""

    def __init__(self, problem: str, at: Any) -> None:
        super().__init__(problem=problem, problem_mark=at.start_mark)


class _Loader(yaml.SafeLoader):
    """Composes nodes with YAML 1.2 core scalars; `_value` makes the values."""

    # PyYAML keeps the table in a class attribute; one of our own replaces the YAML 1.1 rules.
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]  # the stubs call it an instance's

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it untyped
        if isinstance(event, yaml.AliasEvent):
            raise _Refused("aliases (*name) are not allowed: write the value out", event)
        return super().compose_node(parent, index)


_TAG = "tag:yaml.org,2002:"
for _kind, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)", [*list("~nN"), ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    ("int", r"(?:[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F_]+)", list("-+0123456789")),
    (
        "float",
        r"(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(rf"^{_pattern}$"), _first)


def _read(path: Path, error_type: type[InputError]) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise error_type(f"can't be read: {error.strerror}", where=str(path), hint="check the path") from error
    except UnicodeDecodeError as error:
        raise error_type("is not UTF-8 text", where=str(path), allowed="a YAML file") from error


def _load_text(text: str, where: str, error_type: type[InputError]) -> tuple[dict[str, Any], Positions]:
    try:
        root = yaml.compose(text, Loader=_Loader)
        positions: Positions = {(): 1}
        data = {} if root is None else _value(root, (), positions)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}" if mark else where
        raise error_type(" ".join(filter(None, (error.context, error.problem))), where=place) from error
    except yaml.YAMLError as error:
        raise error_type(f"is not YAML: {str(error).splitlines()[0]}", where=where) from error
    except RecursionError as error:
        raise error_type("is nested too deep", where=where) from error
    if not isinstance(data, dict):
        raise error_type("holds no keys", where=where, allowed="a mapping, one `key: value` a line")
    return data, positions


def _value(node: yaml.Node, path: KeyPath, positions: Positions) -> Any:
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _key(key_node)
            here = (*path, key)
            if key in found:
                raise _Refused(
                    f"key {key_text(here)!r} is given twice, first on line {positions[here]}: keep one of them",
                    key_node,
                )
            positions[here] = key_node.start_mark.line + 1
            found[key] = _value(value_node, here, positions)
        return found
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        items = []
        for index, item in enumerate(node.value):
            here = (*path, index)
            positions[here] = item.start_mark.line + 1
            items.append(_value(item, here, positions))
        return items
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    raise _Refused(f"the tag {node.tag!r} is not allowed", node)


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or not node.value:
        raise _Refused("a key must be one word of text", node)
    if node.value == "<<" and node.style is None:
        raise _Refused("merge keys (<<) are not allowed: write the keys out", node)
    return str(node.value)


def _scalar(node: yaml.ScalarNode) -> str | int | float | bool | None:
    text = str(node.value)
    try:
        match node.tag.removeprefix(_TAG):
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text, 16 if text.startswith("0x") else 10)
            case "float":
                number = float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
                whole = "e" in text.lower() and number.is_integer() and abs(number) < 2**53
                return int(number) if whole else number
    except ValueError as error:
        raise _Refused(f"{text!r} is not a number", node) from error
    raise _Refused(f"the tag {node.tag!r} is not allowed", node)


# ---- pydantic's errors in words, with file and line

_WANTED = {
    "string_type": "text (put it in quotes)",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "none_required": "nothing",
    "finite_number": "a finite number",
}


def _readable(
    error: ValidationError,
    model: type[BaseModel],
    data: dict[str, Any],
    positions: Positions,
    *,
    where: str,
    error_type: type[InputError],
) -> InputError:
    """The first thing that is wrong, unknown keys before all else: a typo also makes the right key missing."""
    by_path: dict[KeyPath, list[tuple[Any, list[str]]]] = {}
    for entry in error.errors(include_url=False):
        path, keys = _locate(model, entry["loc"], data)
        by_path.setdefault(path, []).append((entry, keys))
    for path in tuple(by_path):  # a union refuses the whole value as well: the deeper complaint says more
        if any(other[: len(path)] == path and other != path for other in by_path):
            del by_path[path]
    order = sorted(by_path, key=lambda path: (by_path[path][0][0]["type"] != "extra_forbidden", _line(path, positions)))
    path = order[0]
    entry, keys = by_path[path][0]
    place = f"{where}:{_line(path, positions)}"
    rest = [p for p in order[1:] if by_path[p][0][0]["type"] != "missing"]
    more = f"; {len(rest)} more: {', '.join(map(key_text, rest[:3]))}" if rest else ""
    name = key_text(path)
    if entry["type"] == "extra_forbidden":
        word = str(path[-1])
        return error_type(f"unknown key {name!r}{more}", where=place, allowed=", ".join(keys), hint=nearest(word, keys))
    if entry["type"] == "missing":
        return error_type(f"key {name!r} is missing{more}", where=place, hint=f"add the line `{path[-1]}: ...`")
    if entry["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", entry["ctx"]["expected"])
        shown = _shown(entry["input"])
        guess = nearest(str(entry["input"]), choices)
        return error_type(f"{name}: {shown} is not known{more}", where=place, allowed=", ".join(choices), hint=guess)
    if entry["type"] == "value_error":
        return error_type(
            f"{name}: {entry['ctx']['error']}{more}" if name else f"{entry['ctx']['error']}{more}", where=place
        )
    wanted = dict.fromkeys(_WANTED.get(e["type"]) or e["msg"][0].lower() + e["msg"][1:] for e, _ in by_path[path])
    return error_type(f"{name}: {_shown(entry['input'])} does not fit{more}", where=place, allowed=" or ".join(wanted))


def _line(path: KeyPath, positions: Positions) -> int:
    """The line of the key, or of the nearest key above it for one that is missing."""
    while path not in positions:
        path = path[:-1]
    return positions[path]


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _locate(model: type[BaseModel], location: KeyPath, data: Any) -> tuple[KeyPath, list[str]]:
    """The path in the file of a pydantic location, whose parts also name union members, and its parent's keys."""
    path: list[str | int] = []
    kinds: list[Any] = [model]
    keys: list[str] = []
    for number, part in enumerate(location):
        present = part in range(len(data)) if isinstance(data, list) else isinstance(data, dict) and part in data
        missing = isinstance(data, dict) and number == len(location) - 1 and _has_field(kinds, part)
        if not present and not missing:
            continue  # the name of a union's member, no key of the file
        path.append(part)
        keys = sorted({name for kind in kinds if _is_model(kind) for name in _fields(kind)})
        kinds = [below for kind in kinds for below in _below(kind, part)]
        data = data[part] if present else None
    return tuple(path), keys


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _has_field(kinds: Iterable[Any], part: str | int) -> bool:
    return any(_is_model(kind) and part in _fields(kind) for kind in kinds)


def _fields(model: type[BaseModel]) -> Mapping[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _below(kind: Any, part: str | int) -> list[Any]:
    """The types that the value under `part` may have, unions written out."""
    if _is_model(kind):
        return _members(_fields(kind).get(str(part)))
    arguments = [argument for argument in get_args(kind) if argument is not Ellipsis]
    if not arguments:
        return []
    if get_origin(kind) is tuple and isinstance(part, int) and part < len(arguments):
        return _members(arguments[part])
    return _members(arguments[-1])


def _members(kind: Any) -> list[Any]:
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [member for argument in get_args(kind) for member in _members(argument)]
    return [kind]
