"""Storage that a candidate takes: counted from the files that ship, never estimated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanedge.figures import Figure, unavailable

if TYPE_CHECKING:
    from leanedge.profile import DeviceProfile
    from leanedge.target import Artifact

__all__ = ["artifact_bytes", "runtime_bytes"]


def artifact_bytes(artifact: Artifact) -> Figure:
    """Bytes of the model's files on a Linux device: kind ``proved``, each file in `detail`.

    The runtime is not in it: it is installed once for all models, see `runtime_bytes`.
    """
    sizes = {name: (artifact.folder / name).stat().st_size for name in artifact.files}
    return Figure(sum(sizes.values()), "bytes", "proved", {"files": sizes, "runtime": "counted apart"})


def runtime_bytes(profile: DeviceProfile, runtime: str) -> Figure:
    """Bytes that the runtime takes once installed, from the profile: kind ``measured`` (the wheel, unpacked)."""
    entry = profile.runtime(runtime)
    if entry.installed_bytes is None:
        return unavailable("bytes", f"the profile of {profile.name} does not say what {runtime} takes: {entry.source}")
    return Figure(entry.installed_bytes, "bytes", "measured", {"source": entry.source})
