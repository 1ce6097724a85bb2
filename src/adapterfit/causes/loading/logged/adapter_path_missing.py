"""The folder that was given is not there, so it was taken for a name on the Hub.

What this means: PEFT and transformers look for a local folder first. Where there is none, they take the text for a Hub id, and
the Hub's client complains about its form. The message about repository names hides a plain wrong path.

Why it happens: a relative path from another working directory, a typing error, a folder that a container does not see, or a
training that never saved.

Detection: a value with more than one slash, `./` or a leading slash in a message about Hub ids.

Fix: give the absolute path of the folder that holds adapter_config.json.

Workaround: change into the directory that the path is relative to.

Prevention: build paths with `pathlib.Path(__file__).parent`, and check `.is_dir()` before loading.

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "./out/adapter")
    # raises ValueError: Can't find 'adapter_config.json' at './out/adapter'

Fixed:
    folder = Path("adapter").resolve()
    folder.is_dir()  # -> True
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, str(folder))
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import after, between, line_of, said, suspect
from adapterfit.records import Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=1,
    messages=(
        "HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': './out/lora'. Use `repo_type` argument if needed.",
        "OSError: Incorrect path_or_model_id: './out/lora'. Please provide either the path to a local folder or the repo_id of a model on the Hub.",
        "ValueError: Can't find 'adapter_config.json' at './out/lora'",
    ),
)
_WORDS = (
    "adapter path does not exist",
    "repo id must be in the form",
    "repo id must use alphanumeric",
    "incorrect path_or_model_id",
    "loraadapternotfounderror",
    "cannot have -- or ..",
)

#: `LoRA at out/run1 not found`, `adapter path './x' does not exist`.
_SOUGHT = re.compile(
    r"\b(?:lora|adapter)s?(?: weights?| model| file| path| folder| directory| at| in| from| \w{0,12}:)*:? ['\"]?(?P<path>[\w.~-]{0,80}[/\\][\w./\\:~-]{1,300}?)['\"]? "
    r"(?:was |is |could |can )?(?:not (?:be )?found|doesn't exist|does not exist|not exist)",
    re.IGNORECASE,
)

_AT = re.compile(
    r"(?:not found|does not exist|no such file)(?: or directory)?(?: at|:) ['\"]?(?P<path>[^\n'\"]{0,200}[/\\](?:loras?|adapters?)[/\\][^\n'\"]{1,200}?\.(?:safetensors|bin|pt|gguf|ckpt))",
    re.IGNORECASE,
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "relative path", "absolute path",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {
    ("huggingface_hub", "validate_repo_id"): 0.7,
    ("huggingface_hub", "_inner_fn"): 0.5,
    ("peft", "_get_peft_type"): 0.45,
    ("vllm", "from_local_dir"): 0.45,
}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the Hub's client refuses a text that is a path."""
    local = said(symptoms, "is not a local folder and is not a valid model identifier")
    if local and _is_path(_named(symptoms)):
        yield suspect(
            symptoms, f"the folder {quote(_named(symptoms))} does not exist here: it was taken for a Hub id", 0.87, local,
            fix="give the absolute path of the folder with adapter_config.json; check it with ls",
        )  # fmt: skip
    download = [error.line for error in symptoms.errors if error.kind == "DownloadError"]
    if download:
        yield suspect(
            symptoms, "the server tries to download what was given: it is no folder that the server sees", 0.55, download,
            fix="mount the folder into the container, and give its path there",
        )  # fmt: skip
    empty = said(symptoms, "no adapter found for")
    if empty:
        path = after(symptoms, "no adapter found for").strip().partition(" ")[0].strip("'\"`].,")
        yield suspect(
            symptoms, f"the server finds no file of an adapter in {quote(path)}", 0.75, empty,
            fix="give the absolute path, as the server's process or container sees it, of the folder with adapter_config.json",
            apart="ls of that folder where the server runs: nothing there means the path, other files mean no adapter_config.json",
        )  # fmt: skip
    native = said(symptoms, "adapter model file not found in")
    if native:
        path = after(symptoms, "adapter model file not found in").strip().partition(". ")[0].strip("'\"` ")
        yield suspect(
            symptoms, f"transformers finds no adapter in {quote(path)}", 0.66 if "/" in path.strip("./") else 0.74, native,
            fix="give the absolute path of the folder with adapter_config.json, or owner/name of the repository",
            apart="ls of that folder: other files there mean that only adapter_config.json is missing",
        )  # fmt: skip
    names = [
        u for u in symptoms.urls if u.repo not in {"", "None"} and "/" not in u.repo and u.file.startswith("adapter_")
    ]
    if names and names[0].status in {401, 404}:
        yield suspect(
            symptoms, f"{quote(names[0].repo)} has no owner, as no adapter on the Hub has: a folder of that name is not there", 0.75, [names[0].line],
            fix="give the absolute path of the folder with adapter_config.json, or owner/name of the repository",
        )  # fmt: skip
    sought = _SOUGHT.search(symptoms.text) or _AT.search(symptoms.text)
    if sought is not None:
        yield suspect(
            symptoms, f"the program finds no adapter at {quote(sought['path'])}", 0.6, [line_of(symptoms, sought.start())],
            fix="give the absolute path, as the program sees it, of the folder with adapter_config.json",
            apart="ls of that path: if it is there, the program wants other file names in it",
        )  # fmt: skip
    told = said(symptoms, *_WORDS) or tuple(
        error.line
        for error in symptoms.errors
        if error.kind == "HFValidationError" or (error.kind == "FileNotFoundError" and _is_relative(error.message))
    )
    if not told:
        return
    path = (
        between(symptoms, "or 'namespace/repo_name': ")
        or after(symptoms, "adapter path does not exist:").strip().partition(" ")[0]
        or between(symptoms, "path_or_model_id: ")
    )
    weights = _asks_for_weights(symptoms)
    damaged = weights or said(
        symptoms, "metadataincompletebuffer", "headertoolarge", "header too large", "incomplete metadata"
    )
    yield suspect(
        symptoms, f"the folder {quote(path) if path else 'that was given'} does not exist here: it was taken for a Hub id",
        0.6 if damaged else 0.88, told, fix="give the absolute path of the folder with adapter_config.json; check it with ls",
        apart="whether the folder exists: if it does, its weights file is missing or has another name",
    )  # fmt: skip


def _asks_for_weights(symptoms: Symptoms) -> bool:
    """Whether PEFT got past the config: then the folder is there, and holds no weights under PEFT's names."""
    functions = [frame.function for frame in symptoms.frames if frame.library == "peft"]
    return bool(functions) and functions[-1] in {"load_peft_weights", "file_exists", "hub_file_exists"}


def _named(symptoms: Symptoms) -> str:
    """The name before `is not a local folder`."""
    at = symptoms.folded.find(" is not a local folder")
    return symptoms.text[max(0, at - 300) : at].rpartition(" ")[2].strip("'\"`")


def _is_relative(message: str) -> bool:
    """Whether a folder or an adapter's file is missed under a path that depends on where the program was started."""
    path = message.partition("No such file or directory: ")[2].strip("'\"")
    last = path.rpartition("/")[2]
    return path.startswith(("./", "../")) and ("." not in last or last.startswith("adapter_"))


def _is_path(name: str) -> bool:
    return name.count("/") > 1 or name.startswith((".", "/", "~")) or "\\" in name


def logs() -> dict[str, list[str]]:
    """Paths that are no ids; an id that does not exist."""
    return {
        "fires": [
            "ValueError: adapter model file not found in my_run. Make sure you are passing the correct path to the adapter model.",
            "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': 'out/run1/lora'. Use `repo_type` argument if needed.",
            "OSError: Incorrect path_or_model_id: './adapter'. Please provide either the path to a local folder",
            "OSError: ./out/run is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'",
            "OSError: ./out/run is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'",
        ],
        "silent": [
            "OSError: some/adapter is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'",
            "RepositoryNotFoundError: 404 Client Error. Repository Not Found for url: https://huggingface.co/some/adapter/resolve/main/adapter_config.json",
        ],
    }
