"""What the README and the docs say is there: commands, options, files, links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from leanedge.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("README.md")])


def shown_commands(text: str) -> list[str]:
    """Lines of code blocks that run leanedge."""
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines()]
    return [line for line in lines if line.startswith("leanedge ") and ":" not in line.split()[0]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_shown_parses(page: Path) -> None:
    group = get_command(app)
    for line in shown_commands(page.read_text()):
        words = shlex.split(re.sub(r"[\[\]…]", "", line.split("#")[0]).replace("host|emulator", "host"))[1:]
        if not words or words[0].startswith("-"):
            continue
        command = group.commands.get(words[0])  # type: ignore[attr-defined]
        assert command is not None, f"{page.name}: no command {words[0]} in {line!r}"
        options = {option for parameter in command.params for option in parameter.opts}
        options |= {"--help"}
        for word in words[1:]:
            if word.startswith("-"):
                assert word.split("=")[0] in options, f"{page.name}: {line!r} has no option {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_exit_codes_are_documented() -> None:
    from leanedge import errors

    text = (ROOT / "docs/exit-codes.md").read_text()
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type):
            assert f"| {kind.exit_code} |" in text, name


def test_every_dependency_has_its_line() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    text = (ROOT / "docs/dependencies.md").read_text()
    for requirement in named:
        name = re.split(r"[<>=\[]", requirement)[0]
        if name not in ("leanedge", "build", "hatchling", "pytest-timeout") and not name.startswith("types-"):
            assert re.search(rf"\b{re.escape(name)}\b", text), name


def test_no_device_name_stands_in_code() -> None:
    names = {path.stem for path in (ROOT / "device_profiles").glob("*.yaml")} | {"raspberry", "bcm2711", "bcm2712"}
    # The default of `make demo`, the examples in help texts and messages name a device as a user would.
    allowed = {"leanedge/cli.py", "leanedge/init.py", "leanedge/pipeline.py", "leanedge/__init__.py"}
    for folder in ("leanedge", "targets"):
        for path in (ROOT / folder).rglob("*.py"):
            inside = path.relative_to(ROOT).as_posix()
            if inside in allowed:
                continue
            words = set(re.findall(r"[a-z0-9-]+", path.read_text().lower()))
            assert not words & names, f"{inside}: {sorted(words & names)}"
