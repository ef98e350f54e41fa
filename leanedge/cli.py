"""The command line: reads arguments, calls the library, prints, and turns errors into messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["app", "main"]

EXIT_CODES = """
Exit codes: 0 built and passed · 2 bad input or usage · 3 nothing fits the budget · 4 validation failed ·
5 a needed program or extra is missing · 130 interrupted
"""

INTERRUPTED = 130

app = typer.Typer(
    name="leanedge",
    help="From a trained model to a proved artifact for a small device." + EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Model = Annotated[
    str | None,
    typer.Argument(help="An .onnx file or package.module:factory; default: `model` of leanedge.yaml here."),
]
Target = Annotated[
    str | None, typer.Option("--target", "-t", help="A device (see `leanedge targets`) or a profile ./my-board.yaml.")
]
Targets = Annotated[
    str | None,
    typer.Option(
        "--target", "-t", help="A device (see `leanedge targets`) or a profile ./my-board.yaml; or several: a,b."
    ),
]
Data = Annotated[
    str | None, typer.Option("--data", "-d", help="Samples: .npz, image folder, idx folder or module:function.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]


def main() -> None:
    """Entry point of the ``leanedge`` command."""
    from leanedge.errors import LeanEdgeError

    # A service manager's stop is a Ctrl-C: what was complete stands, nothing half-written stays.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False) or 0  # a typer.Exit, and Ctrl-C, are returned as a code
        if code == INTERRUPTED:
            _say_error("interrupted")
        sys.exit(code)
    except LeanEdgeError as error:
        _say_error(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say_error("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        sys.exit(_unexpected(error))


def _unexpected(error: Exception) -> int:
    """Says what happened without a traceback (unless ``LEANEDGE_TRACEBACK`` is set) and gives the exit code."""
    if isinstance(error, typer.Abort):
        _say_error("interrupted")
        return INTERRUPTED
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error of typer's, which has no public type
        error.show()
        return int(error.exit_code)
    if os.environ.get("LEANEDGE_TRACEBACK"):
        import traceback

        traceback.print_exc()
    _say_error(
        f"internal error, a defect of LeanEdge: {type(error).__name__}: {error}\n"
        "  to do: run again with LEANEDGE_TRACEBACK=1 and report what it prints"
    )
    return 1


def _say_error(text: str) -> None:
    sys.stderr.write(f"leanedge: {text}\n")


def _print_json(content: Any) -> None:
    import json

    sys.stdout.write(json.dumps(content, indent=2, allow_nan=False) + "\n")


def _version(wanted: bool) -> None:
    if wanted:
        from leanedge import __version__

        typer.echo(f"leanedge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def build(
    model: Model = None,
    target: Targets = None,
    data: Data = None,
    test_data: Annotated[str | None, typer.Option(help="Test samples apart from --data.")] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", "-b", help="Limits: latency=20ms,ram=64MB,flash=8MB,energy=5mJ.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(help="Largest loss: points, or relative percent for mae and rmse. [1.0]"),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on the device. [its cores]")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write; of several targets, the one around. [dist/<target>]"),
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="Build this plan.json again, byte for byte.")] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="'latency': fastest within --max-drop; 'accuracy': least loss in the budget (default with one)."
        ),
    ] = None,
    optimize: Annotated[
        str | None,
        typer.Option(help="Kernels for a microcontroller: 'speed', 'balanced' or 'size'. [speed]"),
    ] = None,
    logits: Annotated[bool, typer.Option("--logits", help="Leave out a .tflite model's final softmax.")] = False,
    require_validation: Annotated[
        bool, typer.Option("--require-validation", help="A check that could not be made is a failure.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. [0]")] = None,
    as_json: AsJson = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more of each step.")] = False,
) -> None:
    """Make the best version of a model that fits a device, prove it, and write it with its report."""
    from leanedge.pipeline import build as run_build
    from leanedge.report.terminal import Steps, make_console, print_result

    console = make_console(json=as_json)
    options: dict[str, Any] = {
        "test_data": test_data,
        "budget": budget,
        "max_drop": max_drop,
        "threads": threads,
        "output": output,
        "plan": plan,
        "objective": objective,
        "optimize": optimize,
        "logits": logits,
        "require_validation": require_validation,
        "seed": seed,
        "steps": Steps(console, verbose=verbose),
    }
    if target is not None and "," in target:
        raise typer.Exit(_build_several(model, target.split(","), data, options, console, as_json, verbose))
    result = run_build(model, target, data, **options)
    if as_json:
        _print_json(result.to_dict())
    else:
        print_result(console, result.report, result.folder, verbose=verbose)
    raise typer.Exit(result.exit_code)


def _build_several(
    model: str | None,
    targets: list[str],
    data: str | None,
    options: dict[str, Any],
    console: Any,
    as_json: bool,
    verbose: bool,
) -> int:
    """Builds for each target, prints one table (or a list of JSON documents), and gives the exit code."""
    from leanedge.report.terminal import print_outcomes, print_result
    from leanedge.several import build_many, worst_exit_code

    outcomes = build_many(model, [name.strip() for name in targets], data, **options)
    if as_json:
        _print_json([outcome.to_dict() for outcome in outcomes])
        return worst_exit_code(outcomes)
    for outcome in outcomes:
        if outcome.result is not None and verbose:
            print_result(console, outcome.result.report, outcome.result.folder, verbose=True)
        if outcome.error is not None:
            _say_error(f"{outcome.target}: {outcome.error}")
    print_outcomes(
        console, [(outcome.target, outcome.result.report if outcome.result else None) for outcome in outcomes]
    )
    return worst_exit_code(outcomes)


@app.command()
def init(
    model: Annotated[str, typer.Argument(help="An .onnx file or package.module:factory.")],
    data: Data = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a leanedge.yaml that is here.")] = False,
) -> None:
    """Write a commented leanedge.yaml for a model and its data."""
    from leanedge.init import write_initial_settings

    path = write_initial_settings(model, data, Path.cwd(), force)
    typer.echo(f"wrote {path.name}; next: leanedge build --target rpi4")


@app.command()
def inspect(
    model: Model = None,
    target: Target = None,
    as_json: AsJson = False,
) -> None:
    """Show a model's layers, MACs, weights and peak activations, and what a target can't run."""
    from leanedge.inspection import inspect_model
    from leanedge.report.terminal import make_console, print_inspection

    found = inspect_model(model, target)
    if as_json:
        _print_json(found.to_dict())
    else:
        print_inspection(make_console(), found)


targets_app = typer.Typer(help="List devices, or show what one has.", rich_markup_mode=None)
app.add_typer(targets_app, name="targets")


@targets_app.callback(invoke_without_command=True)
def targets(context: typer.Context, as_json: AsJson = False) -> None:
    """List devices; `leanedge targets show NAME` shows what one has."""
    if context.invoked_subcommand is not None:
        return
    from leanedge.profile import list_profiles, load_profile
    from leanedge.report.terminal import make_console, print_targets

    profiles = [load_profile(name) for name in list_profiles()]
    if as_json:
        _print_json([profile.model_dump(mode="json", by_alias=True) for profile in profiles])
    else:
        print_targets(make_console(), profiles)


@targets_app.command("show")
def show_target(
    name: Annotated[str, typer.Argument(help="A device's name or a profile ./my-board.yaml.")], as_json: AsJson = False
) -> None:
    """Show what a device has, and where each number comes from."""
    from leanedge.profile import load_profile
    from leanedge.report.terminal import make_console, print_target

    profile = load_profile(name)
    if as_json:
        _print_json(profile.model_dump(mode="json", by_alias=True))
    else:
        print_target(make_console(), profile)


@app.command()
def validate(
    folder: Annotated[Path, typer.Argument(help="An output folder of `leanedge build`.")],
    on: Annotated[str, typer.Option("--on", help="host or emulator.")] = "emulator",
    as_json: AsJson = False,
) -> None:
    """Check an artifact that was built, again."""
    from leanedge.report.terminal import Steps, make_console, print_verdict
    from leanedge.revalidate import revalidate

    console = make_console(json=as_json)
    verdict = revalidate(folder, on, Steps(console))
    if as_json:
        from dataclasses import asdict

        _print_json(asdict(verdict))
    else:
        print_verdict(console, verdict)
    raise typer.Exit(0 if verdict.passed else 4)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Show what is installed, what is missing, and the one command that gets it."""
    from leanedge.doctor import examine
    from leanedge.report.terminal import make_console, print_findings

    findings = examine()
    if as_json:
        from dataclasses import asdict

        _print_json([asdict(finding) for finding in findings])
    else:
        print_findings(make_console(), findings)
    raise typer.Exit(5 if any(not finding.found and finding.needed for finding in findings) else 0)
