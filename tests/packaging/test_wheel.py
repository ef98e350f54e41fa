"""The wheel, built through the sdist, installed in a fresh environment and run from the root folder."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without --wheel or --sdist, build makes the sdist and then the wheel from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_every_file_that_the_code_opens(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("leanedge", "targets", "device_profiles"):
        for path in (ROOT / folder).rglob("*"):
            if not path.is_file() or "__pycache__" in path.parts or path.suffix == ".pyc":
                continue
            inside = path.relative_to(ROOT).as_posix()
            expected = inside if folder == "leanedge" else f"leanedge/{inside}"
            assert expected in names, expected


def test_the_installed_wheel_runs_from_the_root_folder(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False)
    python = environment / "bin/python"
    (site,) = (environment / "lib").glob("python*/site-packages")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel, cwd=tmp_path)
    # Dependencies come from the tests' environment; its editable LeanEdge does not, as .pth files are not read twice.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    where = run(python, "-c", "import leanedge; print(leanedge.__file__)", cwd=Path("/")).strip()
    assert Path(where).is_relative_to(site)
    assert "rpi4" in run(python, "-m", "leanedge", "targets", cwd=Path("/"))
    program = "from leanedge.target import load_target; print(load_target('linux_onnxruntime').kind)"
    assert run(python, "-c", program, cwd=Path("/")).strip() == "linux_onnxruntime"
    model = ROOT / "examples/watch/model.onnx"
    assert "MACs" in run(python, "-m", "leanedge", "inspect", model, "--target", "rpi4", cwd=Path("/"))
