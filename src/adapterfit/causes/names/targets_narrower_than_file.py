"""The file holds weights for modules that the config does not select.

What this means: adapter_config.json decides which modules PEFT wraps. Tensors for other modules of the base are dropped
without a word, although the base has the modules and the sizes fit: a part of the training is gone.

Why it happens: target_modules, layers_to_transform, exclude_modules or a regular expression was edited by hand or by a
merging script; or an older PEFT read them otherwise (up to 0.4 "proj" also matched `q_proj`; from 0.8 to 0.19
layers_to_transform looked at the last number of a path, the expert, not the layer).

Detection: for each stray tensor the base has a module of exactly that path and size, which the config leaves out.

Fix: set target_modules to the full paths that the tensors name, and clear layers_to_transform, layers_pattern and
exclude_modules. The tensors prove which modules were trained; rank and alpha stay as they are.

Workaround: none needed; the config is a text file.

Prevention: keep the adapter_config.json that was written together with the weights.

Setup:
    change_config(target_modules=["q_proj"])  # the file also holds v_proj

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing
    as_trained(model)  # -> False
    found()  # -> ['targets-narrower-than-file']

Fixed:
    change_config(target_modules=["q_proj", "v_proj"])
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from adapterfit.causes import anatomy, evidence, retarget
from adapterfit.causes.cause import Cause, finding
from adapterfit.edits import SetConfig
from adapterfit.records import Case, Diff, Finding, Fix, TensorInfo
from adapterfit.text import shorten, show

CAUSE = Cause(
    level="intermediate",
    minutes=3,
    messages=(
        "NoMatchingPeftModuleError: Target modules {'nope'} not found in the base model. Please check the target modules",
        "NoMatchingPeftModuleError: No modules were targeted for adaptation.",
    ),
    needs=("config", "diff"),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding for all tensors of modules that are there and left out."""
    if not evidence.comparable(diff):
        return
    left_out = _left_out(diff)
    if not left_out or (evidence.no_target(diff) and len(left_out) < len(anatomy.of_modules(diff.extra))):
        return
    tensors = [tensor for held in left_out.values() for tensor in held]
    inner = tuple(f"{evidence.PREFIX}{module}.base_layer." for module in left_out)
    listed = set(tensors)
    tensors += [tensor for tensor in diff.extra if tensor.name.startswith(inner) and tensor not in listed]
    own = anatomy.modules(diff)
    here = {
        module: held
        for module, held in anatomy.of_modules(case.adapter.tensors).items()
        if not retarget.of_parameter(case, own, module)
    }
    sit = anatomy.sit(diff, {tensor: tensor.name for held in here.values() for tensor in held})
    edits = retarget.config_edits(case, diff, {}) if sit else None
    alone = len(tensors) == len(evidence.tuner_tensors(diff.extra))
    idle = [slot.key for slot in diff.missing if alone and slot.role == "tuner" and slot.module not in here]
    yield finding(
        f"{len(tensors)} tensors are for modules that the base has and the config does not select: "
        f"{said(left_out)}; {_fields(case)}",
        at=tensors,
        predicted="raises" if evidence.no_target(diff) else "silent",
        found=shorten(left_out, 2),
        expected="modules that adapter_config.json selects",
        fix=_fix(edits, len(here)),
        explains=[*(tensor.name for tensor in tensors), *idle],
    )


def _left_out(diff: Diff) -> dict[str, list[TensorInfo]]:
    """Modules of the base for which the file has tensors of the right size, and which are not wrapped."""
    by_name, wrapped = anatomy.modules(diff), frozenset(diff.expectation.targets)
    return {
        module: tensors
        for module, tensors in anatomy.of_modules(diff.extra).items()
        if module not in wrapped
        and all(anatomy.belongs(by_name.get(module), evidence.parts(t.name).leaf, t.shape) for t in tensors)
    }


def said(modules: Iterable[str]) -> str:
    """Modules by their last name, with their layers: `v_proj in layers 0-31`."""
    layers: dict[str, list[int | None]] = {}
    for module in modules:
        layers.setdefault(module.rpartition(".")[2], []).append(evidence.layer_number(module))
    listed = [f"{show(leaf)}{evidence.layers_said(held)}" for leaf, held in layers.items()]
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")


def _fields(case: Case) -> str:
    """The fields that select, as they stand."""
    values = case.adapter.config.values if case.adapter.config is not None else {}
    names = ("target_modules", "layers_to_transform", "layers_pattern", "exclude_modules")
    return ", ".join(f"{name} = {show(values[name], 80)}" for name in names if values.get(name) not in (None, [], ""))


def _fix(edits: tuple[Any, ...] | None, modules: int) -> Fix:
    if edits is None:
        return Fix("unsafe", "select these modules in adapter_config.json too")
    cleared = [edit.key for edit in edits if isinstance(edit, SetConfig) and edit.value is None]
    more = f" and clear {', '.join(cleared)}" if cleared else ""
    said_modules = evidence.count(modules, "module")
    return Fix("safe", f"set target_modules to the full paths of the {said_modules} in the file{more}", edits)


def examples(make: Any) -> dict[str, list[Any]]:
    """Narrowed by each field there is; silent where the base lacks the module."""
    full = make.lora("llama", target_modules=["q_proj", "v_proj", "down_proj"])
    gpt2 = make.lora("gpt2", target_modules=["c_attn", "c_fc"])
    return {
        "silent": [
            full,
            full.renamed(lambda name: name.replace("layers.1.", "layers.7.")),
            full.reshaped(lambda name: "v_proj.lora_B" in name, lambda _s: (48, 4)).with_config(
                target_modules=["q_proj", "down_proj"]
            ),
            full.with_config(target_modules=["q_proj", "v_proj", "down_proj", "k_proj"]),
        ],
        "fires": [
            full.with_config(target_modules=["q_proj", "v_proj"]),
            full.with_config(layers_to_transform=[0]),
            full.with_config(exclude_modules=["down_proj"]),
            full.with_config(target_modules=r".*layers\.0.*q_proj"),
            full.with_config(target_modules=["nope"]),
            gpt2.with_config(target_modules=["c_fc"]),
            make.adapter("llama", peft_type="LOKR", r=4, target_modules=["q_proj", "v_proj"]).with_config(
                target_modules=["v_proj"]
            ),
            make.adapter("llama", peft_type="VERA", target_modules=["q_proj", "down_proj"]).with_config(
                target_modules=["q_proj"]
            ),
        ],
    }
