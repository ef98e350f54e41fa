"""English sentences that every machine with Python has: the standard library's documentation strings."""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from pathlib import Path

import numpy as np

_SENTENCE = re.compile(r"[A-Z][a-z][^.!?\n]*(?:\n[^.!?\n]+)*[.!?](?=\s|$)")


def sentences(seed: int, folder: Path | None = None) -> list[str]:
    """All distinct sentences of 5 to 40 plain words under `folder` (default: the standard library), shuffled by `seed`.

    They depend on the Python version, so figures are compared on one machine.
    """
    folder = folder or Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, None] = {}
    for path in sorted([*folder.glob("*.py"), *folder.glob("[a-z]*/*.py")]):
        inside = path.relative_to(folder).parts[:-1]
        if "site-packages" in inside or any("test" in part for part in inside):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in the library's own files
            try:
                tree = ast.parse(path.read_bytes())
            except SyntaxError:  # a few files are wrong on purpose, as test material
                continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for sentence in _SENTENCE.findall(ast.get_docstring(node) or ""):
                    words = sentence.split()
                    if 5 <= len(words) <= 40 and all(re.fullmatch(r"[\w'\"(),:;.!?-]+", word) for word in words):
                        found[" ".join(words)] = None
    texts = list(found)
    np.random.default_rng(seed).shuffle(texts)
    return texts
