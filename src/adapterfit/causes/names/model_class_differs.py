"""The adapter was saved from another class of the same model: its names have one level more or less.

What this means: a model with a head holds the bare model under one more name (`model.`, `bert.`, `transformer.`). An adapter
trained on `LlamaModel` and loaded on `LlamaForCausalLM`, or the other way round, names every module one level too high
or too deep. PEFT warns about missing keys, drops every tensor, and the model answers as if there were no adapter.

Why it happens: training used AutoModel (embeddings, a custom head) and inference an AutoModelFor…, or the reverse; the
adapter's task_type and auto_mapping, which say what it was trained on, were not heeded.

Detection: the prefix of the base's class is added to, or taken from, every stray name; accepted only if all of them then
meet a module of their own with fitting sizes.

Fix: rename the keys; the bytes stay. Or load the base with the class of the training.

Workaround: `model.load_adapter(folder)` of transformers >= 5.0 adds and strips this prefix by itself.

Prevention: load with the class of the training; set task_type, so that AutoPeftModelFor… picks it.

Setup:
    trained = train(AutoModel.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")  # holds the LlamaModel of the training as `model`
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: Found missing adapter keys while loading the checkpoint
    as_base(model)  # -> True

Fixed:
    base = AutoModel.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import anatomy, evidence, renames, retarget
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.causes.tensor_names import diffusion
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion, TensorInfo
from adapterfit.text import quote, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=2,
    messages=(
        "Found missing adapter keys while loading the checkpoint: ['base_model.model.model.layers.0.self_attn...']",
    ),
    needs=("diff",),
)
_NESTED = "language_model"


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding where one level more or less lets all stray tuner tensors land."""
    stray = evidence.tuner_tensors(diff.extra)
    if not stray or not evidence.comparable(diff):
        return
    for what, old, new, same_model in _readings(diff, stray):
        names = {tensor: f"{evidence.PREFIX}{new}{_bare(tensor)[len(old) :]}" for tensor in stray}
        if evidence.lands(diff, names) or anatomy.sit(diff, names):
            names.update(_others(diff, old, new))
            yield _found(case, diff, what, names, same_model=same_model)
            return


def _readings(diff: Diff, stray: list[TensorInfo]) -> Iterator[tuple[str, str, str, bool]]:
    """What is said, the old and the new beginning, and whether it is the same model.

    One level more, one level less; last the language model of a larger model, and the larger model's own.
    """
    tree = diff.expectation.tree
    level = f"{tree.prefix}."
    if not tree.prefix or not all(tensor.name.startswith(evidence.PREFIX) for tensor in stray):
        return
    yield f"lack {quote(level)}", "", level, True
    if all(_bare(tensor).startswith(level) for tensor in stray):
        yield f"have {quote(level)} too much", level, "", True
    if renames.chain(diff, stray) is not None:
        return
    inner = next((name for name in anatomy.modules(diff) if name.split(".")[-1] == _NESTED), "")
    old, new = (level, f"{inner}.") if inner else (f"{level}{_NESTED}.", level)
    if all(_bare(tensor).startswith(old) for tensor in stray):
        yield f"begin with {quote(old)}, those of the base with {quote(new)}", old, new, False


def _bare(tensor: TensorInfo) -> str:
    return tensor.name[len(evidence.PREFIX) :]


def _others(diff: Diff, old: str, new: str) -> dict[TensorInfo, str]:
    """Stray tensors that are no tuner's (embeddings, heads) and land when they are renamed alike."""
    slots = evidence.slots_by_key(diff)
    found = {}
    for tensor in diff.extra:
        name = f"{evidence.PREFIX}{new}{_bare(tensor)[len(old) :]}"
        fits = tensor.name.startswith(evidence.PREFIX + old) and evidence.shape_at(diff, name, slots) == tensor.shape
        if fits and not evidence.parts(tensor.name).leaf:
            found[tensor] = name
    return found


def _found(case: Case, diff: Diff, what: str, names: dict[TensorInfo, str], *, same_model: bool) -> Finding:
    first, loaded = next(iter(names)), diff.expectation.tree.class_name
    fix = retarget.renaming(case, diff, names) if same_model else None
    if fix is None:
        said = "take the base of the training; or, if it is the same language model, rename the keys"
        fix = Fix("unsafe", f"{said}, such as {quote(first.name)} to {quote(names[first])}")
    return finding(
        f"{len(names)} of {len(case.adapter.tensors)} tensors {what}: saved from {_saved_from(case, what)}, loaded as "
        f"{show(loaded)}",
        at=names,
        predicted="raises" if diff.raised is not None else "warns" if diff.warned else "silent",
        confidence="high" if same_model else "medium",
        found=quote(first.name),
        expected=quote(names[first]),
        fix=fix,
        explains=[
            *(tensor.name for tensor in names),
            *evidence.keys_of(names.values()),
            *evidence.unasked(diff, names),
        ],
    )


def _saved_from(case: Case, what: str) -> str:
    """The class of the training, as far as the config tells."""
    values = case.adapter.config.values if case.adapter.config is not None else {}
    recorded = values.get("auto_mapping")
    named = recorded.get("base_model_class") if isinstance(recorded, dict) else None
    if isinstance(named, str) and named:
        return f"{show(named)} (auto_mapping)"
    if what.startswith("lack"):
        return "the bare model (AutoModel)"
    if what.startswith("have"):
        task = values.get("task_type")
        return "a class with a head" + (f" (task_type {show(task)})" if isinstance(task, str) else "")
    return "another kind of model"


def examples(make: Any) -> dict[str, list[Any]]:
    """The bare model's names on a model with a head, and back; a language model inside a larger one."""
    peft = "base_model.model."
    llama = make.lora("llama", task_type="CAUSAL_LM")
    bert = make.lora("bert", target_modules=["query"], task_type="SEQ_CLS")
    paths = make.lora("bert", target_modules=["encoder.layer.0.attention.self.query"], task_type=None)
    headless = make.base("llama", architectures=["LlamaModel"])
    return {
        "silent": [
            llama,
            bert,
            llama.renamed(lambda name: name.replace("model.layers", "model.decoder.layers")),
            make.lora("llama", base_class="LlamaModel", task_type="FEATURE_EXTRACTION"),
        ],
        "fires": [
            llama.renamed(lambda name: name.replace(peft + "model.", peft)),
            bert.renamed(lambda name: name.replace("bert.encoder", "encoder")),
            paths.renamed(lambda name: name.replace("bert.encoder", "encoder")),
            make.lora("llama", base=headless, task_type="FEATURE_EXTRACTION").renamed(
                lambda name: name.replace(peft, peft + "model.")
            ),
            make.lora("llava", target_modules=["language_model.layers.0.self_attn.q_proj"])
            .renamed(lambda name: name.replace("model.language_model.layers", "model.layers"))
            .with_config(target_modules=["q_proj"]),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "automodelforcausallm", "forconditionalgeneration", "base_model_class", "automodel.from_pretrained", "auto_mapping",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: all names of the adapter missing, or full paths that another class has."""
    fix = "load the base with the class of the training: task_type and auto_mapping.base_model_class in adapter_config.json name it"
    found = names_of(symptoms, "model-class-differs")
    if found is not None:
        named = f": {quote(found.old)} in the file, {quote(found.new)} in the model" if found.new else ""
        yield suspect(
            symptoms, f"the base is loaded as another class than in training{named}", found.likelihood, found.lines, fix=fix,
            apart="the first key of the file beside the first missing one: a level more or less means another class",
        )  # fmt: skip
    for targets in symptoms.targets:
        sought = targets.names if targets.wording == "not-found" and not targets.patterned else ()
        paths = [name for name in sought if name.count(".") > 2]
        if paths and len(paths) == len(sought) and not diffusion(paths):
            yield suspect(
                symptoms, f"target_modules names full paths such as {quote(paths[0])}, which this class does not have",
                0.75 if targets.quoted else 0.6,
                [targets.line], fix=fix, apart="named_modules() of the base beside the path",
            )  # fmt: skip
    zeros = said(
        symptoms,
        "tensor([[0., 0.",
        "lora_b.*zero",
        "all zeros",
        "lora_b is zero",
        "lora_b all zero",
        "lora_b weight becomes 0",
    )
    if zeros and said(symptoms, "lora_b"):
        yield suspect(
            symptoms, "lora_B is all zero after loading: no name of the file met one of the model", 0.62, zeros, fix=fix,
            apart="the same print with the class of the training",
        )  # fmt: skip
    tokens = [
        error.line
        for error in symptoms.errors
        if error.kind == "KeyError" and "token_adapter.trainable_tokens_delta" in error.message
    ]
    if tokens:
        yield suspect(
            symptoms, "PEFT looks for the trained tokens under a path that the file does not have", 0.6, tokens, fix=fix,
            apart="the path in the file: adapterfit check ADAPTER --base BASE",
        )  # fmt: skip
    auto = said(symptoms, "unrecognized configuration class")
    if auto:
        yield suspect(
            symptoms, "the auto class that was called has no model for this config: it is not the class of the training", 0.45, auto, fix=fix,
            apart="architectures in the base's config.json beside the class called",
        )  # fmt: skip
    mapped = said(symptoms, '"base_model_class"', "'base_model_class'")
    if mapped and said(symptoms, '"target_modules"', "not found in the base model"):
        yield suspect(symptoms, "the config says which class it was trained on", 0.65, mapped, fix=fix)


def logs() -> dict[str, list[str]]:
    """All missing; a level that differs; a path; what transformers renamed is another cause."""
    tail = "layers.0.self_attn.q_proj.lora_A.default.weight"
    return {
        "fires": [
            f"Found missing adapter keys while loading the checkpoint: ['base_model.model.{tail}'].",
            f'Missing key(s) in state_dict: "base_model.model.{tail}". Unexpected key(s) in state_dict: "base_model.model.model.{tail}".',
            "ValueError: Target modules {'language_model.model.layers.3.self_attn.q_proj'} not found in the base model.",
        ],
        "silent": [
            f"visual.{tail} | MISSING |\nmodel.visual.{tail} | UNEXPECTED |",
            "ValueError: Target modules {'q_proj'} not found in the base model.",
        ],
    }
