"""The base named in adapter_config.json cannot be found from elsewhere.

What this means: `base_model_name_or_path` (or another field) names a folder of the machine it was trained on, an
address, nothing at all, or a revision that can move. `PeftModel.from_pretrained(base, folder)` does not use it, but
`AutoPeftModel`, servers and converters do.

Why it happens: the base was loaded from a local folder, or built in memory, when the adapter was trained.

Detection: the value is looked at as text. It is never opened and never fetched.

Fix: write the base's Hub id, and the commit as `revision`.

Workaround: load the base yourself and pass it to `PeftModel.from_pretrained`.

Prevention: train from the Hub id; set `base_model_name_or_path` before saving.

Setup:
    change_config(base_model_name_or_path="./models/base")  # a folder of the machine of the training

Broken:
    model = AutoPeftModelForCausalLM.from_pretrained("adapter")
    # raises OSError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': './models/base'.

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    as_trained(PeftModel.from_pretrained(base, "adapter"))  # -> True
    change_config(base_model_name_or_path="base")  # the base's Hub id
    as_trained(AutoPeftModelForCausalLM.from_pretrained("adapter"))  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause


def examples(make: Any) -> dict[str, list[Any]]:
    """A Hub id and a fixed commit are silent."""
    plain = make.lora("llama")
    bad = ["/data/llama", "../../Llama2-7b", "~/models/x", "C:\\models\\x", "http://host/x", "", None]
    commit = plain.with_config(revision="0123456789" * 4)
    fires = [plain.with_config(base_model_name_or_path=each) for each in bad] + [plain.with_config(revision="main")]
    return {"silent": [plain, commit, plain.with_config(base_model_name_or_path="gpt2")], "fires": fires}


CAUSE = Cause(
    severity="note",
    minutes=2,
    messages=(
        "OSError: Incorrect path_or_model_id: './models/base'. Please provide either the path to a local folder or the repo_id",
        "OSError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': './models/base'. Use `repo_type` argument if needed.",
    ),
    codes=("base-path-not-portable", "base-revision-moves"),
)
