"""A Program's generated C as what an image is built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .image import Buffer, ModelSources

if TYPE_CHECKING:
    from pathlib import Path

    from leanedge.export.c_source import CSource
    from leanedge.export.c_source.interface import PortName

__all__ = ["write_model_sources"]


def write_model_sources(source: CSource, folder: Path) -> ModelSources:
    """Writes the generated files and says how an image calls them.

    Args:
        source: Of `emit`.
        folder: An existing folder, kept until the image is built.
    """
    for name, text in source.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    stem = source.interface.stem

    def buffers(ports: tuple[PortName, ...]) -> tuple[Buffer, ...]:
        return tuple(Buffer(f"{stem}_{port.name}(&model)", port.tensor.nbytes) for port in ports)

    return ModelSources(
        files=tuple(folder / name for name in source.sources),
        include=(folder,),
        header=f"{stem}.h",
        declarations=f"static {source.interface.upper}_ARENA(arena);\nstatic {stem}_model model;",
        setup=f"{stem}_init(&model, arena);",
        invoke=f"{stem}_run(&model);",
        inputs=buffers(source.interface.inputs),
        outputs=buffers(source.interface.outputs),
    )
