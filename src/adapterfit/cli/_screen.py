"""The screen: its width, whether it has colours, and writing to it."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from adapterfit.errors import CannotCheck

COLOURS = click.Choice(["auto", "always", "never"])


def colour(choice: str) -> bool:
    """Whether to colour: as asked, else where a person looks and has not said no (https://no-color.org)."""
    if choice != "auto":
        return choice == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width() -> int:
    """Columns of the screen: COLUMNS, else the terminal's, else 80."""
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and 0 < len(told) < 5:
        return int(told)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def emit(text: str) -> None:
    """Write to standard output. A reader that has had enough (`| head`) is not an error.

    Raises:
        CannotCheck: the output cannot be written, for example because the disk is full.
    """
    try:
        click.echo(text, nl=False, color=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise CannotCheck(f"cannot write to standard output: {error.strerror}") from error


def tell(text: str) -> None:
    """Write to standard error, as far as that is possible."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(text, nl=False, err=True)
