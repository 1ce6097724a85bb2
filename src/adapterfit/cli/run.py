"""`adapterfit run`: run a script; when an adapter fails to load, explain it under the traceback."""

from __future__ import annotations

import click


@click.command(
    short_help="Run a script; explain under the traceback when an adapter fails to load.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("-m", "as_module", is_flag=True, help="SCRIPT is the name of a module, as for python -m.")
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(*, as_module: bool, script: str, arguments: tuple[str, ...]) -> int:
    """Run SCRIPT with ARGUMENTS as python would; with -m a module, as `python -m` does.

    Output, traceback and exit code are the script's own. When it ends with an exception and an adapter failed to
    load, the causes stand below the traceback.
    """
    import os
    import sys

    if not as_module:
        _must_be_a_script(script)
    started = [sys.executable, "-m", "adapterfit.guard.script", *(["-m"] if as_module else ["--"]), script, *arguments]
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(sys.executable, started)  # noqa: S606 - the user's own script; the process becomes it, signals and all
    import subprocess

    return subprocess.call(started)  # noqa: S603 - as above, where a process cannot become another


def _must_be_a_script(script: str) -> None:
    """A file that can be read, or a folder with `__main__.py`.

    Raises:
        CannotCheck: It is neither.
    """
    import os

    from adapterfit.errors import CannotCheck
    from adapterfit.text import show

    if not os.path.exists(script):  # noqa: PTH110 - as python itself looks
        raise CannotCheck(f"there is no script {show(script)}")
    mains = [os.path.join(script, f"__main__.{ending}") for ending in ("py", "pyc")]  # noqa: PTH118 - as above
    if os.path.isdir(script) and not any(map(os.path.isfile, mains)):  # noqa: PTH112 - as above
        raise CannotCheck(f"{show(script)} is a folder without __main__.py: name a script in it")
    if not os.access(script, os.R_OK):
        raise CannotCheck(f"{show(script)} must not be read")
