"""Claims that no load of a saved adapter speaks of, asked by code: what this Python's peft does, in the words of the claim's value.

    python tools/claim_code.py --out seen.jsonl

It runs in an environment of other versions, so it imports nothing of ours. Each line holds a claim's id and the value that was
seen: `tools/claim_runs.py --seen FILE` holds it against what is claimed of these versions. Where nothing is claimed, the newest
PEFT is meant, so every function returns None for what that one does.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.simplefilter("ignore")

import peft
import torch
import transformers

torch.set_num_threads(1)

IDS = torch.tensor([[1, 2, 3, 4]])
#: What a claim's value calls them → how one is made.
KINDS: dict[str, Callable[[], torch.nn.Module]] = {
    "Linear": lambda: torch.nn.Linear(8, 8),
    "Conv1D": lambda: transformers.pytorch_utils.Conv1D(8, 8),
    "Embedding": lambda: torch.nn.Embedding(8, 8),
    "Conv2d": lambda: torch.nn.Conv2d(8, 8, 1),
    "Conv3d": lambda: torch.nn.Conv3d(8, 8, 1),
    "Conv1d": lambda: torch.nn.Conv1d(8, 8, 1),
}


class Around(torch.nn.Module):
    """A model of one module, `inner`."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.config = transformers.PretrainedConfig()

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """What the module makes of it."""
        found: torch.Tensor = self.inner(given)
        return found


def llama() -> Any:
    """A tiny base, the same each time."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(vocab_size=32, num_hidden_layers=2, **sizes)
    return transformers.LlamaForCausalLM(config).eval()


def lora(**fields: Any) -> Any:
    """A config for a few targets, which does something from the start."""
    return peft.LoraConfig(**{"r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "init_lora_weights": False, **fields})


def taken(config: Callable[[], Any]) -> list[str]:
    """The kinds of module that this adapter is made for without an exception."""
    found = []
    for name, make in KINDS.items():
        try:
            peft.get_peft_model(Around(make()), config())
        except (ValueError, TypeError, NotImplementedError, AttributeError):
            continue
        found.append(name)
    return found


def lora_kinds() -> list[str] | None:
    """The modules that take a LoRA; None where they are all."""
    found = taken(lambda: lora(target_modules=["inner"]))
    return None if found == list(KINDS) else found


def kinds(name: str, newest: str, **fields: Any) -> Callable[[], list[str] | None]:
    """What asks which modules a method takes, by its config's class; None where it is those that `newest` names."""

    def asked() -> list[str] | None:
        config = getattr(peft, name)
        found = taken(lambda: config(target_modules=["inner"], **fields))
        return None if found == newest.split() else found

    return asked


def oft_kinds() -> list[str] | None:
    """The modules that take an OFT, whose size was `r` until 0.13 and is a block's since."""
    size = {"oft_block_size": 4, "r": 0} if "oft_block_size" in peft.OFTConfig.__dataclass_fields__ else {"r": 2}
    return kinds("OFTConfig", "Linear Embedding Conv2d", **size)()


def embedding_scale() -> bool | None:
    """Whether a LoRA on an embedding that scales its output is scaled with it."""
    from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

    scale = 3.0
    inner = Gemma3TextScaledWordEmbedding(32, 8, 0, embed_scale=scale)
    base = inner(IDS)
    loaded = peft.get_peft_model(Around(inner), lora(target_modules=["inner"]))
    layer = loaded.base_model.model.inner
    a, b = layer.lora_embedding_A["default"], layer.lora_embedding_B["default"]
    added = torch.nn.functional.embedding(IDS, a.T) @ b.T * layer.scaling["default"]
    off = {factor: (loaded(IDS) - base - factor * added).abs().max().item() for factor in (1.0, scale)}
    assert min(off.values()) < 1e-4 < max(off.values()), off
    return False if off[1.0] < off[scale] else None


def missing_keys() -> str | None:
    """Whether anything is said of a tensor that the file lacks."""
    import safetensors.torch

    with tempfile.TemporaryDirectory() as folder:
        peft.get_peft_model(llama(), lora(target_modules=["q_proj", "v_proj"])).save_pretrained(folder)
        path = Path(folder, "adapter_model.safetensors")
        if path.exists():
            tensors = safetensors.torch.load_file(path)
            tensors.pop(next(iter(tensors)))
            safetensors.torch.save_file(tensors, path, {"format": "pt"})
        else:
            path = path.with_suffix(".bin")
            tensors = torch.load(path, weights_only=True)
            tensors.pop(next(iter(tensors)))
            torch.save(tensors, path)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            peft.PeftModel.from_pretrained(llama(), folder)
    return None if any("missing" in str(each.message) for each in told) else "silent"


def xlora_layers() -> str | None:
    """Whether X-LoRA runs where one of its adapters leaves a layer out."""
    config_class = peft.XLoraConfig
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: str(Path(folder, name)) for name in ("0", "1")}
        peft.get_peft_model(llama(), lora(target_modules=["q_proj"])).save_pretrained(paths["0"])
        part = lora(target_modules=["q_proj"], layers_to_transform=[0])
        peft.get_peft_model(llama(), part).save_pretrained(paths["1"])
        model = llama()
        model.config.use_cache = False
        config = config_class(task_type="CAUSAL_LM", hidden_size=16, xlora_depth=1, adapters=paths)
        loaded = peft.get_peft_model(model, config)
        try:
            loaded(input_ids=IDS, attention_mask=torch.ones_like(IDS))
        except KeyError:
            return "raises"
    return None


def adamss_segments() -> str | None:
    """Whether the same adapter is another one when it is loaded again."""
    with tempfile.TemporaryDirectory() as folder:
        config = peft.AdamssConfig(r=4, num_subspaces=3, subspace_rank=2, target_modules=["q_proj", "v_proj"])
        torch.manual_seed(1)
        model = peft.get_peft_model(llama(), config)
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter)
        model.save_pretrained(folder)
        found = []
        for seed in range(6):
            base = llama()
            torch.manual_seed(seed)
            with torch.no_grad():
                found.append(peft.PeftModel.from_pretrained(base, folder).eval()(IDS).logits)
    return "drawn" if max((each - found[0]).abs().max().item() for each in found) > 1e-4 else None


def vera_projection() -> str | None:
    """Whether VeRA's projections come from the file, where it has them; PVeRA's too, where there is one."""
    methods = {"vera": peft.VeraConfig, "pvera": getattr(peft, "PveraConfig", None)}
    seen = {_projection(method, kind) for method, kind in methods.items() if kind is not None}
    assert len(seen) == 1, seen
    return seen.pop()


def _projection(method: str, kind: Any) -> str | None:
    import safetensors.torch

    with tempfile.TemporaryDirectory() as folder:
        peft.get_peft_model(llama(), kind(r=2, target_modules=["q_proj"])).save_pretrained(folder)
        path = Path(folder, "adapter_model.safetensors")
        tensors = safetensors.torch.load_file(path)
        name = f"base_model.{method}_A"
        safetensors.torch.save_file({**tensors, name: torch.ones_like(tensors[name])}, path, {"format": "pt"})
        held = getattr(peft.PeftModel.from_pretrained(llama(), folder).base_model, f"{method}_A")["default"]
    return None if torch.equal(held, torch.ones_like(held)) else "from the seed"


def tinylora_projection() -> str | None:
    """Whether projections that are not saved are others in another process, where text has another hash."""
    code = (
        "import peft, torch, transformers as t\n"
        "c = t.LlamaConfig(vocab_size=32, num_hidden_layers=1, hidden_size=16, intermediate_size=32, num_attention_heads=2)\n"
        "a = peft.TinyLoraConfig(target_modules=['q_proj'], save_projection=False)\n"
        "m = peft.get_peft_model(t.LlamaForCausalLM(c), a).state_dict()\n"
        "print([float(v.double().sum()) for n, v in m.items() if 'tinylora_P' in n])"
    )
    if not hasattr(peft, "TinyLoraConfig"):
        raise AttributeError("TinyLoraConfig")
    seen = set()
    for number in ("1", "2"):
        run = [sys.executable, "-W", "ignore", "-c", code]
        environment = {**os.environ, "PYTHONHASHSEED": number}
        seen.add(subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout)
    return "drawn" if len(seen) > 1 else None


def adalora_dora() -> str | None:
    """Whether an AdaLoRA can have `use_dora`, and is one without it then."""
    if "use_dora" not in peft.AdaLoraConfig.__dataclass_fields__:
        raise AttributeError("use_dora")
    try:
        found = peft.AdaLoraConfig(init_r=2, total_step=10, target_modules=["q_proj"], use_dora=True)
    except ValueError:
        return None
    names = peft.get_peft_model(llama(), found).state_dict()
    return None if any("magnitude" in name for name in names) else "ignored"


def cpt_task() -> str | None:
    """Whether a CPT may have another task."""
    try:
        found = peft.CPTConfig(cpt_token_ids=[1], task_type="SEQ_CLS")
    except ValueError:
        return None
    return "taken for CAUSAL_LM" if found.task_type == "CAUSAL_LM" else str(found.task_type)


def adaption_prompt_models() -> list[str] | None:
    """The model types that adaption prompts are for."""
    from peft.tuners.adaption_prompt.config import TRANSFORMERS_MODEL_CONFIG

    return None if "gpt2" in TRANSFORMERS_MODEL_CONFIG else sorted(TRANSFORMERS_MODEL_CONFIG)


#: Of transformers, not of PEFT.
OF_TRANSFORMERS = ("generation",)


def generation() -> str | list[str] | None:
    """Which classes that generate nothing can be asked for it."""
    if hasattr(transformers.BertForSequenceClassification, "prepare_inputs_for_generation"):
        return "every class"
    masked = [
        name for name in dir(transformers) if name.endswith("ForMaskedLM") and not name.startswith(("TF", "Flax"))
    ]
    able = [name for name in masked if hasattr(getattr(transformers, name), "prepare_inputs_for_generation")]
    return able or None


#: Claim → what is seen of it here; a function that needs what these versions lack raises AttributeError or ImportError.
CODE: dict[str, Callable[[], Any]] = {
    "lora-kinds": lora_kinds,
    "loha-kinds": kinds("LoHaConfig", "Linear Conv2d Conv1d", r=2),
    "lokr-kinds": kinds("LoKrConfig", "Linear Conv2d Conv1d", r=2),
    "oft-kinds": oft_kinds,
    "ia3-kinds": kinds("IA3Config", "Linear Conv1D Conv2d Conv3d", feedforward_modules=[]),
    "adalora-kinds": kinds("AdaLoraConfig", "Linear Conv1D Conv2d", init_r=2, total_step=10, lora_dropout=0.1),
    "dora-kinds": kinds("LoraConfig", "Linear Conv1D Embedding Conv2d Conv3d Conv1d", r=2, use_dora=True),
    "vera-projection": vera_projection,
    "embedding-scale": embedding_scale,
    "missing-keys": missing_keys,
    "xlora-layers": xlora_layers,
    "adamss-segments": adamss_segments,
    "tinylora-projection": tinylora_projection,
    "adalora-dora": adalora_dora,
    "cpt-task": cpt_task,
    "adaption-prompt-models": adaption_prompt_models,
    "generation": generation,
}


def main() -> int:
    """One line per claim that could be asked here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    versions = {name: importlib.metadata.version(name) for name in ("peft", "transformers")}
    date = time.strftime("%Y-%m-%d", time.gmtime())
    with given.out.open("w", encoding="utf-8") as out:
        for name, function in CODE.items():
            try:
                seen = function()
            except (AttributeError, ImportError) as lacking:
                print(f"{versions} {name}: cannot be asked here: {lacking}")
                continue
            print(f"{versions} {name}: {seen!r}")
            consumer = "transformers" if name in OF_TRANSFORMERS else "peft"
            out.write(
                json.dumps({"consumer": consumer, "claim": name, "seen": seen, "with": versions, "date": date}) + "\n"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
