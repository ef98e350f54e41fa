"""Get Fashion-MNIST from the Debian package dataset-fashion-mnist, without root, and write it as .npz.

    python get_data.py --output full-test.npz                # 3,000 training images and all 10,000 test images
    python get_data.py --train 3000 --test 2000 --output samples.npz      # what the example ships

Images become float16 (n, 1, 28, 28) in 0..1 (pixel / 255), labels 0..9; `test` marks the official test set.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")


def data_folder() -> Path:
    """The folder with the four idx.gz files: the installed package's, or a copy unpacked into the cache.

    The cache is $LEANEDGE_CACHE/workloads, or ~/.cache/leanedge/workloads. Needs apt-get and dpkg unless it is there.
    """
    if INSTALLED.is_dir():
        return INSTALLED
    root = os.environ.get("LEANEDGE_CACHE") or Path.home() / ".cache" / "leanedge"
    folder = Path(root) / "workloads" / PACKAGE
    unpacked = folder / INSTALLED.relative_to("/")
    if not unpacked.is_dir():
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            raise SystemExit(
                f"{PACKAGE} is a Debian package and this machine has no apt-get or dpkg. Get the four *-ubyte.gz files "
                f"of Fashion-MNIST elsewhere and put them into {unpacked}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", PACKAGE], cwd=folder, check=True)
        archive = max(folder.glob(f"{PACKAGE}_*.deb"))
        fresh = folder / "unpacking"
        subprocess.run(["dpkg", "-x", str(archive), str(fresh)], check=True)
        (fresh / "usr").rename(folder / "usr")
        fresh.rmdir()
        archive.unlink()
    return unpacked


def read_idx(path: Path) -> np.ndarray:
    """An idx.gz file of unsigned bytes: two zero bytes, type 8, rank, big-endian dimensions, the values."""
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\x00\x00\x08":
        raise SystemExit(f"{path}: not an idx file of unsigned bytes")
    rank = content[3]
    shape = np.frombuffer(content, ">u4", rank, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 28, 28) and labels (n,) of part "train" (60,000) or "t10k" (10,000)."""
    folder = data_folder()
    return read_idx(folder / f"{part}-images-idx3-ubyte.gz"), read_idx(folder / f"{part}-labels-idx1-ubyte.gz")


def take(images: np.ndarray, labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` images, equally many of each class, shuffled; in their own order when that is all of them."""
    if count == len(labels):
        return images, labels
    random = np.random.default_rng(seed)
    classes = np.unique(labels)
    share = count // len(classes)
    index = np.concatenate([random.choice(np.flatnonzero(labels == c), share, replace=False) for c in classes])
    random.shuffle(index)
    return images[index], labels[index]


def write_samples(path: Path, train: int, test: int, seed: int = 0) -> None:
    """Write `path` with `train` training images followed by `test` test images."""
    train_x, train_y = take(*load("train"), train, seed)
    test_x, test_y = take(*load("t10k"), test, seed)
    pixels = np.concatenate([train_x, test_x])[:, None]
    np.savez_compressed(
        path,
        x=(pixels / np.float32(255)).astype(np.float16),
        y=np.concatenate([train_y, test_y]),
        test=np.arange(train + test) >= train,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=3000, help="training images, a multiple of 10")
    parser.add_argument("--test", type=int, default=10000, help="test images, a multiple of 10")
    parser.add_argument("--output", type=Path, default=Path("full-test.npz"))
    args = parser.parse_args()
    write_samples(args.output, args.train, args.test)
    print(f"{args.output}: {args.train} training and {args.test} test images, {args.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
