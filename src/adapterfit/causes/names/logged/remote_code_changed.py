"""The base runs code from its own repository, and that code has changed since the training.

What this means: with `trust_remote_code` the classes and names of the base come from its repository. A new commit there renames
modules or changes a config: some weights are "not used" or "newly initialized", and the adapter's targets are gone. Where the names
stay and the code computes something else, nobody says a word.

Why it happens: the base's revision was not pinned, so today's code is loaded for yesterday's adapter. Or the code is not there at
all: a tokenizer or a model that was saved beside the adapter names its class in `auto_map`, and the .py file stayed behind.

Detection: frames in `transformers_modules`, or a base with `auto_map`, together with names that do not meet; a .py file that is not
found.

Fix: load the base at the commit of the training: `revision="<commit>"` and `code_revision="<commit>"`. Where a .py file is not
found: load the tokenizer from the base, or copy the base repository's .py files beside the adapter.

Workaround: find the last commit before the training on the base's page.

Prevention: pin the revision in training (`get_peft_model(base, config, revision=...)` records it), and stamp the adapter.

Setup:
    NUMBERS = {"query.weight": torch.randn(8, 8), "query.bias": torch.zeros(8)}
    CODE = '''import torch
    from transformers import PreTrainedConfig, PreTrainedModel


    class OwnConfig(PreTrainedConfig):
        model_type = "own"


    class OwnModel(PreTrainedModel):
        config_class = OwnConfig

        def __init__(self, config):
            super().__init__(config)
            self.query = torch.nn.Linear(8, 8)
            self.post_init()

        def forward(self, x):
            return self.query(x)
    '''

    def repository(folder, code):
        Path(folder).mkdir()
        Path(folder, "modeling_own.py").write_text(code)
        classes = {"AutoConfig": "modeling_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
        Path(folder, "config.json").write_text(json.dumps({"model_type": "own", "auto_map": classes}))
        save_file(NUMBERS, f"{folder}/model.safetensors", metadata={"format": "pt"})

    repository("own-then", CODE)
    repository("own-today", CODE.replace("self.query(x)", "self.query(x.flip(-1))"))
    model = AutoModel.from_pretrained("own-then", trust_remote_code=True)
    model = noise(get_peft_model(model, LoraConfig(r=2, target_modules=["query"])))
    model.save_pretrained("own-adapter")
    x = torch.arange(8.0)
    expected = model(x)

Broken:
    # two commits of a repository are two folders here: the same weights, and code that was changed
    base = AutoModel.from_pretrained("own-today", trust_remote_code=True)
    model = PeftModel.from_pretrained(base, "own-adapter")
    torch.allclose(model(x), expected)  # -> False

Fixed:
    # on the Hub: revision=COMMIT, code_revision=COMMIT
    base = AutoModel.from_pretrained("own-then", trust_remote_code=True)
    model = PeftModel.from_pretrained(base, "own-adapter")
    torch.allclose(model(x), expected)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.causes.sizes import HEADS
from adapterfit.records import Suspicion
from adapterfit.text import quote

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


#: transformers and the Hub, about a file of code.
_ABSENT = re.compile(r"(?:does not appear to have a file named|could not locate the) (\w{1,80}\.py)\b", re.IGNORECASE)


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: remote code that was fetched anew, or ran, beside names that do not meet; or that is not there."""
    absent = _ABSENT.search(symptoms.text)
    if absent is not None:
        yield suspect(
            symptoms, f"{quote(absent[1])} is the code of the base's repository, and is not in the folder that names it", 0.88,
            [line_of(symptoms, absent.start())],
            fix="load the tokenizer and the config from the base, or copy the base repository's .py files into that folder",
        )  # fmt: skip
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
            ),
            "OSError: output/checkpoint-9 does not appear to have a file named tokenization_own.py. Checkout 'None' for available files.",
        ],
        "silent": [lost, "OSError: some/model does not appear to have a file named pytorch_model.bin."],
    }
