"""The classifier was trained for another number of labels.

What this means: the adapter holds the whole head (`classifier`, `score`), one row per label. The base was loaded with another
number of labels, so the rows do not fit and loading stops with a size mismatch.

Why it happens: `num_labels` is not in the adapter: without it `AutoModelForSequenceClassification.from_pretrained` makes two
labels, or those of the base's own config.

Detection: of a saved head only the first dimension differs, the number of labels.

Fix: load the base with the adapter's number of labels.

Workaround: write id2label with that many entries into a copy of the base's config.json.

Prevention: note num_labels and the label names beside the adapter.

Setup:
    classifier = AutoModelForSequenceClassification.from_pretrained("base", num_labels=3)
    trained = train(classifier, LoraConfig(r=4, target_modules=["q_proj"], task_type="SEQ_CLS"))

Broken:
    base = AutoModelForSequenceClassification.from_pretrained("base")  # two labels, unless told otherwise
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: size mismatch for base_model.model.score.modules_to_save.default.weight: copying a param with shape torch.Size([3, 32]) from checkpoint, the shape in current model is torch.Size([2, 32]).

Fixed:
    base = AutoModelForSequenceClassification.from_pretrained("base", num_labels=3)
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import anatomy, evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import suspect
from adapterfit.causes.sizes import sizes_of
from adapterfit.records import Case, Diff, Finding, Fix, Misshape, Suspicion
from adapterfit.text import show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=1,
    messages=(
        "size mismatch for ...classifier.modules_to_save.default.weight: copying a param with shape torch.Size([8, 768]) ...",
        "size mismatch for ...score.modules_to_save.default.weight: copying a param with shape torch.Size([3, 4096]) ...",
    ),
    needs=("config", "diff"),
)
_TASKS = {"SEQ_CLS": "AutoModelForSequenceClassification", "TOKEN_CLS": "AutoModelForTokenClassification"}


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding for all tensors of the head."""
    task = str(case.adapter.config.values.get("task_type")) if case.adapter.config is not None else ""
    tree = diff.expectation.tree
    embeddings = {tree.input_embeddings, tree.output_embeddings} - {""}
    heads = [e for e in diff.misshapen if _rows_only(e) and e.module not in embeddings and e.key not in embeddings]
    counts = {(entry.found[0], entry.wanted[0]) for entry in heads}
    classifies = task in _TASKS or tree.class_name.endswith("Classification")
    if len(counts) != 1 or not classifies or _inner_differs(diff):
        return
    found, wanted = counts.pop()
    maker = _TASKS.get(task, tree.class_name or "AutoModelForSequenceClassification")
    module = show(heads[0].module or evidence.parts(heads[0].key).module.rpartition(".")[0])
    yield finding(
        f"the adapter's {module} has {found} labels, this base is loaded with {wanted}",
        at=[entry.tensor for entry in heads],
        predicted="raises",
        found=f"{found} labels",
        expected=f"{wanted} labels",
        fix=Fix("unsafe", f"load the base with them: base = {show(maker)}.from_pretrained(..., num_labels={found})"),
    )


def _rows_only(entry: Misshape) -> bool:
    """Whether it is a head, whole or as LoRA, of which the first dimension alone differs."""
    leaf = evidence.parts(entry.key).leaf
    if leaf and (
        leaf not in anatomy.AXES or anatomy.AXES[leaf].side != "out" or evidence.layer_number(entry.module) is not None
    ):
        return False
    same_rank = len(entry.found) == len(entry.wanted) > 0
    return same_rank and entry.found[0] != entry.wanted[0] and entry.found[1:] == entry.wanted[1:]


def _inner_differs(diff: Diff) -> bool:
    """Whether layers do not fit either: then it is another base."""
    return any(evidence.layer_number(entry.module or entry.key) is not None for entry in diff.misshapen)


def examples(make: Any) -> dict[str, list[Any]]:
    """Three labels on two and the other way; a larger base, a grown vocabulary and an equal number stay silent."""
    three = make.lora("bert", target_modules=["query"], task_type="SEQ_CLS")
    llama = make.lora(
        "llama", base=make.base("llama", architectures=["LlamaForSequenceClassification"]), task_type="SEQ_CLS"
    )
    two = {"id2label": {"0": "A", "1": "B"}, "label2id": {"A": 0, "B": 1}}
    tuned = make.lora("bert", target_modules=["query", "classifier"], task_type=None)
    return {
        "silent": [
            three,
            three.on("bert", hidden_size=32, num_attention_heads=2, **two),
            make.lora("llama", modules_to_save=["lm_head"]).on("llama", vocab_size=300),
            three.on("bert", vocab_size=300),
        ],
        "fires": [
            three.on("bert", **two),
            llama.on(
                "llama", architectures=["LlamaForSequenceClassification"], id2label={"0": "A", "1": "B", "2": "C"}
            ),
            tuned.on("bert", **two),
            three.on("bert", **two).loaded_by("peft==0.21.2,transformers==5.23.0", "model.load_adapter"),
        ],
    }


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: rows of a classifier's head."""
    found = sizes_of(symptoms, "labels-differ")
    if found is not None:
        yield suspect(
            symptoms,
            f"the head was trained for {found.file} labels, the base was built for {found.model}",
            found.likelihood,
            found.lines,
            fix=f"load the base with num_labels={found.file}",
        )


def logs() -> dict[str, list[str]]:
    """Three labels for two; a vocabulary is none."""
    line = "size mismatch for base_model.model.{}: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [line.format("classifier.modules_to_save.default.weight", "3, 768", "2, 768")],
        "silent": [line.format("lm_head.modules_to_save.default.weight", "32001, 768", "32000, 768")],
    }
