"""What FRoD computed on this machine, beside what the basis in the file asks for.

PEFT finds a layer's directions beside a basis that it computes from the base, then reads the basis of the file and keeps the
directions. They belong together where this machine computes the basis that is in the file; the live model shows whether it did.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.errors import AdapterMisfit
from adapterfit.records import Report
from adapterfit.text import shorten, show

if TYPE_CHECKING:
    from peft import PeftModel

#: Directions are columns of length one. The same basis gives the same ones but for rounding; another machine's differ in sign or
#: altogether.
_ROUNDING = 1e-3


def shows_after_load(report: Report) -> bool:
    """Whether all that cannot be told is whether FRoD's directions belong to the basis of the file."""
    config = report.case.adapter.config
    if config is None or config.peft_type != "FROD" or report.predicted != "cannot-tell" or report.diff is None:
        return False
    unsure = [found.id for found in report.findings if found.undecided]
    wrong = any(found.severity == "error" for found in report.findings)
    return unsure == ["seed-dependent"] and not wrong and not report.diff.expectation.doubts


def refuse_strayed(model: PeftModel, adapter_name: str, report: Report, allow: Collection[str]) -> None:
    """Raise where a layer's directions are not those beside the basis that was read from the file.

    Raises:
        AdapterMisfit: They are not; `names` are the layers.
    """
    if "cannot-tell" in allow or "seed-dependent" in allow or not shows_after_load(report):
        return
    strayed = tuple(_strayed(model, adapter_name))
    if strayed:
        raise AdapterMisfit(
            f"PEFT loaded {show(report.case.adapter.label)} without an error, but in {len(strayed)} layers ({shorten(strayed)}) it "
            "took directions that do not belong to the basis in the file: this machine computes another one; load it a second time "
            "beside itself, model.load_adapter(folder, adapter_name='again') and model.set_adapter('again')",
            report,
            strayed,
        )


def _strayed(model: PeftModel, adapter_name: str) -> Iterator[str]:
    for name, layer in model.named_modules():
        held = getattr(layer, "frod_U", {})
        if adapter_name in held and not _belongs(layer, adapter_name, held[adapter_name]):
            yield name


def _belongs(layer: Any, adapter_name: str, held: Any) -> bool:
    """PEFT's own computation (`FrodLayer._calculate_frod_u_and_lambda`) again, with the basis that is now in the model."""
    weight = layer.get_base_layer().weight
    wanted, _ = layer._calculate_frod_u_and_lambda(  # noqa: SLF001  PEFT has no other name for it
        layer.frod_V[adapter_name], weight.T if layer.fan_in_fan_out else weight
    )
    return bool(((wanted - held.to(wanted)).abs() <= _ROUNDING).all())
