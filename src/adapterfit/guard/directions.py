"""What FRoD and AdaMSS computed on this machine, beside what the file asks for; and what DeLoRA's file tells of its base.

PEFT finds a layer's directions (FRoD) or the rows of its segments (AdaMSS) beside a basis that it computes from the base, then reads
the basis of the file and keeps the rest. They belong together where this machine computes the basis that is in the file; the
live model shows whether it did. DeLoRA keeps the length of each column of the base's weights, which PEFT takes from the file and does not
compare.
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
#: A column's length in another precision differs by less than a thousandth; of other weights most differ by more than this.
_OTHER = 0.01


def shows_after_load(report: Report) -> bool:
    """Whether all that cannot be told is whether what was computed here belongs to the basis of the file."""
    config = report.case.adapter.config
    if config is None or report.predicted != "cannot-tell" or report.diff is None:
        return False
    if any(found.severity == "error" for found in report.findings):
        return False
    unsure = [found.id for found in report.findings if found.undecided]
    doubts = report.diff.expectation.doubts
    if (
        config.peft_type == "ADAMSS"
    ):  # of it nothing is known before: names, sizes and numbers are proven after the load
        return not unsure and len(doubts) == 1 and report.case.adapter.tensors != ()
    return config.peft_type == "FROD" and unsure == ["seed-dependent"] and not doubts


def refuse_strayed(model: PeftModel, adapter_name: str, report: Report, allow: Collection[str]) -> None:
    """Raise where what was computed here, or the base itself, is not what belongs to what was read from the file.

    Raises:
        AdapterMisfit: It is not; `names` are the layers.
    """
    config = report.case.adapter.config
    if config is not None and config.peft_type == "DELORA":
        _refuse_other_lengths(model, adapter_name, report, allow)
    if "cannot-tell" in allow or "seed-dependent" in allow or not shows_after_load(report):
        return
    loaded = model.peft_config[adapter_name]
    kind = getattr(loaded.peft_type, "value", loaded.peft_type)
    strayed = tuple(_strayed(model, adapter_name) if kind == "FROD" else _resegmented(model, adapter_name, loaded))
    if strayed:
        said = _SAID[kind].format(layers=f"in {len(strayed)} layers ({shorten(strayed)})")
        raise AdapterMisfit(
            f"PEFT loaded {show(report.case.adapter.label)} without an error, but {said}", report, strayed
        )


def _refuse_other_lengths(model: PeftModel, adapter_name: str, report: Report, allow: Collection[str]) -> None:
    """Raise where the columns of the base are not as long as DeLoRA's file says that they were in the training."""
    if "base-changed" in allow:
        return
    lengths = {name: same for name, layer in model.named_modules() for same in _same_lengths(layer, adapter_name)}
    other = tuple(name for name, same in lengths.items() if not same)
    if other:
        raise AdapterMisfit(
            f"PEFT loaded {show(report.case.adapter.label)} without an error, but base-changed: same architecture, other weights in {len(other)} of "
            f"{len(lengths)} layers whose columns were measured in the training ({shorten(other)})",
            report,
            other,
        )


def _same_lengths(layer: Any, adapter_name: str) -> Iterator[bool]:
    """Whether the base's columns are those of the file; nothing where they cannot be measured, as packed ones."""
    held = getattr(layer, "delora_w_norm", {})
    weight = layer.get_base_layer().weight if adapter_name in held else None
    if weight is None or not weight.is_floating_point() or weight.dim() != 2:
        return
    then, now = held[adapter_name].float(), weight.detach().float().norm(dim=0)
    if then.shape == now.shape and not bool((then == 1).all()):  # ones stand for a base that was packed
        yield bool((((now - then).abs() > _OTHER * then).float().mean() <= 0.5).item())


_SAID = {
    "FROD": "{layers} it took directions that do not belong to the basis in the file: this machine computes another one; load it a "
    "second time beside itself, model.load_adapter(folder, adapter_name='again') and model.set_adapter('again')",
    "ADAMSS": "{layers} the base gives another basis on this machine than the one in the file, so that nobody can tell whether the "
    'segments have the rows they had in the training; allow=("cannot-tell",) accepts that',
}


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


def _resegmented(model: PeftModel, adapter_name: str, config: Any) -> Iterator[str]:
    for name, layer in model.named_modules():
        basis = getattr(layer, "adamss_newB", {})
        if adapter_name in basis and not _same_segments(layer, adapter_name, basis[adapter_name], config):
            yield name


def _same_segments(layer: Any, adapter_name: str, basis: Any, config: Any) -> bool:
    """PEFT's own computation (`AdamssLayer.update_layer`) again: the file's basis to the last bit, and rows as many as the file has.

    The clusters are drawn with a fixed seed from what comes beside that basis: equal bits here are equal rows there.
    """
    import torch
    from peft.tuners.adamss.utils import slice_pca

    base = layer.get_base_layer()
    whole = base.weight if base.bias is None else torch.cat((base.weight, base.bias.unsqueeze(1)), dim=1)
    seed = {"random_seed": config.random_seed} if hasattr(config, "random_seed") else {}  # PEFT 0.19 has none
    found, _ = slice_pca(whole[None, None].float(), len(basis), whole.device, torch.float32, **seed)
    parts = layer.adamss_B[adapter_name]
    rows = [len(layer.seg_result[adapter_name][at]) for at in layer.train_subspace_index[adapter_name]]
    return torch.equal(found[0, 0].to(basis.dtype), basis) and rows == [len(part) for part in parts]
