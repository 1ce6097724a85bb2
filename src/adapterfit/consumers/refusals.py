"""What an older pair of libraries refuses before an adapter is looked at: each other, the base, the weights file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.consumers import model_types
from adapterfit.records import Adapter, Base, Flaw
from adapterfit.text import quote, show

CODES = frozenset(("libraries-clash", "base-unknown-to-transformers", "safetensors-unread"))


def refusals(rules: Mapping[str, Any], adapter: Adapter, base: Base | None) -> tuple[Flaw, ...]:
    """Flaws in the order in which the load would come to them."""
    return (*_clash(rules), *_unknown_base(rules, base), *_unread(rules, adapter))


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
        "safetensors-unread",
        f"PEFT {rules['peft']} reads adapter_model.bin only, and the adapter is in {show(weights.file)}",
        where=weights.file,
        found=show(weights.file),
        expected="adapter_model.bin",
        raised=f"ValueError: Can't find weights for {label} in {label} or in the Hugging Face Hub. Please check that the file "
        f"adapter_model.bin is present at {label}.",
        remedy="pip install 'peft>=0.4', or write the tensors to adapter_model.bin with torch.save",
    )
