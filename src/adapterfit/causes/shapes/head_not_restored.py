"""A head or another whole module was trained, and it is not restored.

What this means: beside its own matrices an adapter may hold whole modules: a classifier's head, embeddings, rows of new tokens
(`modules_to_save`, `trainable_token_indices`). Where the file lacks one that the config asks for, loading stops with a
KeyError; where the base has no module of that name, its tensors are dropped without a word and another head answers.

Why it happens: the head was not in modules_to_save, or a version of PEFT did not save it (prompt methods in 0.15 and 0.16);
or the base was loaded by another Auto class than in training, without that head.

Detection: whole modules that the config asks for and the file lacks; whole modules in the file that nothing asks for.

Fix: for a base without the head, load it by the class of the training. A head that was never saved is lost: train it again.

Workaround: `task_type: null` lets the rest load; the head then is whatever the base came with.

Prevention: `modules_to_save=["classifier"]`, or the right task_type; look for the head's name in the file after saving.

Setup:
    classifier = AutoModelForSequenceClassification.from_pretrained("base")
    trained = train(classifier, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))  # the head is not in modules_to_save

Broken:
    base = AutoModelForSequenceClassification.from_pretrained("base")  # with a new head, of random numbers
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> False

Fixed:
    classifier = AutoModelForSequenceClassification.from_pretrained("base")
    options = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="SEQ_CLS")  # saves the head too
    trained = train(classifier, options)
    base = AutoModelForSequenceClassification.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import evidence, renames
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import VALUE_HEAD, said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.causes.sizes import ENDS, HEADS
from adapterfit.causes.tensor_names import tuner
from adapterfit.causes.told import in_words
from adapterfit.records import Case, Diff, Finding, Fix, Slot, Suspicion, TensorInfo
from adapterfit.text import quote, shorten, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=10,
    messages=(
        "KeyError: 'base_model.model.classifier.weight'",
        "KeyError: 'base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta'",
        "Some weights of BertForSequenceClassification were not initialized: ['classifier.weight', 'classifier.bias']",
    ),
    needs=("config", "diff"),
)
_AUTO = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
}
_HEADS = ("classifier", "score", "qa_outputs", "lm_head", "embed_out", "pre_classifier", "pooler")


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding for what the file lacks, one for what the base lacks."""
    if case.adapter.config is None or not evidence.comparable(diff) or evidence.no_target(diff):
        return
    chain = renames.chain(diff, diff.extra)
    renamed = frozenset(chain.names.values()) if chain is not None else frozenset()
    passed = {slot.key for slot in diff.missing} & {
        tensor.name for tensor in diff.extra
    }  # there, and the loader leaves it
    lacking = [s for s in diff.missing if s.role in ("saved-module", "tokens") and s.key not in renamed | passed]
    heads = [t for t in diff.extra if chain is None and t.name not in passed and _is_head(t, case)]
    wanted = {_last(slot.module) for slot in lacking}
    elsewhere = [tensor for tensor in heads if _last(_path(tensor.name).rpartition(".")[0]) in wanted]
    due = [slot for slot in lacking if not slot.optional]
    if due:
        yield _lacking(case, due, elsewhere)
    elif lacking:
        yield _never_trained(lacking)
    if len(elsewhere) < len(heads):
        yield _unwanted(case, diff, [tensor for tensor in heads if tensor not in elsewhere])


def _lacking(case: Case, lacking: list[Slot], elsewhere: list[TensorInfo]) -> Finding:
    """What the file lacks; or holds under another path."""
    modules = list(dict.fromkeys(slot.module for slot in lacking))
    there = shorten(dict.fromkeys(_path(tensor.name).rpartition(".")[0] for tensor in elsewhere))
    but = f"; it holds {there}, which this base does not have" if elsewhere else ""
    names = [slot.key for slot in lacking]
    return finding(
        f"the file lacks the trained copy of {shorten(modules)}, which the config asks for ({_asked(case)}): "
        f"PEFT looks it up and stops{but}",
        at=names,
        predicted="raises",
        found=quote(elsewhere[0].name) if elsewhere else "no such tensors",
        expected=shorten(names, 2),
        fix=Fix(
            "unsafe",
            _lost(case, modules) if not elsewhere else "load the base by the class and version of the training",
        ),
        explains=[*names, *(tensor.name for tensor in elsewhere)],
    )


def _never_trained(slots: list[Slot]) -> Finding:
    """Prompts of PEFT 0.15 and 0.16, and a loader that does not ask for a head."""
    modules = shorten(dict.fromkeys(slot.module for slot in slots))
    return finding(
        f"the file has no trained copy of {modules}: PEFT 0.15 and 0.16, which its config fits, trained prompts beside the base's "
        "own, so the base must be the one of the training, head included",
        severity="note",
        predicted="none",
        at=[slot.key for slot in slots],
        found="no such tensors",
    )


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _asked(case: Case) -> str:
    values = case.adapter.config.values if case.adapter.config is not None else {}
    names = ("modules_to_save", "trainable_token_indices", "task_type")
    return ", ".join(f"{name} = {show(values[name], 60)}" for name in names if values.get(name) is not None)


def _lost(case: Case, modules: Iterable[str]) -> str:
    values = case.adapter.config.values if case.adapter.config is not None else {}
    said = f"look for another checkpoint of this run that holds {shorten(modules)}; else train it again"
    if str(values.get("peft_type")).startswith(("PROMPT", "PREFIX")):
        return (
            f"{said}; if it was trained with PEFT 0.15 (0.16, for prompt tuning), no head was trained nor saved: then add the "
            "base's own to the file, under the names that PEFT looks for"
        )
    if values.get("task_type") in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS") and not values.get("modules_to_save"):
        said += "; with task_type null the rest loads, and the head stays the base's own"
    return said


def _is_head(tensor: TensorInfo, case: Case) -> bool:
    """A stray tensor that is a whole module's: one the config saves, or a head by its name."""
    if evidence.parts(tensor.name).leaf or ".base_layer." in tensor.name:
        return False
    path = _path(tensor.name).rpartition(".")[0]
    values = case.adapter.config.values if case.adapter.config is not None else {}
    saved = [name for name in values.get("modules_to_save") or () if isinstance(name, str) and name]
    listed = any(path.endswith(name) or f".{name}." in f".{path}." for name in saved)
    return bool(path) and (listed or any(part in _HEADS for part in path.split(".")))


def _path(name: str) -> str:
    for prefix in (evidence.PREFIX, "base_model."):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def _unwanted(case: Case, diff: Diff, heads: list[TensorInfo]) -> Finding:
    values = case.adapter.config.values if case.adapter.config is not None else {}
    names = list(dict.fromkeys(_path(tensor.name).rpartition(".")[0] for tensor in heads))
    loaded = show(diff.expectation.tree.class_name or "this base")
    auto = _AUTO.get(str(values.get("task_type")))
    said = f"load the base by the class of the training{f': base = {auto}.from_pretrained(...)' if auto else ''}"
    return finding(
        f"the file holds {shorten(names)}, which {loaded} does not have: dropped, and the base's own weights answer",
        at=heads,
        predicted="silent",
        found=quote(heads[0].name),
        expected=f"a base with {shorten(names)}",
        fix=Fix("unsafe", said),
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """Heads that the file lacks, and heads that the base lacks; a head that is loaded into the base is fine."""
    bert = make.lora("bert", target_modules=["query"], task_type="SEQ_CLS")
    head = make.lora("llama", modules_to_save=["lm_head"])
    tokens = make.lora("llama", trainable_token_indices=[1, 2])
    return {
        "silent": [
            bert,
            head,
            tokens,
            bert.with_config(task_type=None),
            bert.added({"base_model.model.classifier.modules_to_save.bias": (3,)}),
            head.on("llama", vocab_size=300),
        ],
        "fires": [
            bert.dropped(lambda name: "classifier" in name),
            head.dropped(lambda name: "lm_head" in name),
            tokens.dropped(lambda name: "tokens_delta" in name),
            make.lora("llama", task_type="CAUSAL_LM").added({"base_model.model.score.weight": (2, 64)}),
            make.adapter("bert", peft_type="PREFIX_TUNING", num_virtual_tokens=4, task_type="SEQ_CLS").dropped(
                lambda name: "classifier" in name
            ),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "modules_to_save", "classification head", "score.weight", "classifier", "newly initialized", "num_labels",
    "value_head", "v_head", "value head", "reward head",
)  # fmt: skip

#: Functions in which a traceback points here: library and name → how likely it is.
STOPS = {("peft", "_add_modules_to_save"): 0.4}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: only a task's head is missing."""
    yield from in_words(
        symptoms,
        "head-not-restored",
        fix="save again with the head in modules_to_save; adapterfit check ADAPTER --base BASE lists the slots that stay at a new start",
    )
    valued = said(symptoms, *VALUE_HEAD, most=2)
    if valued:
        yield suspect(
            symptoms, "the value head is not in the folder: a reward model without it gives random scores", 0.5, valued,
            fix="put v_head or score into modules_to_save and save again; nothing is wrong before a first PPO training",
            apart="whether this is a reward model, or a PPO training that goes on: else a new head is as it should be",
        )  # fmt: skip
    yield from _asked_for(symptoms)
    found = names_of(symptoms, "head-not-restored")
    if found is not None:
        names = shorten(key.name for key in found.keys)
        yield suspect(
            symptoms,
            f"the head starts at random: {names} is in no file that was read",
            found.likelihood,
            found.lines,
            fix="name the head in modules_to_save (task_type SEQ_CLS does it) and train again, if the adapter's file does not hold it",
            apart="adapterfit check ADAPTER: whether the file holds the head; if it does, the line is normal and PEFT fills it afterwards",
        )


def _asked_for(symptoms: Symptoms) -> Iterator[Suspicion]:
    """A KeyError with the name that a module of `modules_to_save` has in the file."""
    for error in symptoms.errors:
        name = error.message.strip("'\" .")
        parts = name.split(".")
        if (
            error.kind != "KeyError"
            or parts[0] != "base_model"
            or len(parts) < 3
            or ".lora_" in name
            or "token_adapter" in name
        ):
            continue
        if set(parts) & HEADS:
            yield suspect(
                symptoms, f"the config wants {quote(name)} from modules_to_save, and the file does not hold it", 0.85, [error.line],
                fix="take it out of modules_to_save in adapter_config.json if it was never trained, else save the adapter again",
            )  # fmt: skip
        elif parts[-2] in ENDS or (parts[-1] in ("weight", "bias") and not tuner(name)):
            yield suspect(
                symptoms, f"PEFT wants {quote(name)} from modules_to_save, and the file holds it not, or under another name", 0.6, [error.line],
                fix="adapterfit check ADAPTER --base BASE lists the names in the file",
                apart="the names in the file: with .modules_to_save. or an adapter's name in them, they were saved by hand",
            )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """A new head; base weights that are missing are harmless."""
    return {
        "fires": [
            "Some weights of BertForSequenceClassification were not initialized from the model checkpoint at bert and are newly initialized: ['classifier.bias', 'classifier.weight']",
            "classifier.weight | MISSING | ",
        ],
        "silent": ["_IncompatibleKeys(missing_keys=['base_model.model.bert.pooler.dense.weight'], unexpected_keys=[])"],
    }
