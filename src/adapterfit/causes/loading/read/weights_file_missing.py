"""The folder has a config but no weights.

What this means: PEFT injects empty adapter layers, then looks for adapter_model.safetensors and adapter_model.bin. With
neither there it takes the folder for a Hub id and fails with a message about repository names.

Why it happens: the weights were too large for the upload or are kept in Git LFS that was not pulled; the save was
interrupted; or only the config was copied.

Detection: the names of the files in the folder.

Fix: fetch the weights from where the adapter came from.

Workaround: none: the config alone holds nothing that was learned.

Prevention: copy the whole folder.

Setup:
    shutil.move(WEIGHTS, "kept.safetensors")

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "./adapter")
    # raises HFValidationError: Repo id must use alphanumeric chars, '-', '_' or '.'. ... './adapter'.

Fixed:
    shutil.move("kept.safetensors", WEIGHTS)  # fetch it from where the adapter came from
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "./adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms


def examples(make: Any) -> dict[str, list[Any]]:
    """A whole adapter is silent."""
    files = make.as_files(make.lora("llama"))
    config = {make.CONFIG: files[make.CONFIG]}
    merged = make.safetensors({"model.embed_tokens.weight": ("F32", (8, 4))})
    fires = [make.folder(config), make.folder({**config, "model.safetensors": merged})]
    return {"silent": [make.folder(files)], "fires": fires}


CAUSE = Cause(
    messages=(
        "HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': './my-adapter'.",
        "ValueError: Can't find weights for my-adapter in my-adapter or in the Hugging Face Hub.",
        "HFValidationError: Repo id must use alphanumeric chars, '-', '_' or '.'. The name cannot start or end with '-' or '.' and the maximum length is 96: './my-adapter'.",
    ),
    codes=("weights-file-missing",),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "adapter_model.safetensors",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {("peft", "load_peft_weights"): 0.45}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: PEFT, which knows both names, finds neither file; or an engine finds no tensors."""
    fix = "fetch adapter_model.safetensors from where the adapter came from; for a Hub repo, ask its owner to upload it"
    told = said(
        symptoms,
        "can't find weights for",
        "doesn't contain tensors",
        "no adapter weights found for",
    )
    if told:
        # Until 0.3 PEFT knew one name only, and says so: then the file may well be there under the other.
        old = bool(said(symptoms, "the file adapter_model.bin is present"))
        yield suspect(
            symptoms, "there is a config, and no weights file beside it", 0.55 if old else 0.9, told, fix=fix,
            apart="whether the folder holds adapter_model.safetensors, which PEFT 0.3 does not know",
        )  # fmt: skip
    urls = [
        url
        for url in symptoms.urls
        if url.file.rpartition("/")[2] in {"adapter_model.bin", "adapter_model.safetensors"} and url.status == 404
    ]
    if urls:
        both = any(frame.library == "peft" and frame.file.endswith("save_and_load.py") for frame in symptoms.frames)
        yield suspect(
            symptoms, f"{quote(urls[0].repo)} has no adapter_model.bin, the last name that PEFT tries", 0.85 if both else 0.5,
            [url.line for url in urls], fix=fix, apart="the repository's file list: an adapter_model.safetensors there means an old PEFT",
        )  # fmt: skip
    refused = [error.line for error in symptoms.errors if error.kind == "HFValidationError"]
    asking = [frame for frame in symptoms.frames if frame.library == "peft"]
    if refused and asking and asking[-1].function == "load_peft_weights":
        yield suspect(
            symptoms, "the folder's config was read, and then its weights were looked for on the Hub: the folder holds none", 0.87, [asking[-1].line, *refused], fix=fix,
            apart="ls of the folder: adapter_model.safetensors is missing, or has another name",
        )  # fmt: skip
    offline = said(symptoms, "outgoing traffic has been disabled", "cannot find the requested files in the disk cache")
    if offline and asking and asking[-1].function == "load_peft_weights":
        yield suspect(
            symptoms, "the adapter's config was read, and then its weights were looked for on the Hub, which was not asked", 0.62, [asking[-1].line, *offline], fix=fix,
            apart="ls of the folder; of a Hub id, only the config was fetched before",
        )  # fmt: skip
    located = said(symptoms, "unable to locate the file")
    if located and said(symptoms, "adapter_model", "pytorch_lora_weights"):
        yield suspect(symptoms, "the weights file is not where it is looked for", 0.6, located, fix=fix)


def logs() -> dict[str, list[str]]:
    """PEFT's line; a 404 of a PEFT that knows both names; a config that is missing."""
    url = "requests.exceptions.HTTPError: 404 Client Error: Not Found for url: https://huggingface.co/some/repo/resolve/main/{}"
    return {
        "fires": [
            '  File "/x/site-packages/peft/utils/save_and_load.py", line 700, in load_peft_weights\nhuggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files in the disk cache and outgoing traffic has been disabled.',
            "ValueError: Can't find weights for some/repo in some/repo or in the Hugging Face Hub.",
            (
                'File "/x/site-packages/peft/utils/save_and_load.py", line 500, in load_peft_weights\n'
                'File "/x/site-packages/huggingface_hub/utils/_validators.py", line 158, in validate_repo_id\n'
                "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/data/run/best'."
            ),
            'File "/x/site-packages/peft/utils/save_and_load.py", line 400, in load_peft_weights\n'
            + url.format("adapter_model.bin"),
        ],
        "silent": [url.format("adapter_config.json")],
    }
