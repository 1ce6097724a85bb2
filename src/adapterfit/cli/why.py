"""`adapterfit why`: which cause is behind this traceback, log or error line?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import click

from adapterfit import limits
from adapterfit.cli import _screen
from adapterfit.errors import CannotCheck
from adapterfit.text import quote

#: Bytes read at once.
_CHUNK = 1024 * 1024


@click.command(short_help="Paste a traceback or a log: which cause, which fix?")
@click.argument("file", required=False, default="-")
@click.option("--adapter", help="The adapter it is about: the answer is then confirmed on its files.")
@click.option("--base", help="The base model it was loaded on; needs --adapter.")
@click.option("--for", "consumer", metavar="CONSUMER", help="Who loaded it, such as peft==0.21.2,transformers==5.23.0.")
@click.option("--online", is_flag=True, help="Allow the network: look up Hub ids that are not in the local cache.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--output", metavar="FILE", help="Write the answer to FILE instead of the screen.")
@click.option("--color", "color", type=_screen.COLOURS, default="auto", show_default=True)
def command(
    *,
    file: str,
    adapter: str | None,
    base: str | None,
    consumer: str | None,
    online: bool,
    form: str,
    output: str | None,
    color: str,
) -> int:
    """Which cause is behind this traceback, log or error line, and which fix?

    FILE is a text file; without one, or with -, the text is read from standard input until its end. Cut, coloured and
    wrapped text is fine, and so is one line. Nothing that the text names is opened.

    Exit code: 0 an answer, 2 the text does not tell, or could not be read.
    """
    from adapterfit import pipeline
    from adapterfit.read.log import decode
    from adapterfit.report import _why

    if base and not adapter:
        raise click.UsageError("--base needs --adapter: the adapter that was loaded on it")
    diagnosis = pipeline.why(decode(_read(file)), adapter, base, consumer, online=online)
    to_screen = output is None or output == "-"
    colour = _screen.colour(color) if to_screen else color == "always"
    text = _why.render(diagnosis, form, width=_screen.width() if to_screen else 100, colour=colour)
    if output is None or output == "-":
        _screen.emit(text)
    else:
        from adapterfit.report import _file

        _file.write(text, output, [path for path in (adapter, base) if path])
    return 0 if diagnosis.causes else 2


def _read(file: str) -> bytes:
    """The bytes of a file or of standard input.

    Raises:
        CannotCheck: It is not there, is a folder, cannot be read, or is too long to be a log.
    """
    if file == "-":
        if sys.stdin is None:
            raise CannotCheck("there is no standard input to read from; give a file")
        if sys.stdin.isatty():
            click.echo("Paste the text, then press Ctrl-D (on Windows Ctrl-Z and Enter).", err=True)
        return _bounded(sys.stdin.buffer, "the text")
    try:
        with Path(file).open("rb") as stream:
            return _bounded(stream, quote(file))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise CannotCheck(f"cannot read {quote(file)}: {reason}") from error


def _bounded(stream: BinaryIO, what: str) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := stream.read(_CHUNK):
        pieces.append(piece)
        size += len(piece)
        if size > limits.LOG_BYTES:
            raise CannotCheck(f"{what} is longer than {limits.LOG_BYTES:,} bytes; give the part around the error")
    return b"".join(pieces)
