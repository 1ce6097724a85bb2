"""Broken adapters loaded by other versions of peft and transformers, beside what we say of those versions.

    python tools/broken_elsewhere.py write FOLDER                      the adapters, in every way of tests/differential/broken.py
    OTHER/bin/python tools/broken_elsewhere.py load FOLDER --out FILE  with that environment's libraries; imports nothing of ours
    python tools/broken_elsewhere.py compare FOLDER FILE …             a table per file, and what disagrees

Measured is whether the load raises, and else whether every tensor of the file is in the model, number for number, and every
parameter of the adapter in the file: `loads`, or `partly`. The values of a file differ from tensor to tensor, but for layers: one
that is missing is not told from its like in another layer. VeRA's projections are read from the file since PEFT 0.21 alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ADAPTERS = (
    "llama lora", "llama dora", "llama lora and saved head", "llama patterns", "llama one layer", "bert classifier", "gpt2 fused", "t5 lora",
    "llama loha", "llama ia3", "tied llama, both ends saved", "llama lora on the embedding", "bert biases", "llama adalora", "llama prefix",
    "gpt2 p-tuning", "llama oft", "llama lora and token rows",
)  # fmt: skip
_OWN = ("lora_", "hada_", "ia3_", "oft_", "modules_to_save", "token_adapter.trainable", "prompt_encoder")


def write(folder: Path) -> None:
    """One folder per broken adapter, and an index with the base of each."""
    import adapterfit
    from adapterfit.testing import make

    broken = _broken()
    index = []
    for name in ADAPTERS:
        for way, mutation in broken.MUTATIONS.items():
            sample = mutation(broken.sample(name))
            diff = adapterfit.check(sample.adapter, base=sample.case.base).diff
            if diff is None:
                continue
            here = folder / str(len(index))
            here.mkdir(parents=True, exist_ok=True)
            for file, data in make.as_files(sample).items():
                (here / file).write_bytes(data)
            base = dict(sample.case.base.config)
            index.append({"name": name, "way": way, "base": base, "class": diff.expectation.tree.class_name})
    (folder / "index.json").write_text(json.dumps(index), "utf-8")
    print(f"{len(index)} adapters in {folder}")


def load(folder: Path, out: Path) -> None:
    """What happens to each here."""
    os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_OFFLINE="1")
    warnings.simplefilter("ignore")
    import peft
    import torch
    import transformers

    torch.set_num_threads(1)
    bases: dict[str, Any] = {}
    with out.open("w", encoding="utf-8") as lines:
        lines.write(json.dumps({"peft": peft.__version__, "transformers": transformers.__version__}) + "\n")
        for at, row in enumerate(json.loads((folder / "index.json").read_text("utf-8"))):
            lines.write(json.dumps(_loaded(folder / str(at), row, bases)) + "\n")


def _loaded(adapter: Path, row: dict[str, Any], bases: dict[str, Any]) -> tuple[str, Any]:
    import peft
    import torch
    import transformers
    from safetensors.torch import load_file

    key = json.dumps([row["base"], row["class"]])
    try:
        if key not in bases:
            torch.manual_seed(0)
            config = transformers.AutoConfig.for_model(**row["base"])
            bases[key] = getattr(transformers, row["class"])(config).float().eval()
        held = peft.PeftModel.from_pretrained(copy.deepcopy(bases[key]), str(adapter)).state_dict()
    except Exception as error:
        return "raises", f"{type(error).__name__}: {error}"[:600]
    path, used, dropped = adapter / "adapter_model.safetensors", set(), []
    for name, tensor in (load_file(path) if path.exists() else {}).items():
        same = [k for k, v in held.items() if v.shape == tensor.shape and torch.equal(v.float(), tensor.float())]
        used.update(same)
        dropped += [] if same else [name]
    empty = [name for name in held if any(own in name for own in _OWN) and name not in used and "original" not in name]
    return ("partly" if dropped or empty else "loads"), [dropped[:3], empty[:3]]


def compare(folder: Path, files: list[Path]) -> int:
    """Print what agrees and what does not; exit code 1 where we say *loads* of what raised, or the other way round."""
    import adapterfit

    broken, index, worst = _broken(), json.loads((folder / "index.json").read_text("utf-8")), 0
    ours = {"raises": "raises", "loads": "loads", "loads-differently": "loads", "cannot-tell": "cannot tell"}
    for file in files:
        versions, *found = map(json.loads, file.read_text("utf-8").splitlines())
        who = ",".join(f"{name}=={version}" for name, version in versions.items())
        counts: Counter[tuple[str, str]] = Counter()
        apart: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for row, (real, detail) in zip(index, found):
            sample = broken.MUTATIONS[row["way"]](broken.sample(row["name"]))
            report = adapterfit.check(sample.adapter, base=sample.case.base, consumer=who, base_class=row["class"])
            said = ours.get(report.predicted, "partly")
            counts[said, real] += 1
            if said not in (real, "cannot tell"):
                apart[said, real, row["way"]].append(f"{row['name']}: {str(detail)[:120]}")
        print(who, *(f"{said}/{real} {count}" for (said, real), count in sorted(counts.items())))
        for (said, real, way), cases in sorted(apart.items()):
            print(f"  we say {said}, it {real}: {way}: {len(cases)}, such as {cases[0]}")
        worst += sum("raises" in pair and "cannot tell" not in pair and pair[0] != pair[1] for pair in counts)
    return int(worst > 0)


def _broken() -> Any:
    sys.path[:0] = [str(ROOT / "tests" / "differential"), str(ROOT / "tests")]
    import broken

    return broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "load", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--out", type=Path, default=Path("loads.jsonl"))
    given = parser.parse_args()
    if given.what == "compare":
        return compare(given.folder, given.files)
    write(given.folder) if given.what == "write" else load(given.folder, given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
