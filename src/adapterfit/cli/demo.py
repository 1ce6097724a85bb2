"""`adapterfit demo`: the main job on a small base and adapters it makes itself, in seconds, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from adapterfit.cli import _screen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adapterfit.records import Report


class Case(NamedTuple):
    """One adapter of the demo: its folder, what became of it in somebody's hands, its files, and the right verdict."""

    name: str
    story: str
    files: Mapping[str, bytes]
    verdict: str


@click.command(short_help="The main job on a small base and adapters it makes itself.")
@click.option("--keep", metavar="FOLDER", help="Make the files in this new folder and leave them there.")
@click.option("--color", "color", type=_screen.COLOURS, default="auto", show_default=True)
def command(keep: str | None, color: str) -> int:
    """Make a small base and four adapters, and check each of them.

    Needs neither torch nor a network. Exit code: 0 where every verdict is the right one, else 1.
    """
    import contextlib
    import tempfile
    from pathlib import Path

    from adapterfit.errors import CannotCheck

    with contextlib.ExitStack() as stack:
        folder = (
            Path(keep) if keep else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adapterfit-demo-")))
        )
        cases = list(demo_cases())
        try:
            _lay(folder, cases)
        except OSError as error:
            raise CannotCheck(f"cannot write the demo's files: {error.strerror}") from error
        return _run(folder, cases, color)


def demo_cases() -> Iterator[Case]:
    """One adapter that fits, and three that went through something."""
    from adapterfit.testing import make

    good = make.lora("llama")
    yield Case("fits", "Saved by PEFT, loaded on the base it was trained on.", make.as_files(good), "fits")
    yield Case(
        "compiled",
        "Trained on a base under torch.compile: every name carries the wrapper.",
        make.as_files(good.renamed(lambda name: name.replace("base_model.model.", "base_model.model._orig_mod.", 1))),
        "fits-after-fix",
    )
    yield Case(
        "deeper",
        "Trained on a base of four layers, loaded on one of two: half of it is dropped without a word.",
        make.as_files(make.lora("llama", base=make.base("llama", num_hidden_layers=4))),
        "does-not-fit",
    )
    yield Case(
        "other-rank",
        "adapter_config.json says r = 8, the tensors have rank 4.",
        make.as_files(good.with_config(r=8)),
        "does-not-fit",
    )


def _lay(folder: object, cases: list[Case]) -> None:
    from pathlib import Path

    from adapterfit.testing.disk import lay

    root = Path(str(folder))
    lay(root / "base", _base_files())
    for case in cases:
        lay(root / case.name, case.files)


def _base_files() -> dict[str, bytes]:
    """A two-layer Llama with true names and shapes, all zero."""
    import json

    from adapterfit.expect import modules
    from adapterfit.testing import make

    base = make.base("llama")
    tree = modules.tree(base, base.architecture)
    tensors = {
        f"{module.name}.{name}": ("BF16", shape) for module in tree.modules for name, shape in module.params.items()
    }
    return {"config.json": json.dumps(base.config, indent=2).encode(), "model.safetensors": make.safetensors(tensors)}


def _run(folder: object, cases: list[Case], color: str) -> int:
    import os
    import sys
    import time
    from pathlib import Path

    from adapterfit import pipeline

    start, reports = time.perf_counter(), {}
    before = Path.cwd()
    os.chdir(str(folder))  # so that the commands shown are short, and work as they stand with --keep
    try:
        for case in cases:
            reports[case.name] = pipeline.check(case.name, base="base")
    finally:
        os.chdir(before)
    took = time.perf_counter() - start
    for number, case in enumerate(cases, 1):
        _show(number, case, reports[case.name], color)
    torch = "without" if "torch" not in sys.modules else "with"
    _screen.emit(f"{len(cases)} adapters checked in {took * 1000:.0f} ms, {torch} torch.\n")
    wrong = [case.name for case in cases if reports[case.name].verdict != case.verdict]
    if wrong:
        _screen.emit(f"Not the verdict that was expected: {', '.join(wrong)}\n")
    return 1 if wrong else 0


def _show(number: int, case: Case, report: Report, color: str) -> None:
    from adapterfit.report.text import Line, paint, render

    colour = _screen.colour(color)
    head = [Line(f"{number}. {case.story}", "bold"), Line(f"   $ adapterfit check {case.name} --base base"), Line("")]
    _screen.emit(paint(head) if colour else "".join(f"{line.text}\n" for line in head))
    _screen.emit(render(report, width=_screen.width(), colour=colour) + "\n")
