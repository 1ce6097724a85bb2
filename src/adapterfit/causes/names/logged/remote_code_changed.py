"""The base runs code from its own repository, and that code has changed since the training.

What this means: with `trust_remote_code` the classes and names of the base come from its repository. A new commit there renames
modules or changes a config: some weights are "not used" or "newly initialized", and the adapter's targets are gone.

Why it happens: the base's revision was not pinned, so today's code is loaded for yesterday's adapter.

Detection: frames in `transformers_modules`, or a base with `auto_map`, together with names that do not meet.

Fix: load the base at the commit of the training: `revision="<commit>"` and `code_revision="<commit>"`.

Workaround: find the last commit before the training on the base's page.

Prevention: pin the revision in training (`get_peft_model(base, config, revision=...)` records it), and stamp the adapter.

Not run: it needs a repository on the Hub with its own code, at two commits.

Broken:
    base = AutoModelForCausalLM.from_pretrained("somebody/own-model", trust_remote_code=True)  # today's code
    model = PeftModel.from_pretrained(base, "adapter-of-last-year")

Fixed:
    commit = "0123456789abcdef0123456789abcdef01234567"  # the base's last commit before the training
    base = AutoModelForCausalLM.from_pretrained(
        "somebody/own-model", trust_remote_code=True, revision=commit, code_revision=commit
    )
    model = PeftModel.from_pretrained(base, "adapter-of-last-year")
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.sizes import HEADS
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=15,
    messages=(
        "A new version of the following files was downloaded from https://huggingface.co/...: - modeling_x.py. Make sure to double-check they do not contain any added malicious code.",
    ),
)

#: Whose words say that the base's own weights were looked for.
_LOADED = {"transformers", "report"}

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "trust_remote_code", "auto_map", "modeling_", "code_revision", "revision=",
)  # fmt: skip

#: Functions in which a traceback points here: library and name → how likely it is.
STOPS = {("transformers", "get_class_from_dynamic_module"): 0.5, ("transformers", "get_cached_module_file"): 0.45}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: remote code that was fetched anew, or ran, beside names that do not meet."""
    fix = 'load the base at the commit of the training: revision="<commit>", code_revision="<commit>"'
    fresh = said(symptoms, "a new version of the following files was downloaded", "pin a revision")
    remote = [frame.line for frame in symptoms.frames if frame.library == "transformers_modules"]
    base = [key for key in symptoms.missing if key.wording in _LOADED and not set(key.name.split(".")) & HEADS]
    lost = [targets for targets in symptoms.targets if targets.wording == "not-found"]
    if base and lost:
        yield suspect(
            symptoms,
            "the base's own weights find no place in its class, nor do the targets: its code is not that of the training",
            0.89,
            [base[0].line, lost[0].line],
            fix=fix,
        )
    told = said(
        symptoms,
        "not found in the base model",
        "newly initialized",
        "were not used when initializing",
        "missing adapter keys",
    )
    if fresh:
        yield suspect(
            symptoms, "the base's own code was downloaded anew", 0.86 if told else 0.6, [*fresh, *told], fix=fix
        )
    elif remote:
        yield suspect(
            symptoms, "the base runs its repository's own code, which may have changed", 0.7 if told else 0.45, [*remote, *told], fix=fix,
            apart="the commits of the base's repository since the training",
        )  # fmt: skip
    elif told and said(symptoms, "trust_remote_code", "auto_map"):
        yield suspect(symptoms, "the base runs its repository's own code, which may have changed", 0.5, told, fix=fix)


def logs() -> dict[str, list[str]]:
    """New code and lost targets; lost targets alone."""
    lost = "ValueError: Target modules {'q_proj'} not found in the base model."
    return {
        "fires": [
            (
                "A new version of the following files was downloaded from https://huggingface.co/some/model:\n- modeling_some.py\n"
                "Some weights of SomeModel were not initialized from the model checkpoint at some/model and are newly initialized: ['layers.0.norm.weight']"
            )
        ],
        "silent": [lost],
    }
