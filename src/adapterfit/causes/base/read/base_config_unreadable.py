"""The base's config.json cannot be read as JSON, or says something twice.

What this means: without `config.json` nobody knows which model the base is. transformers refuses to load it; where a
key stands twice, transformers takes the last one and other readers may take the first.

Why it happens: a broken download or a merge conflict; a file committed as a link of the Hub cache (its text is then
`../../blobs/…`); a comment or a trailing comma added by hand; a byte order mark added by an editor on Windows.

Detection: `config.json` is parsed as strict JSON; the message gives the place.

Fix: fetch the file again: `hf download OWNER/NAME config.json`.

Workaround: copy the file out of the Hub's page of the model.

Prevention: copy models with `hf download --local-dir` or `cp -L`, so that links become files.

Setup:
    text = Path("base/config.json").read_text()
    Path("base/config.json").write_text(text.replace("{", "{,", 1))  # a comma too many

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    # raises OSError: It looks like the config file at 'base/config.json' is not a valid JSON file.

Fixed:
    text = Path("base/config.json").read_text()
    Path("base/config.json").write_text(text.replace("{,", "{", 1))
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

CAUSE = Cause(
    minutes=2,
    messages=("OSError: It looks like the config file at '…/config.json' is not a valid JSON file.",),
    codes=("base-config-not-json", "base-config-key-twice"),
)


#: Functions of transformers and diffusers that read a model's config.
_READERS = frozenset({"_dict_from_json_file", "_get_config_dict", "get_config_dict"})


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the libraries' words, or a decoder that fails in their readers of a config."""
    told = said(symptoms, "is not a valid json file")
    failed = [e.line for e in symptoms.errors if e.kind in {"UnicodeDecodeError", "JSONDecodeError"}]
    inside = any(frame.function in _READERS for frame in symptoms.frames)
    if (told or (failed and inside)) and not said(symptoms, "adapter_config.json", most=1):
        yield suspect(
            symptoms, "the base's config.json is not text in UTF-8, or no JSON", 0.86 if told else 0.75, told or failed,
            fix="fetch the base's config.json again; a path to a weights file in its place says the same",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """The libraries' sentence; an adapter's config is another cause."""
    return {
        "fires": ["OSError: It looks like the config file at '/x/base/config.json' is not a valid JSON file."],
        "silent": ["json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"],
    }


def examples(make: Any) -> dict[str, list[Any]]:
    """`Infinity`, which real configs hold, is silent."""
    texts = (
        b"",
        b"[]",
        b"{",
        b"\xef\xbb\xbf{}",
        b"../../blobs/" + b"c3" * 20,
        b'{"model_type": "a", "model_type": "b"}',
    )
    return {
        "silent": [
            make.lora(),
            make.base_folder({"config.json": b'{"model_type": "mamba2", "limit": [0.0, Infinity]}'}),
        ],
        "fires": [make.base_folder({"config.json": text}) for text in texts],
    }
