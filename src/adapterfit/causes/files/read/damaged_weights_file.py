"""The weights file is damaged, or is not the weights at all.

What this means: the file breaks off, is empty, has a header that cannot be read, or is something else under the name
of weights: a Git LFS pointer, a web page, an error message, an archive. No loader can use it, and nothing in it says
how the adapter would fit.

Why it happens: an interrupted download or upload; `git clone` without Git LFS, which leaves a pointer of some 130
bytes; a download link that answered with a page; a full disk while saving; a file that was opened and saved by an
editor.

Detection: the first bytes say what a file is, whatever its name. For safetensors, header length and the last tensor's
end are compared with the file's size; a zip must end with its directory.

Fix: fetch the file again: `git lfs pull` for a pointer, `hf download` otherwise, and compare the size with the one
shown on the Hub. If the damage happened while saving, use an earlier checkpoint.

Workaround: the missing bytes are nowhere else; of a safetensors file or torch's `.bin`, `adapterfit fix --unsafe` keeps the
tensors before the cut, and names those that are lost.

Prevention: download with `hf download`, which checks sizes; keep `*.safetensors filter=lfs` in a file that is really
called `.gitattributes`.

Setup:
    shutil.copy(WEIGHTS, "whole.safetensors")
    whole = Path(WEIGHTS).read_bytes()
    Path(WEIGHTS).write_bytes(whole[:-1000])  # the download stopped

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered

Fixed:
    shutil.copy("whole.safetensors", WEIGHTS)  # fetch it again: hf download OWNER/NAME --local-dir adapter
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.edits import Gather
from adapterfit.records import Case, Fix, Flaw, Suspicion
from adapterfit.text import quote, shorten

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=5,
    messages=(
        "safetensors_rust.SafetensorError: Error while deserializing header: header too large",
        "SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered",
        "SafetensorError: Error while deserializing header: header too small",
        "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory",
        "_pickle.UnpicklingError: Weights only load failed.",
    ),
    codes=("truncated-file", "header-not-json", "header-too-large", "not-this-format"),
)


def cure(case: Case, flaw: Flaw) -> Fix | None:
    """Of a file that is cut off, the tensors before the cut are whole."""
    weights = case.adapter.weights
    if weights is None or not weights.intact or flaw.code != "truncated-file":
        return None
    whole, lost = len(weights.intact), len(weights.lost)
    far = f"{lost} of {whole + lost} tensors are lost, and what they did with them: {shorten(map(quote, weights.lost), 10)}"
    return Fix("unsafe", f"{flaw.remedy}; or keep the {whole} tensors before the cut", (Gather((weights.file,)),), far)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain, make.weights_file({forge.BIN: forge.GOOD_BIN})],
        "fires": [
            make.weights_file({forge.ST: forge.GOOD_ST[:-2]}),
            make.weights_file({forge.ST: b"version https://git-lfs.github.com/spec/v1\nsize 1\n"}),
            make.weights_file({forge.ST: b""}),
            make.weights_file({forge.ST: b"<html>"}),
            make.weights_file({forge.ST: forge.st(b"{")}),
            make.weights_file({forge.BIN: forge.GOOD_BIN[:-2]}),
        ],
    }


#: What readers say → what the file is, and how sure that is.
_SAID = (
    ("headertoolarge", "it is no safetensors file: a Git LFS pointer, a web page, or a .bin under another name", 0.92),
    (
        "header too large",
        "it is no safetensors file: a Git LFS pointer, a web page, or a .bin under another name",
        0.92,
    ),
    ("headertoosmall", "it has less than eight bytes: it is empty", 0.92),
    ("header too small", "it has less than eight bytes: it is empty", 0.92),
    ("metadataincompletebuffer", "it breaks off: the download or the save was not finished", 0.92),
    ("incomplete metadata", "it breaks off: the download or the save was not finished", 0.92),
    ("invalidheaderlength", "its header's length is wrong: it is damaged, or no safetensors file", 0.88),
    ("invalid header length", "its header's length is wrong: it is damaged, or no safetensors file", 0.88),
    ("invalidheaderdeserialization", "its header is not JSON", 0.6),
    ("pytorchstreamreader failed", "it is a zip that breaks off, or no zip at all", 0.9),
    ("failed finding central directory", "it is a zip that breaks off", 0.9),
    ("invalid load key", "it is no pickle: a Git LFS pointer, a web page, or a safetensors file", 0.88),
    ("version https://git-lfs", "it is a Git LFS pointer", 0.92),
    ("unexpected eof", "it breaks off", 0.75),
    ("file is corrupted or incomplete", "it breaks off", 0.88),
    ("consistency check failed: file should be of size", "the download was not finished", 0.88),
    ("ran out of input", "it is empty", 0.8),
    ("without having git-lfs installed", "it is a Git LFS pointer", 0.92),
    ("invalid magic number", "it is no pickle", 0.88),
    (
        "weightsunpickler error: unsupported operand",
        "it is no pickle: another format under a pickle's name, or damaged",
        0.6,
    ),
    ("unpickling stack underflow", "it is no pickle, or a damaged one", 0.88),
    ("storage has wrong byte size", "it breaks off", 0.85),
    ("badzipfile", "it is no zip, or a damaged one", 0.85),
    ("invalidoffset", "its header and its data do not go together", 0.88),
    ("tensorinvalidinfo", "its header and its data do not go together", 0.88),
    ("not within the file bounds", "it breaks off", 0.88),
    ("error while deserializing header", "its header cannot be read: it is damaged, or no safetensors file", 0.8),
    ("safetensorerror", "it is damaged, or no safetensors file", 0.75),
    ("is not a valid safetensors", "it is damaged, or no safetensors file", 0.85),
    ("unable to load weights from pytorch checkpoint file", "it is damaged, or no pickle", 0.7),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "git lfs", "git-lfs", "corrupt", "truncated", "re-download", "incomplete download",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {
    ("safetensors", "load_file"): 0.6,
    ("torch", "_legacy_load"): 0.65,
    ("torch", "_open_zipfile_reader"): 0.7,
    ("peft", "safe_load_file"): 0.55,
    ("transformers", "_load_best_model"): 0.35,
}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: what the readers of weight files say when they cannot read one."""
    short = [
        e.line for e in symptoms.errors if e.library == "safetensors" and "is invalid for input of size" in e.message
    ]
    if short:
        yield suspect(
            symptoms, "the file ends within a tensor: the download or the save was not finished", 0.88, short,
            fix="compare its size with the original's and fetch it again", apart="its size: adapterfit check ADAPTER says what is missing",
        )  # fmt: skip
    for phrase, meaning, likelihood in _SAID:
        told = said(symptoms, phrase)
        if told:
            yield suspect(
                symptoms, f"the weights file cannot be read: {meaning}", likelihood, told,
                fix="compare its size with the original's and fetch it again: git lfs pull, or hf download",
                apart="its size and first bytes: adapterfit check ADAPTER says what the file is",
            )  # fmt: skip
            return
    opening = _opening(symptoms)
    if opening:
        yield suspect(
            symptoms, "torch stumbles while it opens the adapter's weights file", 0.6, opening,
            fix="compare its size with the original's and fetch it again: git lfs pull, or hf download",
            apart="its size and first bytes: adapterfit check ADAPTER says what the file is",
        )  # fmt: skip


def _opening(symptoms: Symptoms) -> tuple[int, ...]:
    """An error of torch's reader, called by PEFT, that is about the file's bytes."""
    places = [frame.library for frame in symptoms.frames if frame.library in {"peft", "torch"}]
    last = symptoms.frames[-1] if symptoms.frames else None
    if places[-2:] not in (["torch", "torch"], ["peft", "torch"]) or "peft" not in places or last is None:
        return ()
    inside = (
        last.library == "torch" and last.file == "serialization.py" and last.function in {"__init__", "load", "_load"}
    )
    return tuple(
        e.line
        for e in symptoms.errors[-1:]
        if inside and e.kind in {"OSError", "EOFError", "RuntimeError"} and e.line > last.line
    )


def logs() -> dict[str, list[str]]:
    """Each reader's words; a file that is only not there."""
    return {
        "fires": [
            '  File "/x/site-packages/peft/utils/save_and_load.py", line 700, in load_peft_weights\n  File "/x/site-packages/torch/serialization.py", line 700, in __init__\nOSError: [Errno 22] Invalid argument',
            "safetensors_rust.SafetensorError: Error while deserializing header: header too large",
            "SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
            "_pickle.UnpicklingError: invalid load key, 'v'.",
            "  File \"/x/site-packages/safetensors/torch.py\", line 100, in load_file\nRuntimeError: shape '[64, 320]' is invalid for input of size 9000",
            "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory",
        ],
        "silent": ["FileNotFoundError: [Errno 2] No such file or directory: 'adapter_model.safetensors'"],
    }
