"""The generated files: the same bytes each time, usable from C++, safe from names, instances apart, edges exact."""

from __future__ import annotations

import ctypes
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from built import COMPILERS, STRICT, Instance, build, portable_source
from graphs import random_program
from hypothesis import given, settings
from hypothesis import strategies as st

from leanedge.compress.types import TensorQuant
from leanedge.errors import UnsupportedOperator
from leanedge.export.c_source import CSource, ModelNotes, PixelRule, emit, make_kernels, make_layers, portable_kernel
from leanedge.export.c_source.pixels import stated_pixels
from leanedge.export.c_source.text import comment, file_stem, identifier, string_literal
from leanedge.program.integer_ports import integer_ports
from leanedge.program.simulate import initial_state, simulate, simulate_step
from leanedge.program.simulate.real import dequantize, quantize
from leanedge.program.types import LeakyReluOptions, Port, Program, ProgramOperator, ProgramTensor
from leanedge.settings import InputSettings

HOSTILE = [
    "*/ int x; /*",
    "int",
    "a\nb",
    '"; system("x"); "',
    "größe",
    "??/",
    "\\",
    "",
    "9",
    "a" * 200,
    "__x",
    "%s",
    "x\0y",
]


def emitted(program: Program, name: str, **notes: Any) -> CSource:
    return emit(program, make_kernels(make_layers(program, name), [portable_kernel]), name, ModelNotes(**notes))


def renamed(program: Program, names: dict[str, str]) -> Program:
    def new(name: str) -> str:
        return names.get(name, name)

    return Program(
        {new(name): replace(tensor, name=new(name)) for name, tensor in program.tensors.items()},
        tuple(
            replace(
                operator,
                source=names.get(operator.source, operator.source),
                inputs=tuple(map(new, operator.inputs)),
                outputs=tuple(map(new, operator.outputs)),
            )
            for operator in program.operators
        ),
        tuple(replace(port, name=new(port.name), tensor=new(port.tensor)) for port in program.inputs),
        tuple(replace(port, name=new(port.name), tensor=new(port.tensor)) for port in program.outputs),
        tuple(replace(state, read=new(state.read), written=new(state.written)) for state in program.states),
    )


def hostile_program() -> Program:
    program = random_program(4)
    names = [*program.tensors, *(port.name for port in program.inputs), *(port.name for port in program.outputs)]
    names += [operator.source for operator in program.operators]
    return renamed(
        program, {name: f"{HOSTILE[n % len(HOSTILE)]}{'' if n < len(HOSTILE) else n}" for n, name in enumerate(names)}
    )


@pytest.mark.parametrize("compiler", COMPILERS)
def test_names_of_a_model_cannot_break_the_c(compiler: str, tmp_path: Path) -> None:
    program = hostile_program()
    label = '"; }\n??/ */'
    source = emitted(program, '*/ "x"', made_from=("*/ #error",), labels=(label, "é"), model_sha256='"')
    instance = Instance(build([source], tmp_path, compiler, ("-O1", "-trigraphs", "-Wno-trigraphs")), source)
    inputs = {
        port.name: np.random.default_rng(0).integers(-128, 128, program.tensors[port.tensor].shape).astype(np.int8)
        for port in program.inputs
    }
    made = instance.run(inputs)
    for name, wanted in simulate(program, inputs).items():
        np.testing.assert_array_equal(made[name], wanted)
    main = f'#include <stdio.h>\n#include "{source.interface.stem}.h"\n' + (
        f"int main(void)\n{{\n    static const char *const labels[] = {source.interface.upper}_LABELS;\n"
        "    fputs(labels[0], stdout);\n    fputs(labels[1], stdout);\n    return 0;\n}\n"
    )
    (tmp_path / "labels.c").write_text(main)
    subprocess.run(["gcc", "-std=c99", "labels.c", "-o", "labels"], cwd=tmp_path, check=True)
    shown = subprocess.run([str(tmp_path / "labels")], capture_output=True, check=True)
    assert shown.stdout.decode() == label + "é"


@given(st.text())
@settings(max_examples=200)
def test_text_of_a_model_is_made_harmless(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", identifier(text))
    assert re.fullmatch(r"[a-z][a-z0-9_]*", file_stem(text))
    shown = comment(text)
    assert not any(part in shown for part in ("*/", "/*", "??", "\\"))
    assert re.fullmatch("[ -~]*", shown)
    literal = string_literal(text)
    assert re.fullmatch(r'"([ !#->@-[\]-~]|\\[0-7]{3})*"', literal)


def test_files_do_not_take_the_names_of_c() -> None:
    assert file_stem("string") == "string_model"
    assert file_stem("Main") == "main_model"
    assert file_stem("8bit") == "model_8bit"


def test_the_same_program_gives_the_same_bytes() -> None:
    for seed in range(5):
        assert portable_source(random_program(seed), "m").files == portable_source(random_program(seed), "m").files


def test_instances_share_nothing(tmp_path: Path) -> None:
    program = next(p for p in map(random_program, range(99)) if p.states)
    source = portable_source(program, "m")
    library = build([source], tmp_path, "gcc")
    instances = [Instance(library, source, seed=n) for n in range(2)]
    states = [initial_state(program) for _ in instances]
    random = np.random.default_rng(8)
    for step in range(8):
        turn = int(random.integers(0, 2))
        inputs = {
            port.name: random.integers(-128, 128, program.tensors[port.tensor].shape).astype(np.int8)
            for port in program.inputs
        }
        wanted, states[turn] = simulate_step(program, inputs, states[turn])
        made = instances[turn].run(inputs)
        for name in wanted:
            np.testing.assert_array_equal(made[name], wanted[name], f"step {step}")
    # Position-independent tables of pointers are written by the loader, so that the objects are looked at without.
    files = ["models.c", *(set(source.sources) - {"m.c", "m_weights.c"})]
    subprocess.run(["gcc", "-std=c99", "-fno-pie", "-fno-pic", "-c", *files], cwd=tmp_path, check=True)
    objects = [Path(file).with_suffix(".o").name for file in files]
    listed = subprocess.run(["nm", *objects], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert " T m_run" in listed
    own = re.findall(r"^\S+ [bBdDcC] .*", listed, re.MULTILINE)
    assert not own, "a generated model has no memory of its own that is written"


def one_layer(dtype: Any, scale: float, zero: int) -> Program:
    quant = TensorQuant("int8", np.float32(scale), np.int64(zero))
    tensors = {name: ProgramTensor(name, (1, 2, 2, 3), dtype, quant) for name in "xy"}
    operator = ProgramOperator("relu", "relu6", ("x",), ("y",))
    return Program(tensors, (operator,), (Port("x", "x"),), (Port("y", "y"),))


EDGES = """
#include "m.h"
#ifdef __cplusplus
extern "C"
#endif
int8_t edge_quantize(float real) { return m_quantize_input(real); }
#ifdef __cplusplus
extern "C"
#endif
float edge_dequantize(int8_t integer) { return m_dequantize_output(integer); }
#ifdef __cplusplus
extern "C"
#endif
int8_t edge_pixel(uint8_t pixel, int32_t channel) { (void)channel; return PIXEL; }
"""


@pytest.mark.parametrize("compiler", [["gcc", "-x", "c", "-std=c99"], ["g++", "-x", "c++", "-std=c++11"]])
def test_the_header_quantizes_as_the_program_does_from_c_and_c_plus_plus(compiler: list[str], tmp_path: Path) -> None:
    program = one_layer("int8", 0.0173, -5)
    rule = PixelRule(mean=(120.0, 110.0, 100.0), std=(50.0,))
    source = emitted(program, "m", pixels={"x": rule})
    (tmp_path / "m.h").write_text(source.files["m.h"])
    (tmp_path / "edges.c").write_text(EDGES.replace("PIXEL", "m_input_from_pixel(pixel, channel)"))
    strict = [flag for flag in STRICT if not flag.startswith("-std")]
    command = [*compiler, *strict, "-fPIC", "-shared", "-o", "edges.so", "edges.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(tmp_path / "edges.so"))
    library.edge_quantize.argtypes, library.edge_quantize.restype = [ctypes.c_float], ctypes.c_int8
    library.edge_dequantize.argtypes, library.edge_dequantize.restype = [ctypes.c_int8], ctypes.c_float
    library.edge_pixel.restype = ctypes.c_int8
    tensor = program.tensors["x"]
    halves = (np.arange(-300, 300) + 0.5) * 0.5 * np.float32(0.0173)
    reals = np.concatenate([halves, np.nextafter(halves.astype(np.float32), np.float32(0)), [1e30, -1e30, 0]])
    wanted = quantize(reals.astype(np.float32), tensor)
    np.testing.assert_array_equal([library.edge_quantize(real) for real in reals.astype(np.float32)], wanted)
    assert library.edge_quantize(float("nan")) == -128
    integers = np.arange(-128, 128, dtype=np.int8)
    np.testing.assert_array_equal(
        np.array([library.edge_dequantize(int(n)) for n in integers], np.float32), dequantize(integers, tensor)
    )
    pixels = np.arange(256, dtype=np.float32)
    for channel, mean in enumerate(rule.mean):
        wanted = quantize((pixels - np.float32(mean)) / np.float32(50), tensor)
        np.testing.assert_array_equal([library.edge_pixel(n, channel) for n in range(256)], wanted)


def test_a_plain_normalisation_is_only_an_offset() -> None:
    program = one_layer("int8", 1 / 128, 0)  # (pixel - 128) / 128
    source = emitted(program, "m", pixels={"x": PixelRule(mean=(128.0,), std=(128.0,))})
    assert "#define M_INPUT_PIXEL_OFFSET (-128)" in source.files["m.h"]
    assert "#define M_INPUT_PIXEL_STD {128.0f}" in source.files["m.h"]
    assert "table" not in source.files["m.h"]


def test_the_settings_of_an_input_state_its_pixels() -> None:
    assert stated_pixels(InputSettings(layout="NHWC")) is None
    rule = stated_pixels(InputSettings(color="BGR", scale=0.5, std=(1.0, 2.0, 3.0)))
    assert rule == PixelRule((0.5,), (0.0,), (1.0, 2.0, 3.0), "BGR")


def test_what_has_no_kernel_is_refused_with_its_name() -> None:
    with pytest.raises(UnsupportedOperator, match="no C kernel for relu6 of 1x2x2x3 float32"):
        emitted(one_layer("float32", 0.1, 0), "m")


def test_the_edges_in_float_become_ports() -> None:
    quant = TensorQuant("int8", np.float32(0.1), np.int64(3))
    tensors = {name: ProgramTensor(name, (4,), "float32") for name in ("x", "y")}
    tensors |= {name: ProgramTensor(name, (4,), "int8", quant) for name in ("x8", "y8")}
    operators = (
        ProgramOperator("1", "quantize", ("x",), ("x8",)),
        ProgramOperator("2", "leaky_relu", ("x8",), ("y8",), LeakyReluOptions(0.5)),
        ProgramOperator("2", "dequantize", ("y8",), ("y",)),
    )
    program = Program(tensors, operators, (Port("x", "x"),), (Port("y", "y"),))
    inner = integer_ports(program)
    assert [operator.kind for operator in inner.operators] == ["leaky_relu"]
    assert set(inner.tensors) == {"x8", "y8"}
    real = np.array([-1.0, 0.0, 0.33, 5.0], np.float32)
    integers = simulate(inner, {"x": quantize(real, tensors["x8"])})["y"]
    np.testing.assert_array_equal(dequantize(integers, tensors["y8"]), simulate(program, {"x": real})["y"])


def test_the_example_compiles(tmp_path: Path) -> None:
    source = portable_source(random_program(3), "m")
    for name, text in source.files.items():
        (tmp_path / name).write_text(text)
    strict = [flag for flag in STRICT if flag != "-ffreestanding"]
    files = [*source.sources, "example_main.c"]
    subprocess.run(["gcc", *strict, "-o", "example", *files], cwd=tmp_path, check=True)
    subprocess.run([str(tmp_path / "example")], check=False, timeout=10)
