"""What an older pair of libraries, or another loader, refuses before an adapter is looked at: each other, the base, the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.consumers import model_types
from adapterfit.records import Adapter, Base, Flaw
from adapterfit.text import quote, show

CODES = frozenset(
    (
        "libraries-clash",
        "base-unknown-to-transformers",
        "safetensors-unknown-to-loader",
        "pickle-run-by-loader",
        "loader-refuses",
    )
)
#: Methods without layers of their own, which `inject_adapter_in_model` refuses.
_PROMPTS = frozenset((
    "PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE", "ADAPTION_PROMPT", "SHADOW",
))  # fmt: skip
_OTHERWISE = "load it with PeftModel.from_pretrained(base, folder)"


def refusals(rules: Mapping[str, Any], adapter: Adapter, base: Base | None) -> tuple[Flaw, ...]:
    """Flaws in the order in which the load would come to them; the adapter's config is as these libraries take it."""
    by_loader = _by_loader(rules, adapter, base) if "loader" in rules else ()
    of_file = (*_unread(rules, adapter), *_run(rules, adapter))
    return (*_clash(rules), *_unknown_base(rules, base), *of_file, *by_loader)


def _clash(rules: Mapping[str, Any]) -> Iterator[Flaw]:
    line = rules.get("import")
    if line is not None:
        yield Flaw(
            "libraries-clash",
            f"peft {rules['peft']} cannot be imported beside transformers {rules['transformers']}: {show(line)}",
            found=f"transformers {rules['transformers']}",
            expected=f"transformers{rules.get('import-needs', '')}",
            raised=str(line),
            remedy=f"pip install 'transformers{rules['import-needs']}'" if "import-needs" in rules else "",
        )


def _unknown_base(rules: Mapping[str, Any], base: Base | None) -> Iterator[Flaw]:
    kind = base.model_type if base is not None and base.tree is None else ""
    transformers = str(rules["transformers"])
    if not kind or not model_types.lacks(transformers, kind):
        return
    first, last = model_types.bounds(kind) or ("", "")
    gone = model_types.lacks(model_types.releases()[-1], kind)
    yield Flaw(
        "base-unknown-to-transformers",
        f"transformers {show(transformers)} does not know the model type {quote(kind)} of the base: it came with "
        f"{first}" + (f" and was there until {last}" if gone else ""),
        found=f"transformers {show(transformers)}",
        expected=f"transformers >= {first}",
        raised=_unrecognised(kind, transformers),
        remedy=f"pip install 'transformers>={first}" + (f",<={last}'" if gone else "'"),
    )


def _unrecognised(kind: str, transformers: str) -> str:
    """AutoConfig raises a bare KeyError until 4.36, and explains itself from then on."""
    from adapterfit.consumers.versions import version

    if version(transformers) < version("4.36"):
        return f"KeyError: {show(repr(kind))}"
    return (
        f"ValueError: The checkpoint you are trying to load has model type `{show(kind)}` but Transformers does not recognize "
        "this architecture. This could be because of an issue with the checkpoint, or because your version of Transformers "
        "is out of date."
    )


def _unread(rules: Mapping[str, Any], adapter: Adapter) -> Iterator[Flaw]:
    weights = adapter.weights
    if weights is None or rules.get("safetensors", True) or not weights.file.endswith(".safetensors"):
        return
    label = show(adapter.label)
    yield Flaw(
        "safetensors-unknown-to-loader",
        f"PEFT {rules['peft']} reads adapter_model.bin only, and the adapter is in {show(weights.file)}",
        where=weights.file,
        found=show(weights.file),
        expected="adapter_model.bin",
        raised=f"ValueError: Can't find weights for {label} in {label} or in the Hugging Face Hub. Please check that the file "
        f"adapter_model.bin is present at {label}.",
        remedy="pip install 'peft>=0.4', or write the tensors to adapter_model.bin with torch.save",
    )


def _run(rules: Mapping[str, Any], adapter: Adapter) -> Iterator[Flaw]:
    """A pickle that does more than describe tensors, where the loader does not forbid torch to run it."""
    weights = adapter.weights
    risky = weights is not None and any(flaw.code == "pickle-not-plain" for flaw in weights.flaws)
    if weights is None or not risky or rules.get("weights-only") != "left to torch":
        return
    yield Flaw(
        "pickle-run-by-loader",
        f"PEFT {rules['peft']} does not ask torch for weights_only: before torch 2.6 what is in {show(weights.file)} runs",
        where=weights.file,
        severity="warning",
        refused=False,
        remedy="pip install 'peft>=0.13', which asks for it with any torch, or get the adapter as safetensors",
        predicted="none",
    )


def _by_loader(rules: Mapping[str, Any], adapter: Adapter, base: Base | None) -> Iterator[Flaw]:
    """The first refusal of a loader other than `PeftModel.from_pretrained`."""
    found = next(((str(line), why, cure) for line, why, cure in _lines(rules, adapter) if line), None)
    if found is None:
        return
    line, why, cure = found
    model = base.architecture if base is not None and base.architecture else "PreTrainedModel"
    raised = line.replace("{model}", show(model)).replace("{folder}", show(adapter.label))
    yield Flaw("loader-refuses", f"{rules['loader']} {why}", raised=raised, remedy=cure)


def _lines(rules: Mapping[str, Any], adapter: Adapter) -> Iterator[tuple[Any, str, str]]:
    """What it would raise (None where it does not), why, and the way out; in the order in which it comes to them."""
    config = adapter.config
    method = config.peft_type if config is not None else ""
    yield rules.get("absent"), f"is not there in transformers {rules['transformers']}", _OTHERWISE
    yield rules.get("needs"), f"of transformers {rules['transformers']} needs a newer peft", "pip install -U peft"
    if config is not None and any(flaw.predicted == "raises" and flaw.raised for flaw in config.flaws):
        return  # the config is read before the adapter's method is asked about anything
    yield from _of_method(rules, method)
    top = config is not None and bool(config.values.get("save_only_topk_weights"))
    yield rules.get("top-k") if top else None, "looks for the bank of vectors in the base", _OTHERWISE
    values = config.values if config is not None else {}
    sooner = rules.get("classifier") and values.get("task_type") == "SEQ_CLS"
    bias = not sooner and values.get("bias") not in (None, "none")
    line = str(rules.get("bias", "")).replace("{tuner}", _TUNERS.get(method, f"{method.title()}Model"))
    yield (
        line if bias else None,
        "takes one adapter that trains biases, and there is another one with this config",
        ("load it alone, with PeftModel.from_pretrained(base, folder)"),
    )
    weights = adapter.weights
    pickled = weights is not None and weights.file.endswith(".bin") and "://" not in adapter.label
    yield (
        rules.get("bin") if pickled else None,
        (
            f"looks for adapter_model.safetensors, and the adapter is in {show(weights.file if weights is not None else '')}"
        ),
        f"{_OTHERWISE}, or write it as safetensors",
    )


_TUNERS = {"LORA": "LoraModel", "ADALORA": "AdaLoraModel", "OFT": "OFTModel", "BOFT": "BOFTModel", "C3A": "C3AModel"}


def _of_method(rules: Mapping[str, Any], method: str) -> Iterator[tuple[Any, str, str]]:
    yield rules.get("prompts") if method in _PROMPTS else None, f"does not take {show(method)}", _OTHERWISE
    shared = (
        f"ValueError: `inject_adapter_in_model` does not support PeftType.{show(method)} because it uses shared state stored on the "
        "tuner. Please use `get_peft_model` instead."
    )
    why = f"does not take {show(method)}: its layers share a part of the adapter"
    yield shared if method in rules.get("shared-state", ()) else None, why, _OTHERWISE
    yield (
        rules.get(method.lower()) if method in ("POLY", "ADALORA", "XLORA") else None,
        (f"does not work with {show(method)}"),
        _OTHERWISE,
    )
