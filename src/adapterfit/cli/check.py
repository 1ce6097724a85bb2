"""`adapterfit check`: does this adapter fit this base, and what will the loader do?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adapterfit import discover
from adapterfit.cli import _screen

if TYPE_CHECKING:
    from adapterfit.records import Report

#: `--fail-on` → the severities that make the exit code 1.
_THRESHOLDS = {"error": ("error",), "warning": ("error", "warning"), "never": ()}


@click.command(short_help="Does this adapter fit this base, and what will the loader do?")
@click.argument("adapter")
@click.option("--base", help="The base model: a folder, a config.json, a safetensors file or index, or a Hub id.")
@click.option(
    "--for",
    "consumers",
    metavar="CONSUMER",
    multiple=True,
    help="Who will load it: peft==0.21.2,transformers==5.23.0, an engine such as vllm==0.33.0, or all (every engine in one "
    "table). Repeat for several. Default: the peft and transformers installed here, else the newest known.",
)
@click.option(
    "--loader",
    type=click.Choice(["PeftModel.from_pretrained", "PeftModel.load_adapter", "model.load_adapter"]),
    help="The call that loads. PeftModel.load_adapter: as a second adapter, beside one with the same config. "
    "model.load_adapter: the loader of transformers, also meant by --for transformers.",
)
@click.option("--exact", is_flag=True, help="Ask the installed PEFT too, in a process of its own. Takes seconds.")
@click.option("--python", metavar="PY", help="With --exact: the Python whose PEFT is asked, such as venv/bin/python.")
@click.option("--values", is_flag=True, help="Read the numbers too: not finite, never trained.")
@click.option("--online", is_flag=True, help="Allow the network: look up Hub ids that are not in the local cache.")
@click.option(
    "--format", "form", type=click.Choice(discover.names("adapterfit.report")), default="text", show_default=True
)
@click.option("--output", metavar="FILE", help="Write the report to FILE instead of the screen.")
@click.option("--quiet", is_flag=True, help="Text: the verdict only.")
@click.option("--color", "color", type=_screen.COLOURS, default="auto", show_default=True)
@click.option(
    "--fail-on",
    type=click.Choice(list(_THRESHOLDS)),
    default="error",
    show_default=True,
    help="What exit code 1 means.",
)
def command(
    *,
    adapter: str,
    base: str | None,
    consumers: tuple[str, ...],
    loader: str | None,
    exact: bool,
    python: str | None,
    values: bool,
    online: bool,
    form: str,
    output: str | None,
    quiet: bool,
    color: str,
    fail_on: str,
) -> int:
    """Does this adapter fit this base, and what will the loader do?

    ADAPTER is a folder, a file, or hf://owner/name[@revision][/folder]. Without --base the base that the
    adapter names is looked up in the local Hub cache. Neither is ever changed.

    Exit code: 0 nothing at or above --fail-on, 1 findings, 2 could not check.
    """
    from adapterfit import pipeline
    from adapterfit.consumers.asked import sort

    libraries, engines = sort(consumers)
    if len(libraries) > 1 and form != "text":
        raise click.UsageError(f"--format {form} holds one report: give one --for at a time (engines may be several)")
    if exact or python:
        click.echo("asking the installed PEFT, this takes some seconds …", err=True)
    reports = [
        pipeline.check(
            adapter,
            base=base,
            consumer=[*consumer, *engines],
            online=online,
            values=values,
            exact=exact or python is not None,
            python=python,
            loader=loader,
        )
        for consumer in ([[each] for each in libraries] or [[]])
    ]
    rendered = [_render(report, form, quiet, to_screen=output is None, color=color) for report in reports]
    _deliver("\n".join(rendered), output, [path for path in (adapter, base) if path])
    return max(exit_code(report, fail_on, asked=base is not None) for report in reports)


def exit_code(report: Report, fail_on: str, *, asked: bool) -> int:
    """The exit code of one report.

    1: a finding reaches the threshold, or the adapter does not fit as it is. 2: a base was asked about and there
    is no answer, or about an engine that there are no facts of. 0: anything else; without `--base` only the adapter's own
    files were asked about. An engine asked for by name counts through its finding; the table of `all` only informs.
    """
    severities = _THRESHOLDS[fail_on]
    misfit = report.verdict in {"does-not-fit", "fits-after-fix"}
    if severities and (misfit or any(finding.severity in severities for finding in report.findings)):
        return 1
    unknown = any(not answer.known for answer in report.consumers)
    return 2 if unknown or (asked and report.verdict == "cannot-tell") else 0


def _render(report: Report, form: str, quiet: bool, *, to_screen: bool, color: str) -> str:
    width = _screen.width() if to_screen else 100
    colour = _screen.colour(color) if to_screen else color == "always"
    text: str = getattr(discover.member("adapterfit.report", form), "render")(  # noqa: B009 - a module of an axis
        report, width=width, colour=colour, quiet=quiet
    )
    return text


def _deliver(text: str, output: str | None, checked: list[str]) -> None:
    if output is None or output == "-":
        _screen.emit(text)
        return
    from adapterfit.report import _file

    _file.write(text, output, checked)
