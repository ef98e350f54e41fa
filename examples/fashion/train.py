"""Train the example's clothes classifier on Fashion-MNIST and write `model.onnx` and `samples.npz`.

python train.py               # about five minutes on one core; needs torch, onnx, onnxscript
python train.py --hold-out    # how the settings were judged: 10,000 of the training images, never the test set
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import get_data
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
EPOCHS, BATCH, RATE, DECAY, SMOOTHING = 8, 128, 8e-3, 0.02, 0.05
SHIFT = 2  # pixels, either way
SHIPPED = (3000, 2000)  # training and test images in samples.npz


class Separable(nn.Sequential):
    """Depthwise 3x3 convolution, then pointwise: each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class FashionNet(nn.Module):
    """Depthwise-separable CNN: (n, 1, 28, 28) in 0..1 -> (n, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, 1, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            Separable(16, 48, 2),
            Separable(48, 64),
            Separable(64, 96, 2),
            Separable(96, 96),
        )
        self.classify = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.features(x).mean((2, 3)))
        return logits


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to SHIFT pixels and mirror half of them."""
    n = len(x)
    dx, dy = torch.randint(0, 2 * SHIFT + 1, (2, n, 1), generator=generator)
    padded = functional.pad(x[:, 0], (SHIFT,) * 4)
    row = (dy + torch.arange(28))[:, :, None]
    column = dx + torch.arange(28)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    column = torch.where(mirrored, column.flip(1), column)[:, None, :]
    return padded[torch.arange(n)[:, None, None], row, column][:, None]


def train(images: np.ndarray, labels: np.ndarray, seed: int) -> FashionNet:
    """AdamW with warm-up and cosine, label smoothing, the weights averaged over the last steps (exponential, 0.998)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    x_all = torch.from_numpy(images)[:, None]
    y_all = torch.from_numpy(labels.astype(np.int64))
    net = FashionNet().to(memory_format=torch.channels_last)
    averaged = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True
    )
    steps = len(y_all) // BATCH
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, EPOCHS * steps, pct_start=0.15)
    for _ in range(EPOCHS):
        order = torch.randperm(len(y_all), generator=generator)
        for step in range(steps):
            index = order[step * BATCH : (step + 1) * BATCH]
            x = augment(x_all[index].float() / 255, generator).contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(net(x), y_all[index], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            averaged.update_parameters(net)
    final: FashionNet = averaged.module
    return final.to(memory_format=torch.contiguous_format).eval()


def accuracy(net: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    hits = 0
    with torch.no_grad():
        for start in range(0, len(labels), 1000):
            x = torch.from_numpy(images[start : start + 1000])[:, None].float() / 255
            hits += int((net(x).argmax(1).numpy() == labels[start : start + 1000]).sum())
    return hits / len(labels)


def export(net: FashionNet, path: Path) -> None:
    """ONNX with a free batch axis, input x (batch, 1, 28, 28), output logits (batch, 10)."""
    program = torch.onnx.export(
        net,
        (torch.zeros(2, 1, 28, 28),),
        dynamo=True,
        opset_version=18,
        input_names=["x"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )
    assert program is not None
    graph = program.model.graph  # without the exporter's notes: stack traces with this machine's paths
    for holder in (graph, *graph, *graph.inputs, *(value for node in graph for value in node.outputs)):
        holder.metadata_props.clear()
    program.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hold-out", action="store_true", help="judge the settings on 10,000 training images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE, help="folder for model.onnx and samples.npz")
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    images, labels = get_data.load("train")
    if args.hold_out:
        net = train(images[10000:].copy(), labels[10000:], args.seed)
        print(f"held-out: {accuracy(net, images[:10000], labels[:10000]):.4f}, {time.perf_counter() - started:.0f} s")
        return
    net = train(images.copy(), labels, args.seed)
    print(f"trained in {time.perf_counter() - started:.0f} s, {sum(p.numel() for p in net.parameters())} parameters")
    print(f"test: {accuracy(net, *get_data.load('t10k')):.4f} of 10,000")
    args.output.mkdir(parents=True, exist_ok=True)
    export(net, args.output / "model.onnx")
    get_data.write_samples(args.output / "samples.npz", *SHIPPED)


if __name__ == "__main__":
    main()
