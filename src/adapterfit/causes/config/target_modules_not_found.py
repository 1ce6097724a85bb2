"""target_modules names nothing that this base has.

What this means: PEFT looks for modules whose name ends with one of `target_modules` (a string is a regular expression for the
whole path). If not one is found, loading raises; a name that finds nothing beside others that do is passed over in silence.

Why it happens: a plain name was written as a string instead of a list, a name is misspelt or another family's (`c_attn`
for `q_proj`), the base's library renamed its modules, or exclude_modules and layers_to_transform leave nothing over.

Detection: PEFT's own rule finds no module; each name of the list is then looked up in the base by itself. A name that finds
nothing while the others do, and for which the file holds nothing, is only mentioned.

Fix: write the names this base uses. A string that is no pattern becomes a list of one.

Workaround: none needed; the config is a text file. Where the base is another architecture, load the base of the training.

Prevention: keep the adapter_config.json that was saved with the weights.

Setup:
    trained = train(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
    change_config(target_modules="q_proj")  # a string is a regular expression for the whole path

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises NoMatchingPeftModuleError: Target modules q_proj not found in the base model.

Fixed:
    change_config(target_modules=["q_proj"])  # a list: every module whose name ends with .q_proj
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import anatomy, evidence, retarget
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.edits import SetConfig
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion
from adapterfit.text import quote, shorten, show

if TYPE_CHECKING:
    from adapterfit.symptoms import LogTargets, Symptoms

CAUSE = Cause(
    minutes=3,
    messages=(
        "NoMatchingPeftModuleError: Target modules {'c_attn'} not found in the base model. Please check the target modules",
        "ValueError: Target modules [q_proj, v_proj] not found in the base model. Please check the target modules and try again.",
        "NoMatchingPeftModuleError: All modules were excluded. This is likely unintended.",
        "NoMatchingPeftModuleError: Target modules q_proj not found in the base model. Please check the target modules and try again.",
        "ValueError: No layers types compatible with VeRA were found. Please check `peft_config.target_modules`.",
    ),
    needs=("config", "diff"),
)
_WORD = re.compile(r"[\w.\-]+\Z")


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding where nothing was found; else a note on the names of the list that find nothing."""
    targets = diff.expectation.config.get("target_modules")
    if evidence.no_target(diff):
        yield _as_string(case, diff, targets) or _nothing(case, diff, targets)
    elif evidence.unasked_targets(diff):
        yield _undecided(case, diff)
    elif diff.raised is None and isinstance(targets, list):
        yield from _idle(case, diff, targets)


def _hits(diff: Diff, name: str) -> list[str]:
    """The base's modules that a name in a list selects."""
    return [m.name for m in diff.expectation.tree.modules if m.name == name or m.name.endswith("." + name)]


def _leaves(diff: Diff) -> list[str]:
    """The last names of the modules that can be adapted, in the base's order."""
    return list(dict.fromkeys(m.name.rpartition(".")[2] for m in diff.expectation.tree.modules if anatomy.sides(m)))


def _as_string(case: Case, diff: Diff, targets: Any) -> Finding | None:
    """A plain name as a string, which as a list would select exactly the modules of the file."""
    if not isinstance(targets, str) or not _WORD.match(targets) or not (hits := _hits(diff, targets)):
        return None
    held = anatomy.of_modules(case.adapter.tensors)
    proven = set(held) == set(hits) and anatomy.sit(diff, {t: t.name for group in held.values() for t in group})
    summary = f"write it as a list: target_modules = [{quote(targets)}]"
    return finding(
        f"target_modules is the string {quote(targets)}: as a regular expression it must match a whole path, and it "
        f"matches none; as a list it selects {evidence.count(len(hits), 'module')}",
        at=["target_modules"],
        predicted="raises",
        found=quote(targets),
        expected=f"[{quote(targets)}]",
        fix=Fix("safe", summary, (SetConfig("target_modules", [targets]),)) if proven else Fix("unsafe", summary),
        explains=[tensor.name for tensor in case.adapter.tensors],
    )


def _nothing(case: Case, diff: Diff, targets: Any) -> Finding:
    """What was looked for and what there is. It accounts for one tensor only: a cause that knows more comes first."""
    base = show(diff.expectation.tree.class_name or "this base")
    names = [str(name) for name in targets] if isinstance(targets, list) else []  # PEFT writes them into a string too
    there = [name for name in names if _hits(diff, name)]
    if there:
        message = (
            f"{base} has {shorten(there)}, but exclude_modules, modules_to_save or layers_to_transform leave none over"
        )
    else:
        wanted = shorten(sorted(set(names))) if names else quote(targets, 80) if targets else "nothing"
        leaves = shorten(_leaves(diff), 8)
        message = f"target_modules names {wanted}; {base} has no such module" + (
            f", its layers have {leaves}" if leaves else ""
        )
    return finding(
        message,
        at=["target_modules"],
        predicted="raises",
        found=show(targets, 120),
        expected=shorten(_leaves(diff), 8),
        fix=Fix("unsafe", _advice(diff, [name for name in names if name not in there])),
        explains=[tensor.name for tensor in case.adapter.tensors[:1]],
    )


def _undecided(case: Case, diff: Diff) -> Finding:
    """No target is named, and PEFT knows none by itself for this model type."""
    kind = show(diff.expectation.tree.model_type)
    return finding(
        f"target_modules is empty, and PEFT has no targets of its own for a {kind} and this method",
        at=["target_modules"],
        predicted="raises",
        found="nothing",
        expected=shorten(_leaves(diff), 8),
        fix=retarget.by_tensors(case, diff) or Fix("unsafe", "name the modules that were trained in target_modules"),
        explains=[tensor.name for tensor in case.adapter.tensors[:1]],
    )


def _advice(diff: Diff, names: list[str]) -> str:
    import difflib

    leaves = [leaf for leaf in _leaves(diff) if len(leaf) < 64]
    close = {
        name: near[0]
        for name in names[:20]
        if (near := difflib.get_close_matches(name.rpartition(".")[2][:64], leaves[:200], 1, 0.75))
    }
    if close:
        return (
            "did you mean " + ", ".join(f"{quote(new)} for {quote(old)}" for old, new in list(close.items())[:4]) + "?"
        )
    if names and not any(name.rpartition(".")[2] in leaves for name in names):
        return "load the base of the training: this one has none of these names, so it is another architecture"
    return "name the modules that this base has, as the tensors in the file do"


def _idle(case: Case, diff: Diff, targets: list[Any]) -> Iterator[Finding]:
    """Names that find nothing, and for which the file holds nothing either."""
    held = anatomy.of_modules(case.adapter.tensors)
    idle = [name for name in targets if isinstance(name, str) and not _hits(diff, name)]
    idle = [name for name in idle if not any(f".{module}".endswith(f".{name}") for module in held)]
    if idle and len(idle) < len(targets) and len(targets) < 100:
        yield finding(
            f"target_modules also names {shorten(idle)}, which this base does not have; the file holds nothing for it",
            at=idle,
            severity="note",
            predicted="none",
            explains=(),
        )


def examples(make: Any) -> dict[str, list[Any]]:
    """A string for a list, misspelt and foreign names, everything excluded; one idle name is a note."""
    plain = make.lora("llama")
    one = make.lora("llama", target_modules=["q_proj"])
    return {
        "fires": [
            one.with_config(target_modules="q_proj"),
            plain.with_config(target_modules="q_proj"),
            plain.renamed(lambda name: name.replace("q_proj", "q_prj")).with_config(target_modules=["q_prj"]),
            plain.with_config(target_modules=["query", "value"]).dropped(lambda _name: True),
            plain.with_config(target_modules=["q_proj", "v_proj", "query"]),
            make.adapter("llama", peft_type="VERA", target_modules=["q_proj"])
            .dropped(lambda _name: True)
            .with_config(target_modules=["query"]),
            make.lora("llava", target_modules=r".*language_model.*\.q_proj", task_type=None).with_config(
                target_modules=None
            ),
            plain.dropped(lambda _name: True)
            .with_config(target_modules=["query"])
            .loaded_by("peft==0.14.0,transformers==4.47.1"),
        ],
        "silent": [
            plain,
            make.lora("llama", target_modules=r".*layers\.\d+\.self_attn\.q_proj"),
            make.lora("llama", target_modules="all-linear"),
            make.lora("gpt2", target_modules=["c_attn"]).on("bert"),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "target_modules", "target modules", "lora_target",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {("peft", "inject_adapter"): 0.55, ("peft", "_find_and_replace"): 0.55, ("peft", "__init__"): 0.42}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: PEFT found none of the names; how they are printed tells what was passed."""
    for targets in symptoms.targets:
        if targets.wording != "not-found":
            continue
        names = targets.names
        paths = names and all(name.count(".") > 1 for name in names) and not targets.patterned
        flattened = any(name.startswith(("lora_unet_", "lora_te")) for name in names)
        listed = targets.quoted and bool(names)
        yield suspect(
            symptoms, _heard(targets),
            0.4 if paths or flattened else 0.72 if targets.patterned and not listed else 0.88 if listed else 0.89,
            [targets.line], fix=_heard_fix(targets),
            apart="the names of the base's layers: print(model), or adapterfit check ADAPTER --base BASE",
        )  # fmt: skip
    told = said(
        symptoms,
        "please specify `target_modules` in `peft_config`",
        "were set but no module was matched",
        "no `target_modules` passed",
        "no target_modules passed",
        "all modules were excluded",
        "no modules were targeted for adaptation",
        "no layers types compatible with",
        "no layer types compatible with",
    )
    if told:
        yield suspect(
            symptoms,
            "PEFT has no module to wrap, and no default for this architecture",
            0.88,
            told,
            fix="name target_modules, or use 'all-linear'",
        )


def _heard(targets: LogTargets) -> str:
    if not targets.names:
        return "the list of targets is empty: the helper that collected them found no layer of the class it looked for"
    named = shorten(targets.names)
    if targets.patterned and targets.quoted:
        return (
            f"a list holds names, and PEFT takes {named} for one: no module is called that; only a string is a pattern"
        )
    if targets.patterned:
        return f"the pattern {named} matches no whole name of a module: PEFT matches from the first letter to the last"
    if not targets.quoted:
        return f"one string that looks like a list was passed ({named}): PEFT takes a string for a pattern"
    return f"the base has no module called {named}"


def _heard_fix(targets: LogTargets) -> str:
    if not targets.names:
        return 'target_modules="all-linear", or load the base quantised as the helper expects (bnb.nn.Linear4bit)'
    if targets.patterned and targets.quoted:
        return f"pass one string: target_modules={'|'.join(targets.names)!r}"
    if targets.patterned:
        return "let the pattern begin with .* so that it takes any path before the layer, or pass a list of names"
    if not targets.quoted:
        return f"pass a list: target_modules={list(targets.names)!r}"
    return (
        "name the modules this base has, or load the base of the training: these names belong to another architecture"
    )


def logs() -> dict[str, list[str]]:
    """A list, a string, nothing; full paths and flattened names are other causes."""
    line = "ValueError: Target modules {} not found in the base model. Please check the target modules and try again."
    return {
        "fires": [
            line.format("{'query', 'value'}"),
            line.format("[q_proj, v_proj]"),
            line.format("[]"),
            line.format(r"{'.*\.1.*query_key_value'}"),
        ],
        "silent": [line.format("{'lora_unet_down_blocks_0_attn'}"), "Target module Linear() is not supported."],
    }
