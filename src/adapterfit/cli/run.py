"""`adapterfit run`: run a script; when an adapter fails to load, explain it under the traceback."""

from __future__ import annotations

import click


@click.command(
    short_help="Run a script; explain under the traceback when an adapter fails to load.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(*, script: str, arguments: tuple[str, ...]) -> int:
    """Run SCRIPT with ARGUMENTS as python would.

    Output, traceback and exit code are the script's own. When it ends with an exception and an adapter failed to
    load, the causes stand below the traceback.
    """
    import os
    import sys

    if not os.path.exists(script):  # noqa: PTH110 - as python itself looks
        raise click.UsageError(f"there is no script {script!r}")
    started = [sys.executable, "-m", "adapterfit.guard.script", script, *arguments]
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(sys.executable, started)  # noqa: S606 - the user's own script; the process becomes it, signals and all
    import subprocess

    return subprocess.call(started)  # noqa: S603 - as above, where a process cannot become another
