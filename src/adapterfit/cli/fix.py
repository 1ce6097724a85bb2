"""`adapterfit fix`: the smallest proven repair, written to a new folder with a receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adapterfit.cli import _bar, _screen
from adapterfit.errors import CannotCheck

if TYPE_CHECKING:
    from adapterfit.plans import Plan, Receipt


@click.command(short_help="The smallest proven repair, written to a new folder with a receipt.")
@click.argument("adapter")
@click.option("--base", help="The base model: a folder, a config.json, a safetensors file or index, or a Hub id.")
@click.option("--out", metavar="DIR", help="The new folder. It must not be there yet.")
@click.option("--plan", "only_plan", is_flag=True, help="Show what would be done; write no adapter.")
@click.option(
    "--plan-file", metavar="FILE", help="With --plan: save the plan there. Without: carry out exactly that plan."
)
@click.option("--unsafe", is_flag=True, help="Also take repairs that may change what the adapter computes.")
@click.option(
    "--for", "consumer", metavar="CONSUMER", help="Who will load it, such as peft==0.21.2,transformers==5.23.0."
)
@click.option(
    "--loader",
    type=click.Choice(["PeftModel.from_pretrained", "PeftModel.load_adapter", "model.load_adapter"]),
    help="The call that loads, as for check.",
)
@click.option("--base-name", metavar="NAME", help="What base_model_name_or_path is to say: the base's Hub id.")
@click.option("--drop-copies", is_flag=True, help="Leave out weights that --base has anyway, number for number.")
@click.option(
    "--alpha",
    type=click.FloatRange(min=0, min_open=True),
    metavar="NUMBER",
    help="The lora_alpha of the training, where the config is missing or its rank is wrong.",
)
@click.option("--rslora", is_flag=True, help="With --alpha: the training used rsLoRA. No tensor shows it.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="What numbers are to be stored as; safe where none is rounded.",
)
@click.option("--exact", is_flag=True, help="The installed PEFT, too, must load what was written. Takes seconds.")
@click.option("--python", metavar="PY", help="With --exact: the Python whose PEFT is asked, such as venv/bin/python.")
@click.option("--online", is_flag=True, help="Allow the network: look up Hub ids that are not in the local cache.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--color", "color", type=_screen.COLOURS, default="auto", show_default=True)
def command(
    *,
    adapter: str,
    base: str | None,
    out: str | None,
    only_plan: bool,
    plan_file: str | None,
    unsafe: bool,
    consumer: str | None,
    loader: str | None,
    base_name: str | None,
    drop_copies: bool,
    alpha: float | None,
    rslora: bool,
    dtype: str | None,
    exact: bool,
    python: str | None,
    online: bool,
    form: str,
    color: str,
) -> int:
    """Mend an adapter: a list of edits, a new folder, and the proof that they did what they should.

    ADAPTER is a folder, a file, or hf://owner/name[@revision][/folder]; it is only read. The new folder has the
    repaired adapter, all other files of the old one, and receipt.json. Edits that may change what the adapter
    computes are listed, and taken with --unsafe only; what rests on your word (--alpha) is called so.

    Exit code: 0 mended, or nothing to do; 1 no safe repair makes it fit; 2 could not, or whether it fits cannot be told.
    """
    from adapterfit.fixing import fix, read_plan
    from adapterfit.report import _receipt

    if rslora and alpha is None:
        raise click.UsageError("--rslora says what --alpha is divided by: give both")
    if not only_plan and out is None:
        raise click.UsageError("give --out DIR for the repaired adapter, or --plan to see what would be done")
    wishes = [base_name, drop_copies or None, alpha, dtype]
    if plan_file is not None and not only_plan and any(wish is not None for wish in wishes):
        raise click.UsageError("a plan file is carried out as it is: say what you want beside the cures with --plan")
    plan = read_plan(_bytes_of(plan_file)) if plan_file is not None and not only_plan else None
    with _bar.shown() as progress:
        receipt = fix(
            adapter, base, None if only_plan else out, plan, unsafe=unsafe, consumer=consumer, exact=exact or python is not None,
            python=python, online=online, progress=progress, loader=loader, base_name=base_name, drop_copies=drop_copies, alpha=alpha, rslora=rslora,
            dtype={"float32": "F32", "float16": "F16", "bfloat16": "BF16"}.get(dtype or ""),
        )  # fmt: skip
    if alpha is not None and all(step.safety != "told" for step in receipt.plan.steps):
        click.echo(
            "adapterfit: --alpha was not used: it is for an adapter without adapter_config.json, of whose names a LoRA's targets can be "
            "told, or with another rank than its tensors have",
            err=True,
        )
    if only_plan and plan_file is not None:
        _save(receipt.plan, plan_file, [path for path in (adapter, base) if path])
    if form == "json":
        _screen.emit(_receipt.as_text(receipt, out=receipt.out))
    else:
        _screen.emit(_receipt.render(receipt, width=_screen.width(), colour=_screen.colour(color)))
    return _code(receipt)


def _code(receipt: Receipt) -> int:
    plan = receipt.plan
    if plan.after == "cannot-tell" and not plan.steps:
        return 1 if plan.remaining else 2
    return 0 if plan.after in ("fits", "cannot-tell") else 1


def _bytes_of(path: str) -> bytes:
    from pathlib import Path

    from adapterfit import limits
    from adapterfit.text import quote

    try:
        with Path(path).open("rb") as file:
            data = file.read(limits.PLAN_BYTES + 1)  # of a device or a pipe no size tells
        if len(data) > limits.PLAN_BYTES:
            raise CannotCheck(f"{quote(path)} is larger than any plan: {limits.PLAN_BYTES:,} bytes are read")
    except (OSError, ValueError) as error:
        raise CannotCheck(
            f"{quote(path)} cannot be read: {getattr(error, 'strerror', None) or 'that is no path'}"
        ) from None
    return data


def _save(plan: Plan, path: str, checked: list[str]) -> None:
    import json

    from adapterfit.plan.file import as_json
    from adapterfit.report import _file

    _file.write(
        json.dumps(as_json(plan), indent=2, ensure_ascii=True) + "\n", path, checked, option="--plan-file", apart=True
    )
