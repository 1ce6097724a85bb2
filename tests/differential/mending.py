"""What becomes of a broken adapter: fixed into a new folder, loaded by real PEFT, its logits beside those it should give."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adapterfit


@dataclass(frozen=True)
class Outcome:
    """`equal` (bit by bit), `close` (within the tolerance), `refused`, `cannot tell`, `untouched` (it fits as it is), or `wrong`."""

    word: str
    why: str = ""
    cures: tuple[str, ...] = ()
    off: float = 0.0


def compared(
    adapter: Path,
    base: Any,
    out: Path,
    fresh: Callable[[], Any],
    logits: Callable[[Any], Any],
    reference: Any,
    close: float,
) -> Outcome:
    """Fix `adapter` for `base` into the new folder `out`; load that onto `fresh()`; compare `logits` with `reference`.

    Beyond `close` times the largest logit of the reference (1 at least) it is wrong.
    """
    report = adapterfit.check(adapter, base=base)
    cures = tuple(f.id for f in report.findings if f.fix is not None and f.fix.safety == "safe" and f.fix.edits)
    if report.verdict == "fits":
        really = judged(adapter, fresh, logits, reference, close)
        return Outcome("untouched") if really.word != "wrong" else Outcome("wrong", f"said to fit, but: {really.why}")
    readings = [
        f"{f.id}: {' - or: '.join(f.fix.readings)}" for f in report.findings if f.fix is not None and f.fix.readings
    ]
    if report.verdict == "cannot-tell" and not readings:
        return Outcome("cannot tell", _reasons(report), cures)
    if report.verdict != "fits-after-fix":
        return Outcome("refused", "; ".join([*readings, _reasons(report)]), cures)
    fixed(adapter, base, out)
    return judged(out, fresh, logits, reference, close, cures)


def judged(out: Path, fresh, logits, reference, close: float, cures: tuple[str, ...] = ()) -> Outcome:
    """What the adapter in `out` computes with real PEFT."""
    import numpy as np

    again = adapterfit.check(out)
    if again.case.adapter.config is None or any(flaw.severity == "error" for flaw in again.case.adapter.flaws):
        return Outcome("wrong", "the folder written cannot be read", cures)
    try:
        found = logits(loaded(fresh(), out))
    except Exception as error:  # whatever PEFT raises is the answer
        return Outcome("wrong", f"{type(error).__name__}: {str(error)[:200]}", cures)
    if found.shape != reference.shape:
        return Outcome("wrong", f"{found.shape} instead of {reference.shape}", cures)
    off = float(np.abs(found - reference).max())
    if off == 0:
        return Outcome("equal", cures=cures)
    scale = max(1.0, float(np.abs(reference).max()))
    return Outcome("close" if off <= close * scale else "wrong", f"off by {off:.2g} of {scale:.2g}", cures, off)


def loaded(model, folder: Path):
    """Real PEFT's; what it leaves out starts at other random numbers than in training."""
    import peft
    import torch

    torch.manual_seed(999)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.PeftModel.from_pretrained(model, str(folder)).eval()


def fixed(adapter: Path, base: Any, out: Path) -> None:
    """By the public way."""
    adapterfit.fix(adapter, base=base, out=out)


def _reasons(report) -> str:
    """What is wrong and, where that cannot be told, why not: a refusal without a reason is none."""
    said = [f"{f.id}: {f.fix.summary if f.fix else f.message}" for f in report.findings if f.severity == "error"]
    unknown = [one.why for one in report.not_checked] if report.verdict == "cannot-tell" else []
    return "; ".join([f"cannot tell: {'; '.join(unknown)}"] * bool(unknown) + said)
