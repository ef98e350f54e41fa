"""Packages of the system's own apt sources, downloaded and unpacked without root rights, for any architecture.

A private apt state (lists, status, archives) stands beside the system's, which is only read: its sources, keyrings and
the ``Acquire`` part of its configuration (proxies, certificates). Nothing is installed; packages are unpacked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from leanedge.errors import MissingProgram

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SOURCES_VARIABLE", "check_apt", "keep_sources", "own_sources", "unpack_packages"]

SOURCES_VARIABLE = "LEANEDGE_ARM64_SOURCES"
"""A file of apt sources (one-line or deb822) to use instead of the system's."""

_PROGRAMS = ("apt-get", "apt-config", "dpkg", "dpkg-deb")


def check_apt(hint: str) -> None:
    """Raises MissingProgram with `hint` where apt or dpkg is not there."""
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            raise MissingProgram(
                f"{program} is not on PATH (this machine is not a Debian or Ubuntu)", where=program, hint=hint
            )


def unpack_packages(
    names: Sequence[str], into: Path, work: Path, *, architecture: str, assume_installed: bool, hint: str
) -> tuple[str, ...]:
    """Unpacks packages and what they depend on into a folder.

    Args:
        names: Package names.
        into: An existing folder.
        work: An empty folder for apt's private state; the caller removes it.
        architecture: Debian's name for it (``arm64``, ``amd64``).
        assume_installed: Whether packages that this system has already are left out (only for its own architecture).
        hint: What a user can do instead when this fails.

    Returns:
        The unpacked files' names (``name_version_arch.deb``), sorted.

    Raises:
        MissingProgram: apt is absent, the network is, or no source has the packages for that architecture.
    """
    check_apt(hint)
    _write_private_root(work, architecture, assume_installed)
    environment = {
        **os.environ,
        "APT_CONFIG": str(work / "apt.conf"),
        "LC_ALL": "C",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    _run(["apt-get", "-q", "update"], environment, f"the {architecture} package lists can't be downloaded", hint)
    _run(
        ["apt-get", "-y", "-q", "--download-only", "install", *names],
        environment,
        f"the {architecture} packages {', '.join(names)} can't be downloaded",
        hint,
    )
    archives = sorted((work / "cache/archives").glob("*.deb"))
    for archive in archives:
        _run(["dpkg-deb", "-x", str(archive), str(into)], environment, f"{archive.name} can't be unpacked", hint)
    return tuple(archive.name for archive in archives)


def own_sources(architecture: str) -> dict[str, str]:
    """The sources to use: file name -> text, each with its architecture set to `architecture`.

    Taken from the file that LEANEDGE_ARM64_SOURCES names (for arm64), else from the system's apt configuration, of
    which only entries of the running release are kept (a third party's sources have other suites).
    """
    override = os.environ.get(SOURCES_VARIABLE)
    if override and architecture == "arm64":
        files = [Path(override)]
        if not files[0].is_file():
            raise MissingProgram(
                "no such file", where=f"{SOURCES_VARIABLE}={override}", hint="name a file of apt sources, or unset it"
            )
        codename = None
    else:
        etc = Path("/etc/apt")
        files = [
            etc / "sources.list",
            *sorted(etc.glob("sources.list.d/*.list")),
            *sorted(etc.glob("sources.list.d/*.sources")),
        ]
        codename = _codename()
    texts = {file: file.read_text(encoding="utf-8") for file in files if file.is_file()}
    # Where no suite is named after the release (but `stable`, say), nothing tells them apart: all are kept.
    for release in (codename, None):
        kept = {file: keep_sources(text, architecture, release) for file, text in texts.items()}
        if any(kept.values()):
            break
    return {
        f"{file.stem}{'.sources' if _is_deb822(texts[file]) else '.list'}": text for file, text in kept.items() if text
    }


def keep_sources(text: str, architecture: str, codename: str | None) -> str:
    """The binary sources of a sources file (one-line or deb822) that belong to a release, set to an architecture.

    Args:
        text: The file's text.
        architecture: Debian's name of the architecture that each entry gets instead of its own.
        codename: Only suites of this release are kept (``x``, ``x-updates``, ``x-security``); None keeps all.
    """
    return (_deb822 if _is_deb822(text) else _one_line)(text, architecture, codename)


def _is_deb822(text: str) -> bool:
    return re.search(r"(?mi)^types:", text) is not None


def _codename() -> str | None:
    release = Path("/etc/os-release")
    match = re.search(r'(?m)^VERSION_CODENAME="?([\w-]+)"?$', release.read_text()) if release.is_file() else None
    return match.group(1) if match else None


def _of_release(suite: str, codename: str | None) -> bool:
    return codename is None or re.split("[-/]", suite, maxsplit=1)[0] == codename


def _one_line(text: str, architecture: str, codename: str | None) -> str:
    kept = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*(.*)", line)
        if not match or not _of_release(match.group(3), codename):
            continue
        options = [option for option in (match.group(1) or "").split() if not option.startswith(("arch=", "arch-"))]
        options.append(f"arch={architecture}")
        kept.append(f"deb [{' '.join(options)}] {match.group(2)} {match.group(3)} {match.group(4)}")
    return "".join(line + "\n" for line in kept)


def _deb822(text: str, architecture: str, codename: str | None) -> str:
    stanzas = []
    # Comment lines may stand anywhere, also inside a field; an empty line ends a stanza.
    clean = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", clean):
        # A field goes on over lines that start with white space (an embedded key does).
        fields = re.findall(r"(?m)^([A-Za-z0-9-]+):[ \t]*((?:.*)(?:\n[ \t].*)*)", stanza)
        values = {name.lower(): value for name, value in fields}
        if "deb" not in values.get("types", "").split() or values.get("enabled", "yes").strip().lower() in {
            "no",
            "false",
        }:
            continue
        suites = [suite for suite in values["suites"].split() if _of_release(suite, codename)]
        if not suites:
            continue
        own = {"types", "suites", "architectures", "architectures-add", "architectures-remove"}
        lines = ["Types: deb", f"Suites: {' '.join(suites)}", f"Architectures: {architecture}"]
        lines += [f"{name}: {value}" for name, value in fields if name.lower() not in own]
        stanzas.append("\n".join(lines) + "\n")
    return "\n".join(stanzas)


def _write_private_root(work: Path, architecture: str, assume_installed: bool) -> None:
    for folder in ("lists/partial", "cache/archives/partial", "sources.list.d", "parts"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    for name, text in own_sources(architecture).items():
        (work / "sources.list.d" / name).write_text(text, encoding="utf-8")
    status = "/var/lib/dpkg/status" if assume_installed else f"{work}/status"
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Dir::State": work,
        "Dir::State::lists": work / "lists",
        "Dir::State::status": status,
        "Dir::Cache": work / "cache",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": work / "sources.list.d",
        # The system's own configuration may hold hooks that need root: only what `_acquire_settings` copies is used.
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": work / "parts",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "true",
        "Acquire::Languages": "none",
    }
    lines = [f'{key} "{value}";' for key, value in settings.items()]
    (work / "apt.conf").write_text("\n".join([*_acquire_settings(), *lines]) + "\n", encoding="utf-8")


def _acquire_settings() -> list[str]:
    """How the system's apt reaches its sources: proxies, certificates, retries."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    wanted = (
        "Acquire::http",
        "Acquire::https",
        "Acquire::ftp",
        "Acquire::Retries",
        "Acquire::Check-",
        "Acquire::By-Hash",
    )
    return [line for line in dump.splitlines() if line.startswith(wanted) and not line.endswith('"";')]


def _run(command: list[str], environment: dict[str, str], what: str, hint: str) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    # apt-get update ends with 0 although a source could not be reached: its "Err:" or "E:"/"W:" lines say so.
    failed = done.returncode != 0 or (command[-1] == "update" and "Some index files failed" in done.stderr)
    if failed:
        said = [
            line for line in (done.stderr + done.stdout).splitlines() if line.startswith(("E:", "W:", "Err:", "dpkg"))
        ]
        reason = "; ".join(said[:3]) or f"exit code {done.returncode}"
        raise MissingProgram(f"{what}: {reason}", where=command[0], hint=hint)
