"""`adapterfit stamp`: record beside an adapter which base it belongs to."""

from __future__ import annotations

import click


@click.command(short_help="Record the base's fingerprint beside the adapter.")
@click.argument("adapter")
@click.option("--base", help="The base model: a folder, a safetensors file or index, or a Hub id.")
@click.option(
    "--full", is_flag=True, help="A digest of every number of the touched modules, not of some. Reads them all."
)
@click.option("--online", is_flag=True, help="Allow the network: look up Hub ids that are not in the local cache.")
def command(*, adapter: str, base: str | None, full: bool, online: bool) -> int:
    """Record beside an adapter which base it belongs to.

    Writes adapterfit.json into the folder ADAPTER; no other file is touched. From then on `adapterfit check` says
    when the base is another one, although names and shapes fit, and which layer differs. Without --base the base
    that the adapter names is looked up in the local Hub cache.

    Exit code: 0 stamped, 1 the adapter does not fit this base, 2 could not check.
    """
    from adapterfit.cli import _screen
    from adapterfit.errors import AdapterMisfit
    from adapterfit.guard.stamp import stamp
    from adapterfit.read.stamp import parse_stamp
    from adapterfit.text import show

    try:
        written = stamp(adapter, base, full=full, online=online)
    except AdapterMisfit as misfit:
        click.echo(f"adapterfit: not stamped: {show(misfit, 2_000)}", err=True)
        return 1
    found = parse_stamp(written.read_bytes())
    kept = {
        "config": f"{len(found.config)} fields" if found.config else "",
        "inventory": f"of {show(found.class_name)}" if found.inventory else "",
        "weights": f"{len(found.content)}, {'all' if full else 'some'} of their numbers" if found.content else "",
        "vocabulary": f"{found.rows:,} rows" if found.rows is not None else "",
        "tokenizer": "its tokens and ids" if found.tokenizer else "",
        "commit": show(found.commit[:12]),
    }
    lines = [f"  {name:<12}{what or 'unknown: not compared'}" for name, what in kept.items()]
    _screen.emit("\n".join([f"Stamped: {show(written)}", f"  {'base':<12}{show(found.base_name)}", *lines, ""]))
    return 0
