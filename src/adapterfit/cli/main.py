"""The `adapterfit` command: finds a command's file when it is used, and turns every end into an exit code."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import TYPE_CHECKING

import click

from adapterfit import __version__, discover
from adapterfit.errors import AdapterfitError
from adapterfit.text import show

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Could not check: the arguments, the environment, or we ourselves are at fault.
CANNOT = 2
_INTERRUPTED = 130


class Commands(click.Group):
    """The commands are the files beside this one; each is imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names of the commands."""
        return [name for name in discover.names(__package__) if name != "main"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, imported now."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = getattr(discover.member(__package__, cmd_name), "command")  # noqa: B009 - a module of an axis
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="adapterfit")
def commands() -> None:
    """Does this PEFT adapter fit this base model - and if not, exactly why?

    Looks at files only: no torch, no weights loaded, no network unless asked.
    """


def main() -> None:
    """Run the command of `sys.argv` and exit, without the interpreter's clean-up: it would take a tenth of the time."""
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # matrices here are small: its threads would mostly wait for each other
    gc.set_threshold(100_000)  # a short life makes little garbage, and looking for it costs
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        Its exit code: 0 fine, 1 findings, 2 could not check, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal that cannot show a character is no reason to fail
    try:
        code = commands.main(args=list(arguments), prog_name="adapterfit", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return CANNOT
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except AdapterfitError as error:
        return _fail(str(error))
    except Exception as error:  # noqa: BLE001 - a traceback never reaches the user
        return _bug(error)
    return code if isinstance(code, int) else 0


def _fail(line: str) -> int:
    click.echo(f"adapterfit: {show(line, 1_000)}", err=True)
    return CANNOT


def _bug(error: Exception) -> int:
    if os.environ.get("ADAPTERFIT_DEBUG"):
        import traceback

        traceback.print_exception(type(error), error, error.__traceback__)
    if isinstance(error, MemoryError):
        return _fail("out of memory")
    what = f"{type(error).__name__}: {error}"
    return _fail(f"internal error, please report it ({show(what, 300)}); ADAPTERFIT_DEBUG=1 shows where")
