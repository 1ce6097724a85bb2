"""Our prediction beside every measured load of the shared matrix: a table per loader, and what disagrees.

    python tools/matrix.py [--loader 0.15.2/4.51.3] [--differing] [--every N] [--rows FILE]

`--rows` takes loads that `tools/measure_loads.py` measured, of versions or loaders that the shared matrix does not have.

The adapters are what each saver wrote: from the files where they are there, else from its inventory (names, shapes, config).
Outcomes: *raises* (also where the base or the forward pass raised), *loads* (same logits as where it was saved), *differs*
(loads, other logits: our `loads-partly` and `loads-differently`), *no effect* (the base's logits).
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import gzip
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import adapterfit
import shared_data
from adapterfit.consumers.choice import choose
from adapterfit.consumers.versions import version
from adapterfit.pipeline import check
from adapterfit.read.config import parse_config
from adapterfit.records import Adapter, Consumer, FileEntry, Report, TensorInfo, Weights

#: What the bases of the matrix were loaded as.
CLASSES = {
    "llama": "LlamaForCausalLM",
    "llama_gqa": "LlamaForCausalLM",
    "llama_tied": "LlamaForCausalLM",
    "bert": "BertForSequenceClassification",
    "bert_enc": "BertModel",
    "gpt2": "GPT2LMHeadModel",
    "t5": "T5ForConditionalGeneration",
    "mixtral": "MixtralForCausalLM",
    "mixtral_sq": "MixtralForCausalLM",
    "gptoss": "GptOssForCausalLM",
    "gptoss_sq": "GptOssForCausalLM",
    "llava": "LlavaForConditionalGeneration",
    "qwen2vl": "Qwen2VLForConditionalGeneration",
}
#: The day on which the shared matrix was measured, as its README says.
_MEASURED = "2026-11-23"
OUTCOMES = ("raises", "loads", "differs", "no effect")
_OURS = {
    "raises": "raises",
    "loads": "loads",
    "loads-partly": "differs",
    "loads-differently": "differs",
    "loads-without-effect": "no effect",
    "cannot-tell": "cannot tell",
}


class Outcome(NamedTuple):
    """One load: what was measured, what we say about it, and what PEFT printed."""

    row: dict[str, Any]
    truth: str
    ours: str
    report: Report | None

    @property
    def agrees(self) -> bool:
        """Whether we say what happened. Logits on text do not show a lost vision tower: PEFT's own warning does."""
        told = "missing adapter keys" in str(self.row) or "LOAD REPORT" in str(self.row)
        unseen = self.truth == "loads" and self.ours == "differs" and told
        return self.ours == self.truth or unseen

    @property
    def false_fit(self) -> bool:
        """Whether we say *loads* of what did something else."""
        return self.ours == "loads" and self.truth != "loads"


# ------------------------------------------------------------------------------------------------ the rows


@cache
def rows() -> tuple[dict[str, Any], ...]:
    """Every measured load but those whose adapter was not what its kind says (`artefact`)."""
    path = shared_data.need(shared_data.MATRIX / "results.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    return tuple({"date": _MEASURED, **row} for row in found if not row["artefact"] and _was_tried(row))


def measured(path: Path) -> tuple[dict[str, Any], ...]:
    """Rows of our own measuring, without the adapters that the shared rows call artefacts."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    written = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.timezone.utc).date().isoformat()
    return tuple({"date": written, **row} for row in found if not _artefact(row) and _was_tried(row))


#: An init that the saver did not know yet, and took for true: kind → the first peft that knows it.
_INITS = {"lora_pissa": "0.11", "lora_olora": "0.12", "lora_orthogonal": "0.16", "lora_gaussian": "0.7"}


def _artefact(row: dict[str, Any]) -> bool:
    if row["kind"].startswith("init_"):  # a probe, which was not trained from this start: only a refusal says something
        return not row["outcome"].startswith("error")
    first = _INITS.get(row["kind"])
    return first is not None and version(row["saver_peft"]) < version(first)


def _was_tried(row: dict[str, Any]) -> bool:
    """Whether the load itself was measured: one base could be built and not be run on text alone, so nothing was loaded.

    Nor was it where the environment lacked what the adapter needs: scikit-learn, or the other adapters that X-LoRA names.
    """
    lacked = any(
        words in row["detail"]
        for words in ("scikit-learn is required", "Can't find 'adapter_config.json' at 'adapters/")
    )
    return not lacked and (row["outcome"] != "base_unsupported" or "NoneType" not in row["detail"])


def truth(row: dict[str, Any]) -> str:
    """What was measured, in four words."""
    outcome = row["outcome"].removeprefix("stripped_")
    if outcome.startswith(("error", "base_unsupported")):
        return "raises"
    if outcome == "ok_equal":
        return "loads"
    return "no effect" if row.get("equals_base") else "differs"


def loader_of(row: dict[str, Any]) -> tuple[str, str]:
    """The versions that loaded."""
    return row["loader_peft"], row["loader_tf"]


def _order(versions: tuple[str, str]) -> tuple[list[int], ...]:
    return tuple([int(part) for part in version.split(".")] for version in versions)


# ------------------------------------------------------------------------------------------------ the adapters


@cache
def inventory(saver: str, *, square: bool) -> dict[str, Any]:
    """What a saver wrote: kind → names, shapes and config."""
    folder = shared_data.unpacked(shared_data.MATRIX / "inventories.tar.xz") / "inv"
    path = folder / f"{'sq-' if square else ''}{saver}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@cache
def adapter(saver: str, kind: str) -> Adapter | None:
    """The adapter as a record; None where nothing is known of it."""
    entry = inventory(saver, square="_sq_" in kind).get(kind)
    if entry is None or entry.get("status") != "ok":
        return None
    tensors = tuple(
        TensorInfo(name, _DTYPES[dtype], tuple(shape)) for name, (shape, dtype) in entry["inventory"].items()
    )
    return _record(kind, entry["config"], tensors, entry["fmt"])


_DTYPES = {
    "torch.float32": "F32",
    "torch.bfloat16": "BF16",
    "torch.float16": "F16",
    "torch.int64": "I64",
    "torch.int32": "I32",
    "torch.int16": "I16",
    "torch.uint8": "U8",
    "torch.float64": "F64",
    "torch.bool": "BOOL",
    "torch.int8": "I8",
}


def _record(kind: str, config: dict[str, Any], tensors: tuple[TensorInfo, ...], fmt: str) -> Adapter:
    file = "adapter_model.bin" if fmt == "bin" else "adapter_model.safetensors"
    weights = Weights(file, "torch_zip" if fmt == "bin" else "safetensors", 1, tensors)
    parsed = parse_config(json.dumps(config).encode())
    files = (FileEntry("adapter_config.json", 1), FileEntry(file, 1))
    return Adapter(label=kind, files=files, config=parsed, weights=weights)


def stripped(found: Adapter, row: dict[str, Any], consumer: Consumer) -> tuple[Adapter, Consumer]:
    """The second pass took the keys out that the loader's config class lacks, and wrote a `.bin` for 0.3.0.

    Asked is what that does to this adapter: its config as it was, with a loader that drops such keys without a word.
    """
    again = row["loader_peft"] == "0.3.0" or (found.weights is not None and found.weights.format == "torch_zip")
    changed = _record(
        found.label, dict(found.config.raw if found.config else {}), found.tensors, "bin" if again else "safetensors"
    )
    return changed, dataclasses.replace(consumer, rules={**consumer.rules, "unknown-config-keys": "silent"})


# ------------------------------------------------------------------------------------------------ the answers


@cache
def _base(name: str) -> Any:
    return adapterfit.read_base(shared_data.bases() / ("bert" if name == "bert_enc" else name))


@cache
def _probe(folder: str) -> Adapter:
    """One of `tools/claim_probes.py`, which no inventory has."""
    return check(folder).case.adapter


def predict(row: dict[str, Any], consumer: Consumer | None = None) -> Report | None:
    """Our report on one row's load; None where its adapter is not known. `consumer`: who loads it, where its rules are others."""
    saver = f"p{row['saver_peft']}-t{row['saver_tf']}"
    found = _probe(row["folder"]) if "folder" in row else adapter(saver, row["kind"])
    if found is None:
        return None
    consumer = consumer or choose(f"peft=={row['loader_peft']},transformers=={row['loader_tf']}", row.get("loader"))
    if row["mode"] == "config-stripped":
        found, consumer = stripped(found, row, consumer)
    return check(found, _base(row["base"]), consumer, base_class=CLASSES[row["base"]])


def outcome(row: dict[str, Any], consumer: Consumer | None = None) -> Outcome:
    """A row and what we say about it."""
    report = predict(row, consumer)
    ours = "unknown adapter" if report is None else _OURS[report.predicted]
    return Outcome(row, truth(row), ours, report)


def _slim(group: list[dict[str, Any]]) -> list[tuple[Outcome, str]]:
    """The work of one process: rows → what happened, our word and the reason."""
    return [(each._replace(report=None), _said(each.report)) for each in map(outcome, group)]


def _said(report: Report | None) -> str:
    if report is None:
        return ""
    ids = ",".join(f.id for f in report.findings if f.severity == "error")
    why = report.not_checked[0].why if report.predicted == "cannot-tell" and report.not_checked else ""
    return " | ".join(part for part in (report.raised.text if report.raised else "", ids, why) if part)[:300]


def measure(wanted: Iterable[dict[str, Any]], processes: int = 2) -> Iterator[tuple[Outcome, str]]:
    """The outcomes of these rows, and what we give as the reason; adapters of one kind stay in one process."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in wanted:
        groups[row["saver_peft"], row["kind"]].append(row)
    if processes == 1:
        for group in groups.values():
            yield from _slim(group)
        return
    with ProcessPoolExecutor(processes) as pool:
        for part in pool.map(_slim, groups.values(), chunksize=16):
            yield from part


def same_class(row: dict[str, Any], said: str) -> bool | None:
    """Whether the exception that we announce is of the class that was raised; None where the adapter's load raised none.

    What the base raised was recorded by its class name only where it was built, so that is left out.
    """
    if not row["outcome"].endswith("error_load") or not said:
        return None
    return said.partition(":")[0] == row["detail"].partition(":")[0]


# ------------------------------------------------------------------------------------------------ the table


def table(found: Iterable[Outcome]) -> str:
    """One confusion table per loader, measured by predicted, and the totals."""
    by_loader: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for each in found:
        by_loader[loader_of(each.row)].append(each)
    heads = (*OUTCOMES, "cannot tell", "unknown adapter")
    lines = ["measured \\ predicted".ljust(22) + "".join(head.rjust(16) for head in heads)]
    for loader in sorted(by_loader, key=_order):
        part = by_loader[loader]
        lines.append(f"peft {loader[0]} + transformers {loader[1]}: {_agreement(part)}")
        counts = Counter((each.truth, each.ours) for each in part)
        lines.extend(
            f"  {word}".ljust(22) + "".join(str(counts[word, head]).rjust(16) for head in heads) for word in OUTCOMES
        )
    every = [each for part in by_loader.values() for each in part]
    silent = [each for each in every if each.row.get("warnclass") == ["SILENT"]]
    unsure = sum(each.ours == "cannot tell" for each in silent)
    lines += [
        f"all loaders: {_agreement(every)}",
        f"called loads, measured otherwise: {sum(each.false_fit for each in every)}",
        f"silent differences: {len(silent)}, called loads {sum(each.false_fit for each in silent)}, cannot tell {unsure}",
    ]
    return "\n".join(lines)


def _agreement(part: list[Outcome]) -> str:
    known = [each for each in part if each.ours != "unknown adapter"]
    good = sum(each.agrees for each in known)
    return f"{good} of {len(known)} agree ({100 * good / max(1, len(known)):.2f} %)"


def differing(found: Iterable[tuple[Outcome, str]]) -> str:
    """What disagrees, grouped: measured, predicted, kind, base, mode, and which savers and loaders."""
    groups: dict[tuple[str, ...], list[tuple[dict[str, Any], str]]] = defaultdict(list)
    for each, said in found:
        if not each.agrees:
            row = each.row
            groups[each.truth, each.ours, row["kind"], row["base"], row["mode"]].append((row, said))
    lines = []
    for key, members in sorted(groups.items(), key=lambda item: -len(item[1])):
        savers = sorted({(row["saver_peft"], row["saver_tf"]) for row, _ in members}, key=_order)
        loaders = sorted({loader_of(row) for row, _ in members}, key=_order)
        row, said = members[0]
        lines += [
            f"{len(members):5} measured {key[0]}, predicted {key[1]}: {' '.join(key[2:])}",
            f"      savers {' '.join('/'.join(s) for s in savers)} | loaders {' '.join('/'.join(s) for s in loaders)}",
            f"      there: {row.get('warnclass', '')} {row['detail'][:160]!r}",
            f"      ours: {said}",
        ]
    return "\n".join(lines)


def main() -> int:
    """Exit code 0: at least 98 of 100 loads agree, and nothing silent is called *loads*."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loader", action="append", help="such as 0.15.2/4.51.3; may be repeated")
    parser.add_argument("--kind", help="one kind of adapter")
    parser.add_argument("--differing", action="store_true", help="also list what disagrees")
    parser.add_argument("--every", type=int, default=1, help="take every n-th row only")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rows", type=Path, action="append", help="loads measured by tools/measure_loads.py, instead")
    given = parser.parse_args()
    wanted = [
        row
        for row in ([row for path in given.rows for row in measured(path)] if given.rows else rows())
        if (not given.loader or "/".join(loader_of(row)) in given.loader) and given.kind in (None, row["kind"])
    ][:: given.every]
    found = list(measure(wanted, given.processes))
    if given.differing:
        print(differing(found))
    outcomes = [each for each, _ in found]
    print(table(outcomes))
    classes = [same_class(each.row, said) for each, said in found if each.ours == each.truth == "raises"]
    print(
        f"exceptions of a load announced by their class: {classes.count(True)} of {len(classes) - classes.count(None)}"
    )
    known = [each for each in outcomes if each.ours != "unknown adapter"]
    silent = any(each.false_fit for each in known if each.row.get("warnclass") == ["SILENT"])
    return int(silent or sum(each.agrees for each in known) < 0.98 * len(known))


if __name__ == "__main__":
    sys.exit(main())
