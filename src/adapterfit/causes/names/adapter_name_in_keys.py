"""Keys carry the adapter's name, or lost a part of theirs to it.

What this means: inside a model every tuner weight is called after its adapter (`lora_A.default.weight`); in a file that
segment is left out. A file that still has it, or in which a piece of the module's path was cut out together with it, meets
no module: PEFT warns about missing keys and the tensors do nothing. With the name "default" peft 0.21 finds them all the same.

Why it happens: the raw state dict was saved by hand; or `save_pretrained` of peft <= 0.17.1 cut the adapter's name out of
the whole key, so that an adapter called "lora", "model", "0" or "q_proj" lost parts of its module paths as well.

Detection: the segment is taken out, or put back in where PEFT's old replacement took it, and the reading is accepted
only if every tensor then lands on a slot of its own with exactly its shape, in one way only.

Fix: rename the keys; the bytes stay.

Workaround: load the file yourself, rename the keys, and pass the result to `peft.set_peft_model_state_dict`.

Prevention: save with `model.save_pretrained`, peft >= 0.18; do not call an adapter "lora", "model" or like a module.

Setup:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = noise(get_peft_model(base, LoraConfig(**OPTIONS), adapter_name="french"))
    trained = logits(model)

Broken:
    state = {name: tensor for name, tensor in model.state_dict().items() if "lora_" in name}
    save_file(state, "adapter/adapter_model.safetensors")  # ….lora_A.french.weight
    base = AutoModelForCausalLM.from_pretrained("base")
    loaded = PeftModel.from_pretrained(base, "adapter")
    # warns: Found missing adapter keys while loading the checkpoint
    as_base(loaded)  # -> True

Fixed:
    model.save_pretrained("adapter")  # into adapter/french, without the name in the keys
    base = AutoModelForCausalLM.from_pretrained("base")
    loaded = PeftModel.from_pretrained(base, "adapter/french")
    as_trained(loaded)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.causes.tensor_names import tuner
from adapterfit.edits import Rename
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion, TensorInfo
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=2,
    messages=(
        "Found missing adapter keys while loading the checkpoint: ['base_model...q_proj.lora_A.default.weight', ...]",
        "KeyError: 'base_model.model.classifier.weight'",
        "Adapter name 'lora' should not be contained in the prefix 'lora_'.",
    ),
    needs=("weights",),
)
#: Where an adapter's own name follows, beside the attributes of the tuners.
_HOLDERS = ("modules_to_save", "trainable_tokens_delta")
_PROMPT_MODULE = "prompt_encoder."
_PROMPT = "prompt_embeddings"
_LORA = ("lora_A.", "lora_B.")
#: Adapters of one file that are named.
_SHOWN = 4


def check(case: Case, diff: Diff | None) -> Iterator[Finding]:
    """One finding where all stray tensors land under one reading; a note where they land as they are."""
    if diff is None:
        yield from _whatever_the_base(case.adapter.tensors)
        return
    if not evidence.comparable(diff) or evidence.no_target(diff):
        return
    stray = list(diff.extra)
    if stray:
        yield from _stray(diff, stray)
    prompts = {m.tensor: m.slot.key for m in diff.matched if m.slot.role == "prompt" and m.tensor.name != m.slot.key}
    if prompts and diff.raised is not None:
        yield finding(
            f"the prompt lies under the name it has in the model, {quote(next(iter(prompts)).name)}",
            at=prompts,
            predicted="raises",
            found=quote(next(iter(prompts)).name),
            expected=quote(_PROMPT),
            fix=_rename(prompts),
        )
    inside = [m for m in diff.matched if m.tensor.name == m.slot.model_key != m.slot.key and m.slot.role == "tuner"]
    if inside:
        names = {m.tensor: m.slot.key for m in inside}
        yield finding(
            f'{len(inside)} keys carry the adapter\'s name "default", as {quote(inside[0].tensor.name)} does: '
            "peft 0.21 loads them; peft <= 0.20 and model.load_adapter of transformers lose them, and a second adapter beside one of "
            "that name writes them over the first one's",
            at=names,
            severity="note",
            predicted="none",
            fix=_rename(names),
        )


def _whatever_the_base(tensors: tuple[TensorInfo, ...]) -> Iterator[Finding]:
    """Names that no base can have: the segment after `lora_A`, or the prompt under the name it has in the model."""
    tuned = [tensor for tensor in tensors if evidence.parts(tensor.name).leaf.startswith(_LORA)] or list(tensors)
    for what, names in (*_with_segment(tuned), *_prompt(tuned)):
        if tuned and all(".default." not in tensor.name for tensor in tuned):
            name = names[tuned[0]]
            yield finding(
                f"PEFT looks for other names, whatever the base: {what}",
                at=tuned,
                predicted="raises" if name == _PROMPT else "warns",
                found=quote(tuned[0].name),
                expected=quote(name),
                fix=Fix("unsafe", f"rename the keys, such as {quote(tuned[0].name)} to {quote(name)}"),
            )
            return


def _stray(diff: Diff, stray: list[TensorInfo]) -> Iterator[Finding]:
    second = diff.expectation.config.get("loader rules", {}).get("loader") == "PeftModel.load_adapter"
    harm = "; those of an adapter of that name, loaded before, are overwritten" if second else ""
    for what, names in (*_with_segment(stray), *_cut(diff, stray), *_prompt(stray)):
        if evidence.lands(diff, names):
            yield finding(
                f"{len(stray)} of {len(stray) + len(diff.matched)} tensors are not where PEFT looks: {what}{harm}",
                at=stray,
                predicted="raises" if diff.raised is not None else "warns" if diff.warned else "silent",
                found=quote(stray[0].name),
                expected=quote(names[stray[0]]),
                fix=_rename(names),
                explains=[*(t.name for t in stray), *evidence.keys_of(names.values())],
            )
            return
    yield from _several(diff, stray)


def _several(diff: Diff, stray: list[TensorInfo]) -> Iterator[Finding]:
    """Several adapters in one file, each under its own name, and any of which would land: which is meant, nothing tells."""
    held: dict[str, dict[TensorInfo, str]] = {}
    for tensor in stray:
        name, segment = _without_segment(tensor.name)
        held.setdefault(segment if name else "", {})[tensor] = name
    alike = len({frozenset(names.values()) for names in held.values()}) == 1
    if len(held) < 2 or not alike or not all(held) or not all(evidence.lands(diff, names) for names in held.values()):
        return
    listed = list(held.items())[:_SHOWN]
    more = f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
    yield finding(
        f"the file holds {len(held)} adapters, {' and '.join(quote(segment) for segment, _ in listed)}{more}: PEFT loads one from a "
        "folder, without its name in the keys",
        at=stray,
        predicted="raises" if diff.raised is not None else "warns" if diff.warned else "silent",
        found=quote(stray[0].name),
        expected=quote(next(iter(listed[0][1].values()))),
        fix=Fix(
            "unsafe",
            "save each into a folder of its own: model.save_pretrained(folder) does so",
            readings=tuple(
                f"{quote(segment)} is meant: take its {evidence.count(len(names), 'tensor')}, leave out the others"
                for segment, names in listed
            ),
        ),
        explains=[*(t.name for t in stray), *(k for _, names in listed for k in evidence.keys_of(names.values()))],
    )


def _rename(names: Mapping[TensorInfo, str]) -> Fix:
    tensor, name = next(iter(names.items()))
    edits = tuple(Rename(t.name, new) for t, new in names.items())
    return Fix(
        "safe", f"rename {evidence.count(len(names), 'key')}, such as {quote(tensor.name)} to {quote(name)}", edits
    )


# ------------------------------------------------------------------------------------------ the segment is there


def _with_segment(stray: list[TensorInfo]) -> Iterator[tuple[str, dict[TensorInfo, str]]]:
    """Without the segment after a tuner's attribute, or with a module's copy under the module's own name."""
    taken = {tensor: _without_segment(tensor.name) for tensor in stray}
    found = {segment for _, segment in taken.values()}
    if all(name for name, _ in taken.values()):
        said = " and ".join(quote(segment) for segment in sorted(found - {""})) or quote("modules_to_save")
        yield f"their names carry the adapter's own, {said}", {t: name for t, (name, _) in taken.items()}


def _without_segment(name: str) -> tuple[str, str]:
    """`….lora_A.foo.weight` → `….lora_A.weight`, `foo`; an empty name where nothing can be taken out."""
    segments = name.split(".")
    at = next(
        (i for i, part in enumerate(segments) if part in _HOLDERS or part.startswith(evidence.TUNER_PREFIXES)), None
    )
    if at is None:
        return "", ""
    if segments[at] == "modules_to_save":
        rest = segments[at + 1 :]
        named = len(rest) > 1
        return ".".join([*segments[:at], *rest[named:]]), rest[0] if named else ""
    rest = segments[at + 1 :]
    bare = rest in (["weight"], ["bias"], [])
    return ("", "") if bare else (".".join([*segments[: at + 1], *rest[1:]]), rest[0])


# ------------------------------------------------------------------------------------------ a piece was cut out


def _cut(diff: Diff, stray: list[TensorInfo]) -> Iterator[tuple[str, dict[TensorInfo, str]]]:
    """The one adapter name whose removal from PEFT's keys, anywhere in them, gives the names in the file."""
    keys = {_saved(slot.key): slot.shape for slot in diff.missing}
    first = next((tensor for tensor in stray if evidence.parts(tensor.name).leaf), stray[0])
    own = {tensor.shape for tensor in stray if not evidence.parts(tensor.name).leaf}
    readings = {}
    for name in _adapter_names(first, keys):
        if own:  # the base's own weights, which PEFT saves beside a LoRA on an embedding
            state = diff.expectation.state
            keys.update({key: state[key] for key in state if state[key] in own and ".default" not in key})
        cut: dict[str, list[str]] = {}
        for key in keys:
            cut.setdefault(key.replace(f".{name}", ""), []).append(key)
        found = {t: [key for key in cut.get(t.name, ()) if keys[key] == t.shape] for t in stray}
        if all(len(ways) == 1 for ways in found.values()) and not _in_front(found):
            readings[name] = {t: ways[0] for t, ways in found.items()}
    if len({tuple(reading.values()) for reading in readings.values()}) == 1:
        name, reading = next(iter(readings.items()))
        yield (
            f"PEFT <= 0.17.1 cut {quote('.' + name)}, the name this adapter had, out of their paths",
            reading,
        )


def _saved(key: str) -> str:
    """DoRA's vector is looked up under a longer name than it is saved by."""
    return key[: -len(".weight")] if key.endswith(".lora_magnitude_vector.weight") else key


def _in_front(found: Mapping[TensorInfo, list[str]]) -> bool:
    """Whether the readings differ in front of the layers' own name only: another class or version, no adapter's name."""
    return all(
        _from_number(t.name) == _from_number(ways[0])
        if t.name.startswith(evidence.PREFIX)
        else ways[0] == evidence.PREFIX + t.name[len("base_model.") :]
        for t, ways in found.items()
    )


def _from_number(name: str) -> list[str]:
    """The segments from the one before the first number on; where there is none, from the module's own name on."""
    segments = name.split(".")
    own = len(evidence.parts(name).leaf.split(".")) + 1
    first = next((i for i, part in enumerate(segments) if evidence.is_number(part)), 0)
    return segments[first - 1 if first else len(segments) - own :]


def _adapter_names(tensor: TensorInfo, keys: Mapping[str, Any]) -> set[str]:
    """Adapter names that turn a key of this shape into the tensor's name. They may be cut out up to four times."""
    found = set()
    for key, shape in keys.items():
        gone = len(key) - len(tensor.name)
        if shape != tensor.shape or gone < 2:
            continue
        same = next((i for i, (a, b) in enumerate(zip(key, tensor.name)) if a != b), len(tensor.name))
        for length in {gone // times for times in range(1, 5) if gone % times == 0}:
            pieces = {key[at : at + length] for at in range(max(same - length, 0), same + 1) if key[at] == "."}
            found |= {piece[1:] for piece in pieces if key.replace(piece, "") == tensor.name and len(piece) > 1}
    return found


def _prompt(stray: list[TensorInfo]) -> Iterator[tuple[str, dict[TensorInfo, str]]]:
    """The prompt under its name in the model."""
    if len(stray) == 1 and stray[0].name.startswith(_PROMPT_MODULE) and stray[0].name.endswith("embedding.weight"):
        yield "the prompt lies under the name it has in the model", {stray[0]: _PROMPT}


def examples(make: Any) -> dict[str, list[Any]]:
    """A segment of any name, in LoRA and in heads; what peft <= 0.17.1 left of paths; "default" is a note."""
    plain = make.lora("llama")
    head = make.lora("bert", target_modules=["query"], task_type="SEQ_CLS")
    named = [plain.renamed(lambda n, a=a: n.replace(".weight", f".{a}.weight")) for a in ("foo", "default", "weight")]
    cut = [plain.renamed(lambda n, a=a: n.replace(f".{a}", "")) for a in ("lora", "0", "model", "q_proj", "self_attn")]
    fires = [
        *named,
        *cut,
        make.adapter("llama", peft_type="IA3", target_modules=["k_proj"], feedforward_modules=[]).renamed(
            lambda name: name + ".foo"
        ),
        *(
            head.renamed(lambda name, a=a: name.replace("classifier.", f"classifier.modules_to_save.{a}."))
            for a in ("foo", "default")
        ),
        make.adapter("llama", peft_type="PROMPT_TUNING", num_virtual_tokens=8).renamed(
            lambda _name: "prompt_encoder.default.embedding.weight"
        ),
        make.adapter("llama", peft_type="PROMPT_TUNING", num_virtual_tokens=8).renamed(
            lambda _name: "prompt_encoder.embedding.weight"
        ),
    ]
    fires += [named[0].on_base(None), fires[-1].on_base(None)]
    bar = {slot.name.replace(".weight", ".bar.weight"): slot.shape for slot in plain.adapter.tensors}
    fires.append(named[0].added(bar))
    half = plain.renamed(lambda name: name.replace(".weight", ".foo.weight")).added(
        {name.replace(".weight", ".bar.weight"): (4, 64) for name in plain.names if "lora_A" in name}
    )
    return {
        "fires": fires,
        "silent": [
            plain,
            head,
            half,
            plain.on_base(None),
            named[1].on_base(None),
            plain.renamed(lambda name: name.replace("q_proj", "lora_q")),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "adapter name", ".default.",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: PEFT's own warning, or names in which the adapter's name shows."""
    fix = "rename the keys in the file: adapterfit fix ADAPTER --base BASE --out FIXED; call no adapter 'lora'"
    told = said(symptoms, "should not be contained in the prefix")
    if told:
        yield suspect(
            symptoms,
            "the adapter's name is a part of the method's prefix, so names were mangled at saving",
            0.95,
            told,
            fix=fix,
        )
    copies = [
        e.line
        for e in symptoms.errors
        if e.kind == "KeyError"
        and e.message.strip("'\" ").startswith("base_model.model.")
        and not tuner(e.message.strip("'\" "))
        and "token_adapter" not in e.message
    ]
    if copies:
        yield suspect(
            symptoms,
            "a copy of a module may lie in the file under a name that an adapter's name was cut out of",
            0.4,
            copies,
            fix=fix,
        )
    found = names_of(symptoms, "adapter-name-in-keys")
    if found is not None:
        yield suspect(
            symptoms, "the adapter's name, or what was cut out with it, shows in the names", found.likelihood, found.lines, fix=fix,
            apart="the first key of the file: lora_A.<name>.weight, or a module's path with a piece missing",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """The warning; a mangled name; the usual name is fine."""
    return {
        "fires": [
            "UserWarning: Adapter name 'lora' should not be contained in the prefix 'lora_'. This may lead to reinitialization",
            "Found missing adapter keys; the file has base_model.model.model.layers.0.self_attn.q_proj_A.weight",
        ],
        "silent": [
            "Found missing adapter keys while loading the checkpoint: ['base_model.model.h.0.attn.c_attn.lora_A.default.weight']"
        ],
    }
