"""Input and output embeddings share one weight in the base, and the adapter treats them as two.

What this means: the base ties `lm_head` to `embed_tokens`. An adapter that holds a copy of one of them, or a LoRA on one of
them, splits the tie: PEFT keeps both apart while it is loaded, but merging, converting and serving put them together again.
Copies saved by PEFT 0.3 to 0.5 are not even reproduced by loading.

Why it happens: `modules_to_save` or `target_modules` names the embedding or the head of a small model, which is tied; the
same recipe is harmless on the large, untied one.

Detection: the base's config ties them, and the adapter holds tensors of only one, or of both as two.

Fix: train with `ensure_weight_tying=True` (PEFT 0.18 or later), or untie the base before training. PEFT 0.2 made no copies but
trained the base's own weight, both ends at once: without modules_to_save its file is loaded into just that.

Workaround: load the base with `tie_word_embeddings=False` and a head of its own before merging.

Prevention: look at `tie_word_embeddings` before naming an embedding in the config.

Setup:
    LlamaForCausalLM(llama(tie_word_embeddings=True)).save_pretrained("base")

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = get_peft_model(base, LoraConfig(**OPTIONS, modules_to_save=["embed_tokens"]))
    # warns: Model has `tie_word_embeddings=True` and a tied layer is part of the adapter
    split = logits(noise(model))
    merged = model.merge_and_unload()
    # warns: Input and output embeddings are no longer tied after merging.
    merged.config.tie_word_embeddings = True  # as the base has it, and whoever takes the base's config.json
    merged.save_pretrained("merged")
    torch.allclose(logits(AutoModelForCausalLM.from_pretrained("merged")), split)  # -> False

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = get_peft_model(base, LoraConfig(**OPTIONS, modules_to_save=["embed_tokens"], ensure_weight_tying=True))
    tied = logits(noise(model))
    merged = model.merge_and_unload()
    merged.save_pretrained("merged")
    torch.allclose(logits(AutoModelForCausalLM.from_pretrained("merged")), tied, atol=1e-4)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.dates import written_before
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.edits import SetConfig
from adapterfit.records import Case, Diff, Finding, Fix, ModuleTree, Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    severity="note",
    level="advanced",
    minutes=10,
    messages=(
        "Model has `tie_word_embeddings=True` and a tied layer is part of the adapter, but `ensure_weight_tying` is not set",
    ),
    needs=("diff",),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """An error where the writer could not save them rightly; otherwise a note."""
    tied = _tied(diff.expectation.tree)
    if not tied or diff.raised is not None or diff.expectation.config.get("ensure_weight_tying"):
        return
    held = {match.slot.module for match in diff.matched if match.slot.role != "tokens"} & tied
    names = [match.tensor for match in diff.matched if match.slot.module in held]
    if not held:
        return
    copies = any(match.slot.role == "saved-module" for match in diff.matched if match.slot.module in held)
    # 0.2 still kept the tie when only the head was copied; measured on the logits of every version.
    kept = held == {diff.expectation.tree.output_embeddings} and written_before(case, "0.3.0")
    lost = copies and held != tied and written_before(case, "0.6.0") and not kept
    one = case.consumer.rules.get("tied-copies") == "one"
    if one:  # what the file has goes into the base's one weight
        lost = copies and not written_before(case, "0.3.0")
    said = f"the base ties {' and '.join(quote(name) for name in sorted(tied))}; the adapter holds {_listed(held)}"
    if lost:
        why = (
            "and this loader makes no copies: both are one weight again"
            if one
            else "saved by a PEFT before 0.6, which did not keep the tie"
        )
        yield finding(
            f"{said}, {why}: the model is not the one that was trained",
            at=names,
            predicted="silent",
            fix=Fix("unsafe", "pip install 'peft>=0.6', and load it with PeftModel.from_pretrained")
            if one and not written_before(case, "0.6.0")
            else _as_one(case, held)
            or Fix("unsafe", "load it with the PEFT of its training, merge, and save the merged model"),
            explains=(),
            differs=True,
        )
    else:
        yield finding(
            f"{said}: loading keeps them apart, merging and converting do not",
            at=names,
            severity="note",
            predicted="none",
            fix=Fix("unsafe", "untie the base before merging, or train with ensure_weight_tying=True"),
            explains=(),
        )


def _as_one(case: Case, held: set[str]) -> Fix | None:
    """PEFT 0.2 trained the tied weight itself; measured: loaded into the base's own, its file gives the saver's logits."""
    values = case.adapter.config.values if case.adapter.config is not None else {}
    named = values.get("modules_to_save")
    if not written_before(case, "0.3.0") or not isinstance(named, list) or len(held) != 1:
        return None
    kept = [name for name in named if not min(held).endswith(name)]
    if len(kept) == len(named):
        return None
    said = f"leave {quote(min(held))} out of modules_to_save: the file's copy then fills the base's own weight, and the tie stays"
    return Fix("safe", said, (SetConfig("modules_to_save", kept or None),))


def _tied(tree: ModuleTree) -> set[str]:
    weight = f"{tree.input_embeddings}.weight"
    group = next((group for group in tree.tied if weight in group), ())
    return {name.rpartition(".")[0] for name in group}


def _listed(held: set[str]) -> str:
    return "both as two" if len(held) > 1 else f"only {quote(min(held))}"


def examples(make: Any) -> dict[str, list[Any]]:
    """A copy of one end, of both, a LoRA on one; an untied base; a tie that is kept."""
    tied = "llama-tied"
    return {
        "fires": [
            make.lora(tied, modules_to_save=["embed_tokens"]),
            make.lora(tied, modules_to_save=["embed_tokens", "lm_head"]),
            make.lora(tied, target_modules=["q_proj", "embed_tokens"]),
            make.lora(tied, modules_to_save=["embed_tokens"], enable_lora=None, merge_weights=False, bias="none"),
        ],
        "silent": [
            make.lora(tied),
            make.lora("llama", modules_to_save=["embed_tokens"]),
            make.lora(tied, modules_to_save=["embed_tokens"], ensure_weight_tying=True),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "tie_word_embeddings", "tied embedding", "tied weight", "tie_weights", "lm_head.weight",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the head alone is missing, or PEFT and mergers say themselves that a tie is split."""
    fix = "train with ensure_weight_tying=True (peft >= 0.18), or load the base with tie_word_embeddings=False before merging"
    apart = "tie_word_embeddings in the base's config.json"
    warned = said(
        symptoms, "a tied layer is part of the adapter", "`tie_word_embeddings=true` and the tied_target_modules"
    )
    if warned:
        yield suspect(symptoms, "the adapter holds only one of two tied layers", 0.93, warned, fix=fix)
    elif said(symptoms, "tie_word_embeddings", most=1) and said(symptoms, "merg", most=1) and not symptoms.errors:
        yield suspect(
            symptoms, "the text speaks of a merge into a model whose head and embedding are one tensor", 0.55,
            said(symptoms, "tie_word_embeddings"), fix=fix, apart=apart,
        )  # fmt: skip
    found = names_of(symptoms, "tied-weights-split")
    if found is not None:
        yield suspect(
            symptoms, "only the head is missing: the checkpoint stores it once, as the embedding", found.likelihood, found.lines,
            fix="load with strict=False, then model.tie_weights()", apart=apart,
        )  # fmt: skip
    elif not found:
        told = said(symptoms, "missing lm_head.weight", "missing key: lm_head.weight", "missing key lm_head.weight")
        tied = said(symptoms, "tied", "tie_", "lm_head", "unembed", most=1)
        merged = said(symptoms, "lm_head is present in adapter, but is ignored in base model")
        merged += said(symptoms, "weightsmergeerror") if tied else ()
        if told or merged:
            yield suspect(
                symptoms,
                "the head is looked for in a model that has it as the embedding only",
                0.8 if told else 0.6,
                told + merged,
                fix=fix,
                apart=apart,
            )


def logs() -> dict[str, list[str]]:
    """A missing head; PEFT's warning; a classifier's head is another matter."""
    return {
        "fires": [
            "The base has tie_word_embeddings=true; after I merged the adapter that trained lm_head, the reloaded model answers badly.",
            'RuntimeError: Error(s) in loading state_dict for Qwen2ForCausalLM: Missing key(s) in state_dict: "lm_head.weight".',
            "UserWarning: Model has `tie_word_embeddings=True` and a tied layer is part of the adapter, but `ensure_weight_tying` is not set",
        ],
        "silent": ["score.weight | MISSING |", "lm_head.weight is unsupported LoRA weight"],
    }
