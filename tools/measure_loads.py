"""Load saved adapters with the peft and transformers of this Python, and write down what happened: rows for `tools/matrix.py --rows`.

    python tools/measure_loads.py --bases DIR --adapters DIR --out rows.jsonl [--by PeftModel.from_pretrained] [--every N] [--stripped]

It runs in an environment of other versions, so it imports nothing of ours. Below `--adapters` lies one folder per saver
(`p0.17.1-t4.56.2`) with one per kind: the adapter, the saver's own logits (`_logits.npy`) and `_meta.json`. A row's outcome:
`ok_equal` (the logits of the saver), `ok_differ`, `error_load`, `error_forward`, `base_unsupported`. `--stripped` takes the keys
that this PEFT's config class lacks out of each config, and measures the adapters that have such keys.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import importlib.metadata
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.simplefilter("ignore")

import numpy as np
import torch
import transformers

try:
    import peft
except ImportError as clash:  # the two libraries do not go together: that is the outcome of every load
    peft, CLASH = None, clash
else:
    CLASH = None

torch.set_num_threads(1)

#: The fixed input of the shared matrix.
IDS = ((1, 10, 20, 30, 40, 50, 5, 6, 7, 60, 70, 80), (1, 11, 22, 33, 44, 55, 5, 6, 7, 66, 77, 88))
DECODER_IDS = ((0, 3, 4, 5), (0, 6, 7, 8))
AUTO = {
    "bert": "AutoModelForSequenceClassification",
    "bert_enc": "AutoModel",
    "t5": "AutoModelForSeq2SeqLM",
    "llava": "LlavaForConditionalGeneration",
    "qwen2vl": "Qwen2VLForConditionalGeneration",
}
TOLERANCE = {"bf16": 5e-2, None: 2e-4}
#: Words of a message → its class, as the shared matrix names them.
CLASSES = (
    ("missing adapter keys", "warn:missing-keys"),
    ("LOAD REPORT", "warn:report"),
    ("Unexpected keyword arguments", "warn:unknown-cfg"),
    ("tie_word_embeddings", "warn:tied"),
    ("Cayley", "warn:cayley"),
)


class Told(logging.Handler):
    """What the libraries logged since it was last emptied."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(f"LOG {record.name}: {record.getMessage()}"[:2000])


class Bases:
    """Fresh copies of the bases, and what they compute by themselves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._models: dict[str, Any] = {}
        self._logits: dict[tuple[str, str | None], Any] = {}

    def fresh(self, name: str, dtype: str | None = None) -> Any:
        """A copy of its own; raises what transformers raises about this base."""
        if name not in self._models:
            kind = getattr(transformers, AUTO.get(name, "AutoModelForCausalLM"))
            folder = self.folder / ("bert" if name == "bert_enc" else name)
            try:
                self._models[name] = kind.from_pretrained(str(folder)).float().eval()
            except Exception as error:
                self._models[name] = error
        found = self._models[name]
        if isinstance(found, Exception):
            raise found
        return copy.deepcopy(found).to(torch.bfloat16) if dtype == "bf16" else copy.deepcopy(found)

    def logits(self, name: str, dtype: str | None = None) -> Any:
        """The base's own logits, or the exception."""
        if (name, dtype) not in self._logits:
            try:
                self._logits[name, dtype] = run(self.fresh(name, dtype), name)
            except Exception as error:
                self._logits[name, dtype] = error
        return self._logits[name, dtype]


def run(model: Any, base: str, more: dict[str, Any] | None = None) -> Any:
    """The logits of the fixed input; the last hidden state of a model without a head."""
    ids = torch.tensor(IDS)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if base == "t5":
        given["decoder_input_ids"] = torch.tensor(DECODER_IDS)
    given.update({key: torch.tensor(value) for key, value in (more or {}).items()})
    torch.manual_seed(1234)
    with torch.no_grad():
        found = model(**given)
    return (found.logits if hasattr(found, "logits") else found[0]).float().numpy()


def by_from_pretrained(model: Any, folder: str) -> Any:
    """What most scripts do."""
    return peft.PeftModel.from_pretrained(model, folder)


def by_load_adapter(model: Any, folder: str) -> Any:
    """Beside the same adapter, and then chosen: what a second adapter of this kind meets."""
    loaded = peft.PeftModel.from_pretrained(model, folder)
    loaded.load_adapter(folder, adapter_name="second")
    loaded.set_adapter("second")
    return loaded


def by_transformers(model: Any, folder: str) -> Any:
    """The loader of transformers itself."""
    model.load_adapter(folder)
    return model


LOADERS = {
    "PeftModel.from_pretrained": by_from_pretrained,
    "PeftModel.load_adapter": by_load_adapter,
    "model.load_adapter": by_transformers,
}


def measure(entry: dict[str, Any], bases: Bases, by: str, told: Told) -> dict[str, Any]:
    """One load as a row."""
    if CLASH is not None:
        return {"outcome": "error_load", "detail": shown(CLASH)}
    base, dtype = entry["base"], entry["opts"].get("dtype")
    plain = bases.logits(base, dtype)
    if isinstance(plain, Exception):
        return {"outcome": "base_unsupported", "detail": shown(plain)}
    model = bases.fresh(base, dtype)
    if entry["kind"] == "xlora":
        model.config.use_cache = False
    torch.manual_seed(999)
    told.lines.clear()
    stage = "load"
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loaded = LOADERS[by](model, entry["folder"])
        said = heard(caught, told)
        stage = "forward"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = run(loaded.eval(), base, entry["opts"].get("extra"))
    except Exception as error:
        return {"outcome": f"error_{stage}", "detail": shown(error)}
    row = compared(found, np.load(entry["logits"]), plain, TOLERANCE[dtype])
    if row["outcome"] != "ok_differ":
        del said["warnclass"]
    return {**row, **said}


def shown(error: Exception) -> str:
    """`Kind: message`, cut."""
    return f"{type(error).__name__}: {str(error).strip()[:700]}"


def heard(caught: list[warnings.WarningMessage], told: Told) -> dict[str, Any]:
    """What was said while it loaded; `warnclass` for the table."""
    kept = [w for w in caught if not issubclass(w.category, (DeprecationWarning, FutureWarning))]
    lines = sorted({f"{w.category.__name__}: {w.message}"[:2000] for w in kept} | set(told.lines))
    names = [name for words, name in CLASSES if any(words in line for line in lines)]
    return {
        "warnings": [line[:400] for line in lines[:6]],
        "warnclass": names or (["warn:other"] if lines else ["SILENT"]),
    }


def compared(found: Any, wanted: Any, plain: Any, tolerance: float) -> dict[str, Any]:
    """Which of the three logits are the same."""
    close = tolerance * max(1.0, float(np.abs(wanted).max()))
    same, idle = _off(found, wanted) <= close, _off(found, plain) <= close
    effect = _off(wanted, plain)
    outcome = ("ok_equal_noeffect" if effect <= close else "ok_equal") if same else "ok_differ"
    return {
        "outcome": outcome,
        "equals_base": idle,
        "maxdiff": _off(found, wanted),
        "effect": effect,
        "detail": "",
    }


def _off(a: Any, b: Any) -> float:
    return float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")


def entries(folder: Path, savers: list[str] | None) -> Iterator[dict[str, Any]]:
    """What lies there: one entry per saved adapter."""
    for meta in sorted(folder.glob("*/*/_meta.json")):
        entry = json.loads(meta.read_text(encoding="utf-8"))
        inside = meta.parent / entry["opts"].get("adapter_name", "")
        if not savers or meta.parents[1].name in savers:
            yield {**entry, "folder": str(inside), "logits": str(meta.parent / "_logits.npy")}


def stripped(entry: dict[str, Any], scratch: Path) -> dict[str, Any] | None:
    """The adapter without the config keys that are unknown here; None where it has none, or its method is unknown itself."""
    folder = Path(entry["folder"])
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    classes = {
        getattr(method, "value", method): each for method, each in peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING.items()
    }
    if config["peft_type"] not in classes:
        return None
    known = {field.name for field in dataclasses.fields(classes[config["peft_type"]])}
    if known >= config.keys():
        return None
    made = Path(tempfile.mkdtemp(dir=scratch))
    kept = {key: value for key, value in config.items() if key in known}
    (made / "adapter_config.json").write_text(json.dumps(kept), encoding="utf-8")
    for weights in folder.glob("adapter_model.*"):
        (made / weights.name).symlink_to(weights)
    return {**entry, "folder": str(made)}


def chosen(given: argparse.Namespace, scratch: Path) -> Iterator[dict[str, Any]]:
    """The adapters to be loaded."""
    for entry in list(entries(given.adapters.resolve(), given.saver))[:: given.every]:
        if given.kind and entry["kind"] not in given.kind:
            continue
        wanted = stripped(entry, scratch) if given.stripped else entry
        if wanted is not None:
            yield wanted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", type=Path, required=True)
    parser.add_argument("--adapters", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--by", choices=list(LOADERS), default="PeftModel.from_pretrained")
    parser.add_argument("--every", type=int, default=1, help="take every n-th adapter only")
    parser.add_argument("--saver", action="append", help="such as p0.17.1-t4.56.2; may be repeated")
    parser.add_argument("--kind", action="append", help="one kind of adapter; may be repeated")
    parser.add_argument("--stripped", action="store_true", help="without the config keys that are unknown here")
    given = parser.parse_args()
    told = Told()
    for name in ("", "peft", "transformers"):
        logging.getLogger(name).addHandler(told)
    logging.getLogger("transformers").propagate = False
    transformers.utils.logging.set_verbosity_warning()
    pair = {"loader_peft": importlib.metadata.version("peft"), "loader_tf": transformers.__version__}
    bases, started = Bases(given.bases.resolve()), time.monotonic()
    versions = {
        **pair,
        "loader": given.by,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    mode = "config-stripped" if given.stripped else "plain"
    with given.out.open("w", encoding="utf-8") as out, tempfile.TemporaryDirectory() as scratch:
        for entry in chosen(given, Path(scratch)):
            row = {key: entry[key] for key in ("saver_peft", "saver_tf", "base", "kind")}
            if entry.get("probe"):
                row["folder"] = entry["folder"]
            row.update(versions, mode=mode, **measure(entry, bases, given.by, told))
            out.write(json.dumps(row) + "\n")
    print(f"peft {pair['loader_peft']}, transformers {pair['loader_tf']}: {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
