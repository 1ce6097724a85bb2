"""What is said under a traceback: an exception that looks like an adapter failing to load, explained.

Where a loader's frame still holds the adapter's path and the live model, both are checked as `adapterfit check` does it.
Otherwise the text of the traceback is all there is.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from adapterfit.errors import AdapterMisfit
from adapterfit.records import Report

#: Code whose frames tell that an adapter was being loaded.
_LOADERS = re.compile(r"[\\/](?:peft[\\/]|transformers[\\/]integrations[\\/]peft\.py)")
#: Words of an exception that tell it without such a frame, as when a state dict was loaded by hand.
_WORDS = re.compile(
    r"lora_[AB]|\.lora_|adapter_model\.|adapter_config\.json|base_model\.model\.|\bpeft\b|PeftModel|PeftConfig",
    re.IGNORECASE,
)
#: Functions that load, and what they call the path and the model: function → (path, model).
_HELD = {
    ("peft_model.py", "from_pretrained"): ("model_id", "model"),
    ("peft_model.py", "load_adapter"): ("model_id", "self"),
    ("mixed_model.py", "from_pretrained"): ("model_id", "model"),
    ("auto.py", "from_pretrained"): ("pretrained_model_name_or_path", ""),
    ("config.py", "from_pretrained"): ("pretrained_model_name_or_path", ""),
    ("peft.py", "load_adapter"): ("peft_model_id", "self"),
}
_DEPTH = 20


class Loading(NamedTuple):
    """What a loader was at: the adapter's path, and the live model where it has one."""

    path: str
    model: Any


def explanation(error: BaseException, *, width: int = 80, colour: bool = False) -> str:
    """Lines to print under the traceback; empty where this is not about an adapter. Never raises."""
    try:
        return _explained(error, width, colour)
    except Exception:  # noqa: BLE001 - an explanation that fails must not hide what it explains
        return ""


def _explained(error: BaseException, width: int, colour: bool) -> str:
    chain = list(_chain(error))
    report = next((each.report for each in chain if isinstance(each, AdapterMisfit)), None)
    if report is None and not any(map(_is_about_adapters, chain)):
        return ""
    report = report or _checked(chain)
    if report is not None and (report.findings or report.predicted != "loads"):
        return f"\nadapterfit: why this adapter does not load\n\n{_rendered(report, width, colour)}"
    return _by_text(error, width, colour)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what it came from, the outermost first."""
    now: BaseException | None = error
    for _ in range(_DEPTH):
        if now is None:
            return
        yield now
        now = now.__cause__ or (None if now.__suppress_context__ else now.__context__)


def _frames(error: BaseException) -> Iterator[FrameType]:
    return (frame for frame, _ in traceback.walk_tb(error.__traceback__))


def _is_about_adapters(error: BaseException) -> bool:
    return bool(_WORDS.search(str(error))) or any(_LOADERS.search(frame.f_code.co_filename) for frame in _frames(error))


# ------------------------------------------------------------------------------------------------ with files


def _checked(chain: list[BaseException]) -> Report | None:
    """The check of what was being loaded, where a frame knows it and it lies on this disk."""
    found = [each for error in chain for frame in _frames(error) for each in _loading(frame)]
    held = next((each for each in found if each.model is not None), next(iter(found), None))
    if held is None:
        return None
    from adapterfit import pipeline
    from adapterfit.guard.plain import plain_base

    return pipeline.check(held.path, base=plain_base(held.model) if held.model is not None else None)


def _loading(frame: FrameType) -> Iterator[Loading]:
    place = (Path(frame.f_code.co_filename).name, frame.f_code.co_name)
    if place not in _HELD or not _LOADERS.search(frame.f_code.co_filename):
        return
    path_name, model_name = _HELD[place]
    values = frame.f_locals
    path = values.get(path_name)
    inside = values.get("kwargs")
    folder = inside.get("subfolder") if isinstance(inside, dict) else None
    if isinstance(path, (str, Path)) and Path(path).is_dir():
        model = values.get(model_name) if model_name else None
        yield Loading(str(Path(path, folder or "")), model if hasattr(model, "named_modules") else None)


def _rendered(report: Report, width: int, colour: bool) -> str:
    from adapterfit.report import text

    return text.render(report, width=width, colour=colour)


# ------------------------------------------------------------------------------------------------ without


def _by_text(error: BaseException, width: int, colour: bool) -> str:
    """What the traceback's own words say; nothing where no cause is known from them."""
    from adapterfit import pipeline
    from adapterfit.report import _why

    lines = traceback.format_exception(type(error), error, error.__traceback__)
    found = pipeline.why("".join(lines))
    if not found.causes:
        return ""
    return f"\nadapterfit: what this may be\n\n{_why.render(found, 'text', width=width, colour=colour)}"
