"""Keys carry a wrapper's prefix, or lack PEFT's own.

What this means: the adapter's tensors are named after a wrapper around the model or its layers (`module.`, `_orig_mod.`,
`_fsdp_wrapped_module.`, `_checkpoint_wrapped_module.`, the attribute of a Lightning module), or PEFT's own
`base_model.model.` is missing, in whole or in part, or stands there twice. No tensor meets its module: PEFT warns once about missing keys and the model answers as if there were no adapter.

Why it happens: the state dict was taken from the wrapped model (torch.compile, DataParallel, DDP, FSDP) instead of the
PeftModel inside it, or it was saved by hand, or converted by a script that dropped or added PEFT's prefix.

Detection: adapterfit tries the known prefixes, and whatever stands before `base_model.`, and accepts one only if every tensor
then lands on a slot of exactly its shape. A module of the base that is really called `module` is left alone.

Fix: rename the keys; the bytes stay. Nothing about the weights changes.

Workaround: load the file yourself, strip the prefix from every key, and pass the result to
`peft.set_peft_model_state_dict(model, state_dict)`; read what it returns.

Prevention: save through `PeftModel.save_pretrained` on the unwrapped model (`accelerator.unwrap_model(model)`).

Setup:
    model = noise(get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS)))
    trained = logits(model)

Broken:
    compiled = torch.compile(model)
    state = {name: tensor for name, tensor in compiled.state_dict().items() if "lora_" in name}
    save_file(state, "adapter/adapter_model.safetensors")  # _orig_mod.base_model.model.…
    base = AutoModelForCausalLM.from_pretrained("base")
    loaded = PeftModel.from_pretrained(base, "adapter")
    # warns: Found missing adapter keys while loading the checkpoint
    as_base(loaded)  # -> True

Fixed:
    model.save_pretrained("adapter")  # the PeftModel itself, not the wrapper
    base = AutoModelForCausalLM.from_pretrained("base")
    loaded = PeftModel.from_pretrained(base, "adapter")
    as_trained(loaded)  # -> True
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit.causes import evidence, retarget
from adapterfit.causes import renames as renamings
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import suspect
from adapterfit.causes.lost import names_of
from adapterfit.records import Case, Diff, Finding, Suspicion, TensorInfo
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

WRAPPERS = ("_orig_mod.", "module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
PEFT = evidence.PREFIX


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding, where one reading of the prefixes makes every stray tensor land; or, if the config is wrong too, sit."""
    stray = list(diff.extra)
    if not stray or not (evidence.no_target(diff) or diff.raised is None or diff.raised.stage != "inject"):
        return
    read = list(_readings(stray, {slot.key for slot in diff.missing}))
    for what, renames in (*read, *(further for one in read for further in _further(diff, *one))):
        fix = retarget.renaming(case, diff, renames)
        if fix is not None:
            yield finding(
                f"{len(stray)} of {len(stray) + len(diff.matched)} tensors are not where PEFT looks: {what}",
                at=stray,
                predicted="raises" if diff.raised is not None else "warns" if diff.warned else "silent",
                found=quote(stray[0].name),
                expected=quote(renames[stray[0]]),
                fix=fix,
                explains=[
                    *(tensor.name for tensor in stray),
                    *evidence.keys_of(renames.values()),
                    *evidence.unasked(diff, renames),
                ],
            )
            return


def _readings(stray: list[TensorInfo], keys: set[str]) -> Iterator[tuple[str, dict[TensorInfo, str]]]:
    """Ways to read all names at once, each with its description."""
    for wrapper in WRAPPERS:
        if all(wrapper in tensor.name for tensor in stray):
            yield (
                f"their names carry {quote(wrapper)}, left by a wrapper",
                {t: unwrapped(t.name, (wrapper,), keys) for t in stray},
            )
    # Around each layer (FSDP), with activation checkpointing in some of them; a model's own `module` (LeViT) is none.
    several = [wrapper for wrapper in WRAPPERS if any(wrapper in tensor.name for tensor in stray)]
    several = [wrapper for wrapper in several if not any(f".{wrapper}" in key for key in keys)]
    if several and (len(several) > 1 or not all(several[0] in tensor.name for tensor in stray)):
        said = " and ".join(map(quote, several))
        yield f"their names carry {said}, left by wrappers", {t: unwrapped(t.name, several, keys) for t in stray}
    head = _head(stray[0].name, keys)
    if head and all(_is_behind(head, tensor.name, keys) for tensor in stray):
        yield (
            f"their names begin with {quote(head)}, as the module that held the PeftModel called it",
            {t: t.name[len(head) :] for t in stray},
        )
    if all(tensor.name.startswith(PEFT + PEFT) for tensor in stray):
        yield f"their names begin with {quote(PEFT)} more than once", {t: _once(t.name) for t in stray}
    if not any(tensor.name.startswith("base_model.") for tensor in stray):
        yield f"their names lack {quote(PEFT)}", {t: PEFT + t.name for t in stray}
    for half, rest in (("base_model.", "model."), ("model.", "base_model.")):
        if all(tensor.name.startswith(half) for tensor in stray):
            lacking = {t: PEFT + t.name[len(half) :] for t in stray}
            yield f"their names lack {quote(rest)} of {quote(PEFT)}", lacking


def _further(diff: Diff, what: str, names: Mapping[TensorInfo, str]) -> Iterator[tuple[str, dict[TensorInfo, str]]]:
    """What is left after that may be the names of another class of the model, or of another transformers."""
    if not all(name.startswith(PEFT) for name in names.values()):
        return
    level = f"{diff.expectation.tree.prefix}."
    bare = {tensor: name[len(PEFT) :] for tensor, name in names.items()}
    if diff.expectation.tree.prefix:
        yield f"{what}, and lack {quote(level)}", {tensor: PEFT + level + rest for tensor, rest in bare.items()}
        if all(rest.startswith(level) for rest in bare.values()):
            less = {tensor: PEFT + rest[len(level) :] for tensor, rest in bare.items()}
            yield f"{what}, and have {quote(level)} too much", less
    moved = {dataclasses.replace(tensor, name=name): tensor for tensor, name in names.items()}
    chain = renamings.chain(diff, moved)
    if chain is not None:
        said = f"{what}, and are those of {'an older' if chain.newer else 'a newer'} transformers"
        yield said, {moved[tensor]: name for tensor, name in chain.names.items()}


def _head(name: str, keys: set[str]) -> str:
    """What stands before PEFT's own part of a name, or before the key of a prompt; empty where nothing does."""
    before, found, _ = name.partition("base_model.")
    if not found:
        before = next((name[: -len(key)] for key in keys if name.endswith(f".{key}")), "")
    return before if before.endswith(".") else ""


def _is_behind(head: str, name: str, keys: set[str]) -> bool:
    rest = name[len(head) :]
    return name.startswith(head) and (rest.startswith("base_model.") or rest in keys)


def _once(name: str) -> str:
    while name.startswith(PEFT + PEFT):
        name = name[len(PEFT) :]
    return name


def unwrapped(name: str, wrappers: Iterable[str], keys: set[str]) -> str:
    """Without these wrappers, wherever they stand on a dot boundary; with PEFT's prefix where that went missing too.

    Names of a prompt never had it.
    """
    bare = f".{name}"
    for wrapper in wrappers:
        bare = bare.replace("." + wrapper, ".")
    bare = bare[1:]
    return bare if bare.startswith("base_model.") or bare in keys else PEFT + bare


def examples(make: Any) -> dict[str, list[Any]]:
    """`module.` in front, inside and behind PEFT's prefix; and a base that fits as it is."""
    plain = make.lora("llama")
    fires = [plain.renamed(lambda name, w=wrapper: w + name) for wrapper in WRAPPERS]
    fires += [plain.renamed(lambda name, w=wrapper: name.replace(PEFT, PEFT + w)) for wrapper in WRAPPERS]
    fires += [
        plain.renamed(lambda name: name[len(PEFT) :]),
        plain.renamed(lambda name: PEFT + name),
        make.lora("gpt2", target_modules=["c_attn"]).renamed(lambda name: name.replace(PEFT, "base_model.", 1)),
    ]
    layered = plain.renamed(lambda name: name.replace(".0.", ".0._fsdp_wrapped_module._checkpoint_wrapped_module."))
    fires += [
        layered.renamed(lambda name: name.replace(".1.", ".1._fsdp_wrapped_module.")),
        plain.renamed(lambda name: PEFT + PEFT + name),
        make.lora("gpt2", target_modules=["c_attn"]).renamed(lambda name: name[len("base_model.") :]),
    ]
    fires += [plain.renamed(lambda name: "model." + name), plain.renamed(lambda name: "student.encoder." + name)]
    prompt = make.adapter("llama", peft_type="PROMPT_TUNING", num_virtual_tokens=8)
    fires += [prompt.renamed(lambda name, w=w: w + name) for w in ("module.", "student.")]
    fires += [each.with_config(target_modules=targets) for each in fires[:1] for targets in (["q_proj"], ["nowhere"])]
    inner, older = PEFT + "model.", "base_model.model.language_model.model."
    llava = make.lora("llava", target_modules=r".*language_model.*\.q_proj", task_type=None)
    fires += [
        plain.renamed(lambda name: name[len(inner) :]),
        plain.renamed(lambda name: "module." + PEFT + name[len(inner) :]),
        llava.renamed(lambda name: "module." + name.replace("base_model.model.model.language_model.", older)),
    ]
    return {"fires": fires, "silent": [plain, plain.renamed(lambda name: name.replace("q_proj", "submodule.q_proj"))]}


CAUSE = Cause(
    severity="error",
    level="beginner",
    minutes=2,
    messages=("Found missing adapter keys while loading the checkpoint: [...]",),
    needs=("diff",),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "_orig_mod", "torch.compile", "_fsdp_wrapped_module", "dataparallel", "module.",
)  # fmt: skip

#: How the names of layers in diffusers' own models begin; other programs' names of the same layers are another dialect.
_DIFFUSERS = ("transformer_blocks.", "single_transformer_blocks.", "down_blocks.", "up_blocks.", "mid_block.")


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: a wrapper's prefix in the names, or full paths that find nothing in an image model."""
    found = names_of(symptoms, "wrapper-prefix")
    if found is not None:
        named = f": {quote(found.old)} in the file, {quote(found.new)} in the model" if found.new else ""
        yield suspect(
            symptoms, f"the names carry what a wrapper put before them{named}", found.likelihood, found.lines,
            fix=f"rename the keys without {quote(found.old)}: adapterfit fix ADAPTER --base BASE" if found.old and not found.new
            else "rename the keys: adapterfit fix ADAPTER --base BASE --out FIXED",
            apart="the first key of the file: _orig_mod., module., _fsdp_wrapped_module., or base_model.model. twice or not at all",
        )  # fmt: skip
    for targets in symptoms.targets:
        paths = [name for name in targets.names if targets.wording == "not-found" and name.count(".") > 1]
        if paths and len(paths) == len(targets.names) and all(name.startswith(_DIFFUSERS) for name in paths):
            yield suspect(
                symptoms, "the adapter names full paths, and the model's begin otherwise: it is compiled or wrapped", 0.85,
                [targets.line], fix="load the adapter before torch.compile, or into model._orig_mod",
                apart="the first name in model.named_modules(): _orig_mod means compiled",
            )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Prefixes on one side, or merely said; a nesting of the model's own is none."""
    key = "model.layers.0.self_attn.q_proj.lora_A.default.weight"
    return {
        "fires": [
            f'Missing key(s) in state_dict: "base_model.model.{key}". Unexpected key(s) in state_dict: "module.base_model.model.{key}".',
            f"the keys look like _orig_mod.base_model.model.{key}",
            "ValueError: Target modules {'transformer_blocks.3.attn.to_k'} not found in the base model.",
        ],
        "silent": [
            f"Found missing adapter keys while loading the checkpoint: ['base_model.model.model.language_model.{key}']."
        ],
    }
