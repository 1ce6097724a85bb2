"""An adapter and a model lie in one folder.

What this means: `PeftModel.from_pretrained` takes the adapter. `AutoModel.from_pretrained` uses the model in the folder as
the base, not the one the adapter names; some trainers and servers refuse the folder.

Why it happens: the merged model was saved over the adapter, or the base's config.json was copied beside it.

Detection: config.json and adapter_config.json stand side by side; the finding says whether model weights do too.

Fix: move the adapter's files into a folder of their own.

Workaround: load with `PeftModel.from_pretrained(base, folder)`.

Prevention: save merged models into a new folder.

Setup:
    base = AutoModelForCausalLM.from_pretrained("base")
    PeftModel.from_pretrained(base, "adapter").merge_and_unload().save_pretrained("adapter")  # saved over the adapter

Broken:
    model = AutoModelForCausalLM.from_pretrained("adapter")  # the merged model, and the adapter on it once more
    as_trained(model)  # -> False

Fixed:
    os.makedirs("alone")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.move(f"adapter/{name}", f"alone/{name}")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "alone")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms


def examples(make: Any) -> dict[str, list[Any]]:
    """An adapter alone is silent."""
    files = make.as_files(make.lora("llama"))
    model = {"config.json": b"{}", "model.safetensors": files[make.WEIGHTS]}
    return {
        "silent": [make.folder(files)],
        "fires": [make.folder({**files, **model}), make.folder({**files, "config.json": b"{}"})],
    }


CAUSE = Cause(
    severity="warning",
    messages=("Your repo has a LoRA adapter and a base model.",),
    codes=("adapter-and-model-in-one-folder",),
    minutes=2,
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "both config.json and adapter_config.json", "config.json and adapter_config.json",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: Unsloth's line; a listing that holds both."""
    fix = "put adapter_config.json and adapter_model.* into a folder of their own, or delete the one that is not meant"
    told = said(symptoms, "has a lora adapter and a base model", "2 files `config.json` and `adapter_config.json`")
    if told:
        yield suspect(symptoms, "config.json and adapter_config.json lie in one folder", 0.93, told, fix=fix)
    named = {file.name: file.line for file in symptoms.files if not file.folder}
    model = [name for name in named if name.startswith(("model.safetensors", "model-0", "pytorch_model"))]
    if (
        {"config.json", "adapter_config.json"} <= named.keys()
        and model
        and not any("non_lora" in name for name in named)
    ):
        yield suspect(
            symptoms, "an adapter and a model lie in one folder", 0.7, [named["config.json"], named["adapter_config.json"]], fix=fix,
            apart="which of the two the loader took",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Both in one folder; an adapter alone."""
    return {
        "fires": ["- config.json\n- model.safetensors\n- adapter_config.json\n- adapter_model.safetensors"],
        "silent": ["- adapter_config.json\n- adapter_model.safetensors"],
    }
