"""Workloads: what they compute on their own, and what they say when something can't be had."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import workloads
from benchmarks.workloads import __main__ as command
from benchmarks.workloads import content, fetch, pitch, sentence, sentences, vad
from benchmarks.workloads.photographs import PHOTOGRAPHS
from benchmarks.workloads.workload import UnavailableWorkload, Workload


class TestTable:
    def test_every_module_with_load_is_listed(self) -> None:
        folder = Path(workloads.__file__).parent
        found = {
            path.stem for path in folder.glob("*.py") if "\ndef load(cache: Path) -> Workload:" in path.read_text()
        }
        assert found == set(workloads.NAMES)

    def test_unknown_name_lists_the_known(self) -> None:
        with pytest.raises(ValueError, match=r"no workload 'wach': there are watch, fashion"):
            workloads.load("wach")

    def test_every_workload_is_in_the_readme(self) -> None:
        readme = (Path(workloads.__file__).parents[1] / "README.md").read_text()
        assert not [name for name in workloads.NAMES if f"\n| {name} |" not in readme]

    def test_at_least_thirty_different_photographs(self) -> None:
        assert len({(p.package, p.path) for p in PHOTOGRAPHS}) == len(PHOTOGRAPHS) >= 30
        assert all(p.author and p.licence for p in PHOTOGRAPHS)


class TestFetch:
    def test_debian_without_apt_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fetch.shutil, "which", lambda program: None)
        with pytest.raises(UnavailableWorkload, match="Debian package some-data is needed, but there is no apt-get"):
            fetch.debian(tmp_path, "some-data")

    def test_failing_pip_leaves_nothing_that_looks_complete(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        failed = subprocess.CompletedProcess([], 1, "", "first\nERROR: No matching distribution\n")
        monkeypatch.setattr(fetch.subprocess, "run", lambda *args, **kwargs: failed)
        for _ in range(2):
            with pytest.raises(UnavailableWorkload, match="can't get thing==1: ERROR: No matching distribution"):
                fetch.wheel(tmp_path, "thing==1")
        assert not (tmp_path / "wheels" / "thing-1").exists()

    def test_wheel_is_fetched_once_and_unpacked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []

        def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            calls.append(command)
            with zipfile.ZipFile(Path(command[-1]) / "thing-1-py3-none-any.whl", "w") as archive:
                archive.writestr("thing/data.txt", "here")
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(fetch.subprocess, "run", pip)
        for _ in range(2):
            folder = fetch.wheel(tmp_path, "thing==1")
            assert (folder / "thing" / "data.txt").read_text() == "here"
        assert len(calls) == 1
        assert "--no-deps" in calls[0]
        assert not list(folder.glob("*.whl"))

    def test_cache_folder_can_be_chosen(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LEANEDGE_CACHE", str(tmp_path))
        assert fetch.default_cache() == tmp_path / "workloads"
        monkeypatch.delenv("LEANEDGE_CACHE")
        assert fetch.default_cache() == Path.home() / ".cache" / "leanedge" / "workloads"


class TestDigitsSpoken:
    def test_absent_folder_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LEANEDGE_SHARED", str(tmp_path / "nowhere"))
        with pytest.raises(UnavailableWorkload, match="set LEANEDGE_SHARED to the folder that holds models/spoken"):
            workloads.load("digits_spoken", tmp_path)

    def test_command_goes_on_and_ends_with_1(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("LEANEDGE_SHARED", str(tmp_path / "nowhere"))
        monkeypatch.setenv("LEANEDGE_CACHE", str(tmp_path))
        monkeypatch.setattr(sys, "argv", ["workloads", "digits_spoken", "watch"])
        assert command.main() == 1
        printed = capsys.readouterr().out
        assert "digits_spoken\n  not available: " in printed
        assert "fp32: top1 0.90" in printed
        assert "model: " in (tmp_path / "workloads" / "watch" / "leanedge.yaml").read_text()


class TestContent:
    def test_short_file_is_padded_at_its_inner_ends(self) -> None:
        row = content.features(b" \n hello \t")
        assert bytes(row[:8].astype(np.uint8)) == b"hello \t\x00"
        assert row[7] == row[1024] == content.PADDING
        assert bytes(row[-8:].astype(np.uint8)) == b" \n hello"

    def test_long_file_gives_its_first_and_last_1024_bytes(self) -> None:
        body = bytes(range(33, 127)) * 100
        row = content.features(b"  " + body + b"\n")
        assert bytes(row[:1024].astype(np.uint8)) == body[:1024]
        assert bytes(row[1024:].astype(np.uint8)) == body[-1024:]

    @given(st.binary(max_size=6000))
    def test_values_are_bytes_or_padding(self, data: bytes) -> None:
        row = content.features(data)
        assert row.shape == (2048,)
        assert row.min() >= 0
        assert row.max() <= 256
        # Padding is one run in the middle: bytes first, then padding, then bytes.
        assert np.abs(np.diff((row == 256).astype(int))).sum() <= 2


class TestVad:
    def test_steps_overlap_by_the_context(self) -> None:
        signal = np.arange(1, vad.STEPS * vad.HOP + 1, dtype=np.float64)
        steps = vad.steps_of(signal)
        assert steps.shape == (vad.STEPS, vad.CONTEXT + vad.HOP)
        assert (steps[0, : vad.CONTEXT] == 0).all()
        np.testing.assert_array_equal(steps[1:, : vad.CONTEXT], steps[:-1, -vad.CONTEXT :])
        np.testing.assert_array_equal(steps[:, vad.CONTEXT :].ravel(), signal)

    def test_recording_at_8_khz_is_resampled(self, tmp_path: Path) -> None:
        time = np.arange(8000) / 8000
        with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes((np.sin(2 * np.pi * 440 * time) * 16384).astype("<i2").tobytes())
        signal = vad.read_wav(tmp_path / "tone.wav")
        assert len(signal) == 16000
        np.testing.assert_allclose(signal, np.sin(2 * np.pi * 440 * np.arange(16000) / 16000) / 2, atol=1e-3)

    def test_scalar_input_becomes_a_constant(self, tmp_path: Path) -> None:
        value = onnx.helper.make_tensor_value_info
        model = onnx.helper.make_model(
            onnx.helper.make_graph(
                [
                    onnx.helper.make_node("Cast", ["sr"], ["rate"], to=onnx.TensorProto.FLOAT),
                    onnx.helper.make_node("Div", ["x", "rate"], ["y"]),
                ],
                "model",
                [value("x", onnx.TensorProto.FLOAT, [2]), value("sr", onnx.TensorProto.INT64, [])],
                [value("y", onnx.TensorProto.FLOAT, [2])],
            ),
            opset_imports=[onnx.helper.make_opsetid("", 15)],
            ir_version=8,
        )
        onnx.save(model, tmp_path / "source.onnx")
        vad._fix_rate(tmp_path / "source.onnx", tmp_path / "fixed.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "fixed.onnx")
        assert [entry.name for entry in session.get_inputs()] == ["x"]
        (y,) = session.run(None, {"x": np.array([16000, 8000], np.float32)})
        assert y.tolist() == [1, 0.5]


class TestSentence:
    @pytest.fixture
    def tokenizer(self, tmp_path: Path) -> sentence.Tokenizer:
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "unaf", "a", ",", "cafe"]
        (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
        return sentence.Tokenizer(tmp_path / "vocab.txt")

    def test_longest_piece_first_and_unknown_words_whole(self, tokenizer: sentence.Tokenizer) -> None:
        assert tokenizer.pieces("aable") == ["a", "##able"]
        assert tokenizer.pieces("unaff") == ["[UNK]"]  # greedy: "unaf" leaves "##f", which is not there
        assert tokenizer.pieces("zzz") == ["[UNK]"]

    def test_batch_is_framed_padded_and_cut(self, tokenizer: sentence.Tokenizer) -> None:
        ids, mask = tokenizer.batch(["A, Café", "a " * 100])
        assert ids[0, :6].tolist() == [2, 8, 9, 10, 3, 0]
        assert mask.sum(1).tolist() == [5, sentence.TOKENS]
        assert ids[1, 0] == 2
        assert ids[1, -1] == 3

    def test_encoder_is_the_mean_over_present_tokens_and_ignores_padding(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        write_tiny_encoder(tmp_path)
        encoder = sentence.encoder(tmp_path)
        ids = torch.randint(0, 9, (2, sentence.TOKENS), generator=torch.Generator().manual_seed(0))
        mask = torch.ones_like(ids)
        mask[:, 5:] = 0
        other = torch.where(mask == 0, (ids + 3) % 9, ids)
        with torch.no_grad():
            first, second = encoder(ids, mask), encoder(other, mask)
            changed = encoder((ids + 1) % 9, mask)
        torch.testing.assert_close(first, second)
        torch.testing.assert_close(first.norm(dim=1), torch.ones(2))
        assert (first - changed).abs().max() > 1e-2

    def test_weights_without_a_place_are_refused(self, tmp_path: Path) -> None:
        pytest.importorskip("torch")
        write_tiny_encoder(tmp_path, {"encoder.layer.1.extra.weight": np.zeros(2, np.float32)})
        with pytest.raises(UnavailableWorkload, match=r"no place for.*layer\.1\.extra"):
            sentence.encoder(tmp_path)

    def test_sentences_come_from_documentation_strings_only(self, tmp_path: Path) -> None:
        (tmp_path / "one.py").write_text(
            '"""Too short.\n\nNot x == y + 1 any more.\n\nReads what was written before."""\n'
            'TEXT = "This text is not a documentation string."\n'
            "def f():\n"
            '    """Gives back the number of the day."""\n'
        )
        (tmp_path / "pkg").mkdir()
        (tmp_path / "pkg" / "two.py").write_text('class C:\n    """Holds a list of two\n    or more things."""\n')
        (tmp_path / "pkg" / "broken.py").write_text("def (")
        texts = sentences.sentences(0, tmp_path)
        assert sorted(texts) == [
            "Gives back the number of the day.",
            "Holds a list of two or more things.",
            "Reads what was written before.",
        ]
        orders = {tuple(sentences.sentences(seed, tmp_path)) for seed in range(8)}
        assert len(orders) > 1
        assert texts == sentences.sentences(0, tmp_path)


def write_tiny_encoder(folder: Path, extra: dict[str, np.ndarray] | None = None) -> None:
    """A config.json and a model.safetensors of one layer, width 8, 2 heads, random weights."""
    width, inner, words = 8, 16, 9
    names: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (words, width),
        "embeddings.position_embeddings.weight": (sentence.TOKENS, width),
        "embeddings.token_type_embeddings.weight": (2, width),
    }
    layer = "encoder.layer.0."
    for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
        names |= {f"{layer}{part}.weight": (width, width), f"{layer}{part}.bias": (width,)}
    names |= {f"{layer}intermediate.dense.weight": (inner, width), f"{layer}intermediate.dense.bias": (inner,)}
    names |= {f"{layer}output.dense.weight": (width, inner), f"{layer}output.dense.bias": (width,)}
    for norm in ("embeddings.LayerNorm", f"{layer}attention.output.LayerNorm", f"{layer}output.LayerNorm"):
        names |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    random = np.random.default_rng(0)
    tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in names.items()} | (extra or {})
    header, body = {}, b""
    for name, value in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": value.shape,
            "data_offsets": [len(body), len(body) + value.nbytes],
        }
        body += value.tobytes()
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    config = {"hidden_size": width, "num_attention_heads": 2, "layer_norm_eps": 1e-12, "intermediate_size": inner}
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": words, "num_hidden_layers": 1}))


class TestPitch:
    def test_note_has_the_frequency_asked_for_and_no_alias(self) -> None:
        note = pitch.tone(440, 1.0, np.array([1.0, 0.5, 0.2]))
        spectrum = np.abs(np.fft.rfft(note))
        assert abs(int(spectrum.argmax()) - 440) <= 1
        high = np.abs(np.fft.rfft(pitch.tone(8000, 1.0, np.array([1.0, 1.0]))))
        folded = pitch.RATE - 2 * 8000  # where the second harmonic would come back
        assert high[folded - 50 : folded + 50].max() < 0.01 * high.max()


class TestCommand:
    def test_state_is_carried_from_step_to_step(self, tmp_path: Path) -> None:
        value, one = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
        model = onnx.helper.make_model(
            onnx.helper.make_graph(
                [onnx.helper.make_node("Add", ["x", "sum"], ["next"]), onnx.helper.make_node("Neg", ["next"], ["y"])],
                "running_sum",
                [value("x", one, [1, 1]), value("sum", one, [1, 1])],
                [value("y", one, [1, 1]), value("next", one, [1, 1])],
            ),
            opset_imports=[onnx.helper.make_opsetid("", 17)],
            ir_version=8,
        )
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        samples = fetch.write_samples(
            tmp_path / "samples.npz",
            {"x": np.array([[[1], [2], [3]], [[5], [5], [5]]], np.float16), "test": np.array([True, True])},
        )
        workload = Workload("sum", path, samples, "mae", "", "", labelled=False, state={"sum": "next"})
        session = onnxruntime.InferenceSession(path)
        inputs, _, _ = command.read_samples(workload, session)
        (y,) = command.run(workload, session, inputs)
        assert y[:, :, 0, 0].tolist() == [[-1, -3, -6], [-5, -10, -15]]
        assert command.measure(workload)["fp32"] == "no labels"
