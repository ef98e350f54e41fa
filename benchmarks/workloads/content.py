"""content: Google's file type classifier (magika) on this machine's own files."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workloads.fetch import wheel, write_samples
from benchmarks.workloads.workload import UnavailableWorkload, Workload

PACKAGE = "magika==1.0.3"
MODEL_FOLDER = "magika/models/standard_v3_3"
HALF = 1024  # bytes from the beginning, and as many from the end
BLOCK = 4096  # read at either end before white space is stripped
PADDING = 256  # stands for "no byte here"
MIN_BYTES = 64
PER_LABEL = 60
# Extensions that say the type: none that several types share (.h, .txt, .pl, .pem).
LABEL_OF = {
    "a": "ar", "bat": "batch", "bmp": "bmp", "c": "c", "cmake": "cmake", "cpp": "cpp", "css": "css", "csv": "csv",
    "gif": "gif", "go": "go", "gz": "gzip", "html": "html", "ico": "ico", "ini": "ini", "ipynb": "ipynb", "jar": "jar",
    "java": "java", "jpg": "jpeg", "js": "javascript", "json": "json", "lua": "lua", "md": "markdown", "npy": "npy",
    "npz": "npz", "onnx": "onnx", "otf": "otf", "pdf": "pdf", "pm": "perl", "png": "png",
    "po": "po", "proto": "proto", "py": "python", "pyc": "pythonbytecode", "rb": "ruby", "rs": "rust", "rst": "rst",
    "scss": "scss", "sh": "shell", "so": "elf", "sql": "sql", "svg": "svg", "tcl": "tcl", "tex": "latex",
    "tiff": "tiff", "toml": "toml", "ts": "typescript", "ttf": "ttf", "wasm": "wasm", "wav": "wav", "webp": "webp",
    "woff": "woff", "woff2": "woff2", "xml": "xml", "xsl": "xsl", "xz": "xz", "yaml": "yaml", "yml": "yaml",
    "zip": "zip", "zlib": "zlibstream",
}  # fmt: skip
# Files for tests are often wrong on purpose.
_TESTS = {"test", "tests", "testing", "testdata"}


def load(cache: Path) -> Workload:
    """The model from PyPI; files from Python's own folders, /usr/share and /usr/lib."""
    model, samples = cache / "content" / "model.onnx", cache / "content" / "samples.npz"
    source = wheel(cache, PACKAGE) / MODEL_FOLDER
    if not model.exists():
        model.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / "model.onnx", model)
    if not samples.exists():
        labels = json.loads((source / "config.min.json").read_text())["target_labels_space"]
        write_samples(samples, local_files(labels))
    return Workload(
        name="content",
        model=model,
        samples=samples,
        metric="top1",
        licence="model Apache-2.0; the samples hold bytes of local files and stay in the cache",
        notes="integer input, 214 classes; label from the file's extension; files of one folder are in one set",
        labelled=True,
    )


def features(content: bytes) -> np.ndarray[Any, Any]:
    """What the model reads of a file, as its authors document it: int32 (2048,).

    Up to 1024 bytes from the beginning, leading white space stripped, padded after; up to 1024 from the end, trailing
    white space stripped, padded before. Either is taken from the first or last 4096 bytes.

    >>> row = features(b"  hello " * 2)
    >>> row[:3].tolist(), int(row[1023]), row[-2:].tolist()
    ([104, 101, 108], 256, [108, 111])
    """
    row = np.full(2 * HALF, PADDING, np.int32)
    start = np.frombuffer(content[:BLOCK].lstrip()[:HALF], np.uint8)
    end = np.frombuffer(content[-BLOCK:].rstrip()[-HALF:], np.uint8)
    row[: len(start)] = start
    row[2 * HALF - len(end) :] = end
    return row


def local_files(labels: list[str], seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Up to 60 different files of each label; a third of the folders is the test set."""
    random = np.random.default_rng(seed)
    roots = [Path(sysconfig.get_paths()["stdlib"]), Path(sys.prefix), Path("/usr/share"), Path("/usr/lib")]
    candidates: dict[str, list[Path]] = {}
    for path in sorted({path for root in roots if root.is_dir() for path in root.rglob("*.*")}):
        label = LABEL_OF.get(path.suffix[1:])
        if not _TESTS.isdisjoint(path.parts):
            continue
        if label in labels and path.is_file() and not path.is_symlink() and path.stat().st_size >= MIN_BYTES:
            candidates.setdefault(label, []).append(path)
    rows, y, folders, seen = [], [], [], set()
    for label, paths in sorted(candidates.items()):
        taken = 0
        for index in random.permutation(len(paths)):
            path = paths[index]
            try:
                row = features(path.read_bytes())
            except PermissionError:
                continue
            digest = hashlib.sha256(row.tobytes()).digest()
            if digest in seen:
                continue
            seen.add(digest)
            rows.append(row)
            y.append(labels.index(label))
            folders.append(str(path.parent))
            taken += 1
            if taken == PER_LABEL:
                break
    if len(rows) < 300:
        raise UnavailableWorkload(f"only {len(rows)} files with a telling extension were found here; 300 are needed")
    names, group = np.unique(folders, return_inverse=True)
    test = np.isin(group, random.permutation(len(names))[: len(names) // 3])
    order = random.permutation(len(rows))
    return {"x": np.stack(rows)[order], "y": np.array(y)[order], "test": test[order], "group": group[order]}
