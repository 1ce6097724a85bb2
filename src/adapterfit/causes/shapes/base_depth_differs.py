"""The base has fewer or more layers than the adapter.

What this means: tensors for layers that the base does not have are dropped without a word; layers of the base for which the
file has nothing stay as they are, with a warning. Either way the model is not the one that was trained, although every
size fits and nothing raises.

Why it happens: siblings of one width differ in depth only (a pruned or distilled base, a self-merged "frankenmodel" with
repeated layers); the adapter of one loads on the other.

Detection: the layers the file covers are held against the base's: all stray tensors lie in layers beyond its last one,
or all empty slots lie beyond the file's last one.

Fix: load the base of the training, whose depth is named below.

Workaround: where the base was made by repeating layers, `layer_replication` in the config says which layer is which.

Prevention: keep the base's name and revision in the adapter's config.

Setup:
    layers = {name: tensor for name, tensor in load_file("base/model.safetensors").items() if ".layers.1." not in name}
    pruned = LlamaForCausalLM(llama(num_hidden_layers=1))
    pruned.load_state_dict(layers)
    pruned.save_pretrained("pruned")  # the base without its last layer

Broken:
    base = AutoModelForCausalLM.from_pretrained("pruned")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing; the tensors of layer 1 are dropped
    found("adapter", "pruned")  # -> ['base-depth-differs']
    as_trained(model)  # -> False

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit.causes import anatomy, evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import suspect
from adapterfit.causes.lost import names_of
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=10,
    messages=("Found missing adapter keys while loading the checkpoint: ['base_model.model.model.layers.32...', ...]",),
    needs=("config", "diff"),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding, in whichever direction the depths differ."""
    if not evidence.comparable(diff) or evidence.no_target(diff) or case.adapter.config is None:
        return
    if not any(match.slot.role == "tuner" for match in diff.matched):
        return
    named = case.adapter.config.raw.get("base_model_name_or_path")
    fix = Fix("unsafe", f"load the base of the training{f', which the adapter calls {quote(named)}' if named else ''}")
    yield from _fewer(diff, fix)
    if not case.adapter.config.values.get("layers_to_transform"):
        lost = f"{fix.summary}; or, if it has this many layers, take the file that holds all of them"
        yield from _more(case, diff, Fix("unsafe", lost))


def _fewer(diff: Diff, fix: Fix) -> Iterator[Finding]:
    """Stray tensors beyond the base's last layer."""
    if not diff.extra:
        return
    by_name = anatomy.modules(diff)
    last = _last(by_name)
    beyond = [t for t in evidence.tuner_tensors(diff.extra) if _is_beyond(evidence.parts(t.name).module, by_name, last)]
    if not beyond:
        return
    base = {stack: last[stack] + 1 for stack in sorted({_split(evidence.parts(t.name).module)[0] for t in beyond})}
    layers = evidence.layers_said(evidence.layer_number(evidence.parts(t.name).module) for t in beyond)
    yield finding(
        f"{len(beyond)} tensors are for modules{layers}, but this base has {_depths(base)}: they are dropped",
        at=beyond,
        predicted="silent",
        found=f"modules{layers}",
        expected=f"at most {_depths(base)}",
        fix=fix,
    )


def _more(case: Case, diff: Diff, fix: Fix) -> Iterator[Finding]:
    """Empty slots beyond the file's last layer, the same modules being filled in all earlier ones."""
    empty = [slot for slot in diff.missing if slot.role == "tuner" and not slot.optional]
    if not empty:
        return
    held = _last(evidence.parts(tensor.name).module for tensor in evidence.tuner_tensors(case.adapter.tensors))
    places = [_split(slot.module) for slot in empty]
    if any(number is None or number <= held.get(stack, number) for stack, number, _ in places):
        return
    layers = evidence.layers_said(number for _, number, _ in places)
    depth = _depths({stack: held[stack] + 1 for stack in sorted({stack for stack, _, _ in places})})
    yield finding(
        f"the file covers {depth}, this base has more: the adapter has no effect{layers}",
        at=[slot.key for slot in empty],
        predicted="warns",
        confidence="medium",
        found=depth,
        expected=f"tensors{layers} too",
        fix=fix,
    )


def _is_beyond(module: str, by_name: Mapping[str, Any], last: Mapping[str, int]) -> bool:
    """Whether the base has this module in its other layers, but not so many of them."""
    stack, number, rest = _split(module.replace(".base_layer", ""))
    return number is not None and number > last.get(stack, number) and f"{stack}.0{rest}" in by_name


def _split(module: str) -> tuple[str, int | None, str]:
    """`model.layers.7.mlp.up_proj` → `model.layers`, 7, `.mlp.up_proj`."""
    segments = module.split(".")
    at = next((at for at, part in enumerate(segments) if evidence.is_number(part)), None)
    if at is None:
        return module, None, ""
    return ".".join(segments[:at]), int(segments[at]), "".join(f".{part}" for part in segments[at + 1 :])


def _last(modules: Iterable[str]) -> Mapping[str, int]:
    """The last layer of every stack."""
    found: dict[str, int] = {}
    for module in modules:
        stack, number, _ = _split(module)
        if number is not None:
            found[stack] = max(number, found.get(stack, 0))
    return found


def _depths(depths: dict[str, int]) -> str:
    """`32 layers`; with the stack where there are several."""
    if len(depths) == 1:
        return evidence.count(next(iter(depths.values())), "layer")
    return " and ".join(f"{evidence.count(n, 'layer')} in {quote(stack)}" for stack, n in sorted(depths.items()))


#: mlx-lm's functions that replace the layers that the adapter names.
_REPLACES = frozenset({"apply_lora_layers", "linear_to_lora_layers", "load_adapters"})


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: names beyond the last layer of the other, or mlx-lm that runs out of layers while it replaces them."""
    fix = "load the base that base_model_name_or_path names; for mlx-lm, train with the num_layers that are in adapter_config.json"
    names = names_of(symptoms, "base-depth-differs")
    if names is not None:
        yield suspect(
            symptoms, "names are missing from some layer on: the two have another number of layers", names.likelihood, names.lines, fix=fix,
            apart="num_hidden_layers of the base, and the highest layer in the adapter",
        )  # fmt: skip
    replacing = [frame.line for frame in symptoms.frames if frame.function in _REPLACES]
    beyond = [error.line for error in symptoms.errors if error.kind == "IndexError" and "out of range" in error.message]
    if replacing and beyond:
        yield suspect(
            symptoms, "mlx-lm looks for a layer that this base does not have", 0.72, [replacing[-1], *beyond], fix=fix,
            apart="num_hidden_layers of the base, and the highest layer in the adapter",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """mlx-lm at the end of the layers; an index of something else."""
    frame = '  File "/x/site-packages/mlx_lm/tuner/utils.py", line 88, in {}\nIndexError: list index out of range'
    return {"fires": [frame.format("apply_lora_layers")], "silent": [frame.format("load_dataset")]}


def examples(make: Any) -> dict[str, list[Any]]:
    """Deeper and shallower bases; not other sizes, holes between layers, or layers chosen by the config."""
    plain, gpt2 = make.lora("llama"), make.lora("gpt2", target_modules=["c_attn"])
    t5 = make.lora("t5", target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
    return {
        "silent": [
            plain,
            plain.dropped(lambda name: "layers.0." in name),
            plain.on("llama", num_hidden_layers=1, hidden_size=128),
            make.lora("llama", layers_to_transform=[0]).on("llama", num_hidden_layers=4),
            plain.renamed(lambda name: name.replace("q_proj", "z_proj")),
        ],
        "fires": [
            plain.on("llama", num_hidden_layers=1),
            plain.on("llama", num_hidden_layers=4),
            gpt2.on("gpt2", n_layer=1),
            gpt2.on("gpt2", n_layer=3),
            t5.on("t5", num_layers=1),
            t5.on("t5", num_layers=4, num_decoder_layers=4),
        ],
    }
