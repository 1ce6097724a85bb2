"""Repairs that no finding asks for, but the user, or the base's own numbers: beside the pipeline, and imported by `fix` alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit import embeddings
from adapterfit.edits import SetConfig
from adapterfit.plans import Step
from adapterfit.record import dataclass
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.read.source import Source
    from adapterfit.records import Report


@dataclass(frozen=True)
class Wishes:
    """What is wanted beside an adapter that fits.

    `base_name` is to stand in its config; `drop_copies`: weights that the base has anyway are left out.
    """

    base_name: str | None = None
    drop_copies: bool = False


def steps(now: Report, source: Source, wishes: Wishes) -> tuple[Step, ...]:
    """The steps that come after all cures.

    Args:
        now: The report on the adapter after the cures, on the records.
        source: The adapter's files.
        wishes: What the user asked for.

    Raises:
        CannotCheck: A file changed while it was read.
    """
    return (*_named(now, wishes.base_name), *embeddings.steps(now, source, drop_copies=wishes.drop_copies))


def _named(now: Report, name: str | None) -> Iterator[Step]:
    config = now.case.adapter.config
    if name is None or config is None or config.raw.get("base_model_name_or_path") == name:
        return
    was = quote(config.raw.get("base_model_name_or_path"), 200)
    yield Step(
        "base-name-differs",
        f"adapter_config.json names the base {was}; --base-name asks for {quote(name, 200)}",
        f"set base_model_name_or_path to {quote(name, 200)}",
        "safe",
        (SetConfig("base_model_name_or_path", name),),
    )
