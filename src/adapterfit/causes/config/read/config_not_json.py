"""adapter_config.json is not JSON.

What this means: the file is empty, cut off, in another encoding, or not a table of fields. PEFT reads it first, so
nothing of the adapter is loaded.

Why it happens: the save was interrupted (`Object of type set is not JSON serializable` leaves a cut file behind), a
download stopped, an editor saved UTF-16 or a byte order mark, or someone added a comment or a trailing comma by hand.

Detection: the file is parsed strictly; the place of the first mistake is shown.

Fix: fetch the file again, or mend the shown place.

Workaround: write the config anew. `r` is the number of rows of any `lora_A`, `target_modules` are the last parts of the
module names in the tensor names; `lora_alpha` must be known, it stands in no tensor.

Prevention: save with `model.save_pretrained` of PEFT 0.6 or later, and edit the file with a JSON-aware editor.

Setup:
    whole = Path(CONFIG).read_text()
    Path(CONFIG).write_text(whole[: whole.index("target_modules")])  # the save was interrupted

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises JSONDecodeError: Unterminated string starting at

Fixed:
    LoraConfig(**OPTIONS, inference_mode=True).save_pretrained("adapter")  # the options of the training
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
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
    """A config as PEFT writes it is silent."""
    plain = make.lora("llama")
    files = make.as_files(plain)
    bad = [b"", b"   ", b"{", files[make.CONFIG][:-4], b"[]", b'"x"', b"\xef\xbb\xbf" + files[make.CONFIG]]
    return {"silent": [make.folder(files)], "fires": [make.folder({**files, make.CONFIG: each}) for each in bad]}


CAUSE = Cause(
    messages=(
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        "json.decoder.JSONDecodeError: Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0)",
        "TypeError: Object of type set is not JSON serializable",
        "json.decoder.JSONDecodeError: Unterminated string starting at: line 34 column 3 (char 822)",
    ),
    codes=("config-not-json",),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "not valid json", "invalid json", "json.dump",
)  # fmt: skip

#: Functions in which a traceback points here: library and name → how likely it is.
STOPS = {("peft", "from_json_file"): 0.6}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: what JSON readers say, or a set that could not be written."""
    fix = "write adapter_config.json anew: r is the rows of lora_A, target_modules the modules in the names; lora_alpha must be known"
    unwritten = said(symptoms, "object of type set is not json serializable")
    if unwritten:
        yield suspect(
            symptoms, "the config could not be saved: since peft 0.6 target_modules is a set", 0.93, unwritten,
            fix="save with config.save_pretrained(folder), or turn the set into a list before json.dump",
        )  # fmt: skip
    undecoded = [error for error in symptoms.errors if error.kind == "UnicodeDecodeError"]
    if undecoded and (
        said(symptoms, "adapter_config", "peftconfig")
        or any(frame.function == "from_json_file" for frame in symptoms.frames)
    ):
        yield suspect(
            symptoms, "adapter_config.json has letters that are not ASCII, and this machine reads another encoding than it was written in", 0.8,
            [error.line for error in undecoded], fix="write it anew in ASCII (json.dump does), or start Python with PYTHONUTF8=1",
        )  # fmt: skip
    decoded = [error for error in symptoms.errors if error.kind == "JSONDecodeError"]
    ours = said(symptoms, "adapter_config") or any(frame.library == "peft" for frame in symptoms.frames)
    if decoded:
        yield suspect(
            symptoms,
            "a config is empty or is not JSON",
            0.88 if ours else 0.6 if said(symptoms, "lora", "peft", "adapter", most=1) else 0.4,
            [error.line for error in decoded],
            fix=fix,
        )


def logs() -> dict[str, list[str]]:
    """A file that breaks off; a set; a config that is only missing."""
    return {
        "fires": [
            'File "/usr/lib/python3/site-packages/peft/config.py", line 80, in from_json_file\njson.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)',
            "TypeError: Object of type set is not JSON serializable",
        ],
        "silent": ["ValueError: Can't find 'adapter_config.json' at 'x'"],
    }
