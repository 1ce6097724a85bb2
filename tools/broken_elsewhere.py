"""Broken adapters loaded by other versions of peft and transformers, beside what we say of those versions.

    python tools/broken_elsewhere.py write FOLDER [--every N]          the adapters, in every way of tests/differential/broken.py
    OTHER/bin/python tools/broken_elsewhere.py load FOLDER --out FILE  with that environment's libraries; imports nothing of ours
    python tools/broken_elsewhere.py compare FOLDER FILE …             a table per file, and what disagrees

Measured is whether the load raises, and else whether every tensor of the file is in the model, number for number, and every
tensor that PEFT would save of it is in the file: `loads`, or `partly`. No two tensors of a file are alike, so what is there twice
by design (the copies of RandLoRA's bases, Lily's shared halves, tied rows) counts as `partly` where PEFT keeps one of them; so do
whole numbers, which stay zero, and projections that a PEFT makes from the seed. `--stripped` takes the keys that the other PEFT's
config class lacks out of each config, on both sides.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import inspect
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_WEIGHTS = "adapter_model.safetensors"


def write(folder: Path, every: int) -> None:
    """One folder per broken adapter, every Nth of them, and an index with the base of each."""
    import adapterfit
    from adapterfit.testing import make

    broken = _broken()
    index: list[dict[str, Any]] = []
    for name, way in [(name, way) for name in broken.ADAPTERS for way in broken.MUTATIONS][::every]:
        sample = broken.MUTATIONS[way](broken.sample(name))
        changed = way == "as it was saved" or sample != broken.sample(name)
        diff = adapterfit.check(sample.adapter, base=sample.case.base).diff if changed else None
        if diff is not None:
            here = folder / str(len(index))
            here.mkdir(parents=True, exist_ok=True)
            for file, data in make.as_files(sample).items():
                (here / file).write_bytes(data)
            _fill(here / _WEIGHTS, len(index))
            base = dict(sample.case.base.config)
            index.append({"name": name, "way": way, "base": base, "class": diff.expectation.tree.class_name})
    (folder / "index.json").write_text(json.dumps(index), "utf-8")
    print(f"{len(index)} adapters in {folder}")


def _fill(path: Path, seed: int) -> None:
    """Other numbers in every tensor."""
    import torch
    from safetensors.torch import load_file, save_file

    drawn = torch.Generator().manual_seed(seed)
    held = {
        name: torch.randn(one.shape, generator=drawn).to(one.dtype) / 20 if one.is_floating_point() else one
        for name, one in sorted(load_file(path).items())
    }
    save_file(held, path, {"format": "pt"})


def load(folder: Path, out: Path, *, stripped: bool) -> None:
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
            with tempfile.TemporaryDirectory() as other:
                adapter = _without_strangers(folder / str(at), Path(other)) if stripped else folder / str(at)
                lines.write(json.dumps(_loaded(adapter, row, bases)) + "\n")


def _without_strangers(adapter: Path, other: Path) -> Path:
    """A copy whose config has only what this PEFT knows."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    kind = PEFT_TYPE_TO_CONFIG_MAPPING.get(config.get("peft_type"))
    known = {field.name for field in dataclasses.fields(kind)} | {"peft_type"} if kind is not None else config
    kept = {key: value for key, value in config.items() if key in known}
    (other / "adapter_config.json").write_text(json.dumps(kept), "utf-8")
    shutil.copy(adapter / _WEIGHTS, other)
    return other


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
        base = copy.deepcopy(bases[key])
    except Exception as error:
        return "no base", f"{type(error).__name__}: {error}"[:600]
    try:
        model = peft.PeftModel.from_pretrained(base, str(adapter))
    except Exception as error:
        return "raises", f"{type(error).__name__}: {error}"[:600]
    apart = "save_embedding_layers" in inspect.signature(peft.get_peft_model_state_dict).parameters
    own = peft.get_peft_model_state_dict(model, **({"save_embedding_layers": False} if apart else {}))
    held, file = [*model.state_dict().values(), *own.values()], load_file(adapter / _WEIGHTS)

    def among(tensor: Any, others: Any) -> bool:
        return any(one.shape == tensor.shape and torch.equal(one.float(), tensor.float()) for one in others)

    dropped = [name for name, tensor in file.items() if not among(tensor, held)]
    empty = [name for name, tensor in own.items() if not among(tensor, file.values())]
    return ("partly" if dropped or empty else "loads"), [dropped[:3], empty[:3]]


def compare(folder: Path, files: list[Path], *, stripped: bool) -> int:
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
            if real == "no base":
                continue
            sample = broken.MUTATIONS[row["way"]](broken.sample(row["name"]))
            if stripped:
                sample = sample.without_config(*_strangers(sample, versions["peft"]))
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


def _strangers(sample: Any, peft: str) -> list[str]:
    """The keys of its config that this PEFT does not know; none where it does not know the method."""
    from adapterfit.read import peft_facts

    raw = sample.case.adapter.config.raw
    facts = peft_facts.method(raw.get("peft_type"))
    known = facts.fields_of(peft) | {"peft_type"} if facts is not None and peft in facts.releases() else raw
    return [key for key in raw if key not in known]


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
    parser.add_argument("--every", type=int, default=1, help="write every Nth only")
    parser.add_argument("--stripped", action="store_true", help="without the config keys unknown there")
    given = parser.parse_args()
    if given.what == "compare":
        return compare(given.folder, given.files, stripped=given.stripped)
    if given.what == "write":
        write(given.folder, given.every)
    else:
        load(given.folder, given.out, stripped=given.stripped)
    return 0


if __name__ == "__main__":
    sys.exit(main())
