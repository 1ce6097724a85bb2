"""`adapterfit.load` beside `PeftModel.from_pretrained`, on one live base in one process: what the guard costs.

    guarded.py FOLDER ROUNDS

FOLDER is what `shapes.lay` makes. Its adapter is made of holes; an adapter of zeros is refused, so it is filled here.
In every round each contestant has its turn, another one first each time, and the adapter is taken off again; a line per
round is printed, `plain guarded stamped` in seconds.
"""

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import adapterfit

SIDECAR = "adapterfit.json"


def filled(adapter: Path) -> None:
    """The adapter with numbers in it."""
    path = str(adapter / "adapter_model.safetensors")
    torch.manual_seed(0)
    save_file({name: torch.randn_like(tensor) / 100 for name, tensor in load_file(path).items()}, path)


def timed(load: Callable, model: torch.nn.Module, adapter: str) -> float:
    """Seconds of one load; the model is bare again afterwards."""
    start = time.perf_counter()
    loaded = load(model, adapter)
    seconds = time.perf_counter() - start
    loaded.unload()
    return seconds


def main() -> None:
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    adapter = folder / "adapter"
    filled(adapter)
    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.bfloat16)
    contestants = {"plain": PeftModel.from_pretrained, "guarded": adapterfit.load, "stamped": adapterfit.load}
    for number in range(rounds + 1):
        found = dict.fromkeys(contestants, 0.0)
        first = number % len(contestants)
        for name in [*contestants][first:] + [*contestants][:first]:
            if name == "stamped":
                adapterfit.stamp(adapter, model)
            found[name] = timed(contestants[name], model, str(adapter))
            (adapter / SIDECAR).unlink(missing_ok=True)
        if number:
            print(*found.values())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
