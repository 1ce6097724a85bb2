"""`adapterfit convert`: the same adapter in another layout, or for another library version."""

from __future__ import annotations

import click


@click.command(short_help="The same adapter in another layout, or for another library version.")
@click.argument("adapter")
@click.option(
    "--to",
    required=True,
    metavar="FORMAT",
    help="kohya, diffusers, mlx, gguf, merged, lora, plain, filled, peft or peft==VERSION.",
)
@click.option("--out", required=True, metavar="DIR", help="The folder to be made. It must not exist.")
@click.option("--base", help="The base model: a folder, a safetensors file or index, or a Hub id.")
@click.option("--part", default="", help="The component of a diffusion pipeline: unet, transformer, text_encoder …")
@click.option("--online", is_flag=True, help="Allow the network: look up Hub ids that are not in the local cache.")
def command(*, adapter: str, to: str, out: str, base: str | None, part: str, online: bool) -> int:
    """Write the same adapter in another program's layout, or for another version of PEFT, into a new folder.

    The format of ADAPTER is recognised from its files. What the wanted format cannot express is named, and nothing is
    written then. ADAPTER is never changed.

    Exit code: 0 converted, 2 it cannot be.
    """
    from adapterfit.cli import _bar, _screen
    from adapterfit.conversion.convert import convert
    from adapterfit.text import show

    with _bar.shown() as progress:
        done = convert(adapter, to, out, base=base, part=part, online=online, progress=progress)
    count = f", {done.modules:,} modules" if done.modules else ""
    lines = [
        f"Converted: {done.source} to {show(done.target)}{count}",
        *(f"  {show(done.folder)}/{show(name)}" for name in done.files),
    ]
    _screen.emit("\n".join([*lines, *(show(note, 1_000) for note in done.notes), ""]))
    return 0
