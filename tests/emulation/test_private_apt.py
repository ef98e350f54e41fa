"""Which apt sources are used for another architecture, and what is said where there is no apt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from leanedge.targets._programs.private_apt import (
    SOURCES_VARIABLE,
    check_apt,
    keep_sources,
    own_sources,
    unpack_packages,
)

from leanedge.errors import MissingProgram

if TYPE_CHECKING:
    from pathlib import Path

ONE_LINE = """
# deb http://mirror.example/debian trixie main
deb http://mirror.example/debian trixie main contrib
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian trixie-updates main
deb-src http://mirror.example/debian trixie main
deb http://third.example/apt tool-trixie main
"""
DEB822 = """Types: deb deb-src
# a comment inside a stanza
URIs: http://mirror.example/debian
Suites: trixie trixie-updates other
Components: main
Architectures: amd64
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main

Types: deb
URIs: http://third.example
Suites: nodistro
Components: main
"""


def test_one_line_sources_of_the_release_get_the_architecture() -> None:
    assert keep_sources(ONE_LINE, "arm64", "trixie").splitlines() == [
        "deb [arch=arm64] http://mirror.example/debian trixie main contrib",
        "deb [signed-by=/k.gpg arch=arm64] http://mirror.example/debian trixie-updates main",
    ]


def test_deb822_sources_of_the_release_get_the_architecture_and_keep_their_key() -> None:
    kept = keep_sources(DEB822, "arm64", "trixie")
    assert kept.splitlines() == [
        "Types: deb",
        "Suites: trixie trixie-updates",
        "Architectures: arm64",
        "URIs: http://mirror.example/debian",
        "Components: main",
        "Signed-By: ",
        " -----BEGIN PGP PUBLIC KEY BLOCK-----",
        " .",
        " abc",
    ]


def test_without_a_release_all_sources_are_kept() -> None:
    assert "tool-trixie" in keep_sources(ONE_LINE, "arm64", None)
    assert "nodistro" in keep_sources(DEB822, "arm64", None)


def test_own_sources_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("deb http://ports.example/u noble main\n")
    monkeypatch.setenv(SOURCES_VARIABLE, str(file))
    assert own_sources("arm64") == {"mine.list": "deb [arch=arm64] http://ports.example/u noble main\n"}
    monkeypatch.setenv(SOURCES_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(MissingProgram, match="no such file"):
        own_sources("arm64")


def test_without_apt_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingProgram, match="do this instead"):
        check_apt("do this instead")


def test_without_network_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "dead.list"
    file.write_text(f"deb [trusted=yes] file:{tmp_path}/nothing stable main\n")
    monkeypatch.setenv(SOURCES_VARIABLE, str(file))
    into, work = tmp_path / "into", tmp_path / "work"
    into.mkdir()
    work.mkdir()
    with pytest.raises(MissingProgram, match=r"lists can't be downloaded(.|\n)*do this instead") as caught:
        unpack_packages(("hello",), into, work, architecture="arm64", assume_installed=False, hint="do this instead")
    assert caught.value.exit_code == 5
    assert list(into.iterdir()) == []
