"""What kind of thing a folder is, by the names of its files, and what is odd about it. Nothing is opened here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from adapterfit.records import Flaw
from adapterfit.text import quote, shorten, show

CONFIG = "adapter_config.json"
#: The two names PEFT looks for, in its order.
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_LIKE_CONFIG = re.compile(r"adapter[ _-]?config.*\.json.*", re.IGNORECASE)
_LIKE_WEIGHTS = re.compile(r"adapter[ _-]?model.*\.(?:safetensors|bin|pt|pth).*", re.IGNORECASE)
_SHARD = re.compile(r"adapter_model-\d+-of-\d+\.(?:safetensors|bin)|adapter_model\.(?:safetensors|bin)\.index\.json")
_PART = re.compile(r".*\.(?:part[a-z0-9]{1,4}|z?[0-9]{2,3}|split[a-z0-9]{1,4})", re.IGNORECASE)
_MODEL = re.compile(r"(?:model|pytorch_model)(?:-\d+-of-\d+)?\.(?:safetensors|bin)(?:\.index\.json)?|.*\.gguf")
_ARCHIVE = re.compile(r".*\.(?:zip|rar|7z|tar|tgz|gz|nemo)", re.IGNORECASE)
_PICKLE = re.compile(
    r"optimizer\.(?:pt|bin)|scheduler\.(?:pt|bin)|scaler\.pt|training_args\.bin|rng_state.*\.pth|.*\.(?:pkl|pickle|ckpt|pt|pth)"
)
#: What mlx-lm and diffusers call theirs.
_OF_OTHERS = ("adapters.safetensors", "pytorch_lora_weights.safetensors")
_STEP = re.compile(r"global_step\d+")
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_TRAINER = ("trainer_state.json", "training_args.bin", "optimizer.pt", "zero_to_fp32.py", "latest")


class Folder(NamedTuple):
    """The names in a source: `top` lie directly in it; `label` is what people call it."""

    names: tuple[str, ...]
    label: str

    @property
    def top(self) -> tuple[str, ...]:
        """Names without a folder in front."""
        return tuple(name for name in self.names if "/" not in name)

    def matching(self, pattern: re.Pattern[str]) -> list[str]:
        """The top names a pattern describes as a whole."""
        return [name for name in self.top if pattern.fullmatch(name)]

    def holders(self, *wanted: str) -> list[str]:
        """The sub-folders that hold one of these files."""
        found = {name.rpartition("/")[0] for name in self.names if "/" in name and name.rpartition("/")[2] in wanted}
        return sorted(found, key=_natural)


def _natural(name: str) -> tuple[int, int, str]:
    """The default adapter's sub-folder first, checkpoints by their step."""
    step = _CHECKPOINT.search(name)
    return (name.count("/"), int(step.group(1)) if step else -1, name)


def kind_of(folder: Folder, config_kind: str, has_weights: bool) -> str:
    """The `layout` of an Adapter. `config_kind` is `read.config.config_kind`'s word, or empty without a config."""
    if config_kind in ("mlx", "adapterhub"):
        return config_kind
    if config_kind in ("peft", "nameless"):
        return "peft" if has_weights else "config-only"
    if has_weights and not config_kind:
        return "weights-only"
    return _without(folder)


def _without(folder: Folder) -> str:
    """The layout of a folder that has no adapter's config."""
    if not folder.names:
        return "empty"
    if any(name.startswith("pytorch_lora_weights.") for name in folder.top):
        return "diffusers"
    if any(name in ("adapters.safetensors", "adapters.npz") for name in folder.top):
        return "mlx"
    trained = any(name in _TRAINER for name in folder.top) or steps(folder)
    if trained:
        return "trainer-checkpoint"
    return "merged-model" if folder.matching(_MODEL) else "other"


def steps(folder: Folder) -> list[str]:
    """DeepSpeed's `global_step…` folders."""
    return sorted(
        {name.split("/", 1)[0] for name in folder.names if "/" in name and _STEP.fullmatch(name.split("/", 1)[0])}
    )


# ------------------------------------------------------------------------------------------------- missing


def missing_config(folder: Folder, layout: str) -> Flaw:
    """No adapter_config.json: the reason that explains it best."""
    raised = f"ValueError: Can't find '{CONFIG}' at '{folder.label}'"
    inner = folder.holders(CONFIG)
    if inner:
        return _flaw(
            "adapter-in-subfolder",
            _inside(inner),
            raised=raised,
            remedy=f"give the folder {quote(inner[-1])} in it",
        )
    if any(name.startswith(f"{CONFIG}/") for name in folder.names):
        return _flaw("adapter-config-missing", f"{CONFIG} is a folder, not a file", raised=raised)
    named = folder.matching(_LIKE_CONFIG)
    if named:
        also = f", the weights {quote(weights[0])}" if (weights := _misnamed(folder)) else ""
        problem = f"the config is called {quote(named[0])}{also}: PEFT looks for {CONFIG} and {WEIGHTS[0]} only"
        return _flaw("wrong-file-in-folder", problem, raised=raised, remedy=f"rename it to {CONFIG}")
    if layout == "other" and folder.matching(_SHARD):
        layout = "weights-only"
    problem, remedy = _STORIES.get(layout, _STORIES["foreign"])
    if layout == "other" and folder.matching(_ARCHIVE):
        problem, remedy = f"{shorten(folder.matching(_ARCHIVE))} was not unpacked", "unpack it first"
    code = "merged-model-folder" if layout == "merged-model" else "trainer-checkpoint" if layout == "trainer-checkpoint" else "adapter-config-missing"  # fmt: skip
    return _flaw(code, f"there is no {CONFIG}: {problem}", raised=raised, remedy=remedy)


def _misnamed(folder: Folder) -> list[str]:
    return [name for name in folder.matching(_LIKE_WEIGHTS) if name not in WEIGHTS]


_STORIES = {
    "empty": (
        "the folder holds no file",
        "give the folder that holds adapter_config.json and adapter_model.safetensors",
    ),
    "weights-only": (
        "only the weights are here",
        (
            "copy the config from where the adapter came from, or write one: r is the number of rows of a lora_A, "
            "target_modules are the module names in the tensor names"
        ),
    ),
    "merged-model": ("this is a whole model, perhaps with an adapter merged into it", "load it without PEFT"),
    "trainer-checkpoint": (
        "this is a checkpoint of a trainer, saved without PEFT's save_pretrained",
        (
            "build the model with get_peft_model and the LoraConfig of the training, load the state dict of this "
            "checkpoint into it (under DeepSpeed: zero_to_fp32.py makes one), then model.save_pretrained(folder)"
        ),
    ),
    "diffusers": ("this is a LoRA saved by diffusers", "load it with pipe.load_lora_weights(folder)"),
    "mlx": ("this is an adapter of mlx-lm", "convert it: PEFT has other names, and the matrices transposed"),
    "foreign": ("these are weights of another program", "convert them with that program's own tool"),
    "other": ("none of these files belongs to a PEFT adapter", "give the folder that holds adapter_config.json"),
}


def whole_models(folder: Folder) -> list[str]:
    """Files under the name of a whole model's weights, which may be those of a model with an adapter inside."""
    return [name for name in folder.matching(_MODEL) if name.endswith((".safetensors", ".bin"))]


def inside_a_model(folder: Folder, file: str, counts: tuple[int, int], *, config: bool) -> Flaw:
    """The adapter's tensors lie in a whole model's file; `counts` are theirs and all."""
    told = f"{quote(file)} holds the state dict of a whole PEFT model: {counts[0]:,} of its {counts[1]:,} tensors are the adapter's"
    if config:
        said = "PEFT looks for adapter_model.safetensors and adapter_model.bin only"
        remedy = f"adapterfit fix {show(folder.label)}/{show(file)} --base BASE --out DIR --drop-copies"
        return _flaw("wrong-file-in-folder", f"{told}; {said}", raised=_hub_line(folder.label), remedy=remedy)
    raised = f"ValueError: Can't find '{CONFIG}' at '{folder.label}'"
    return _flaw(
        "trainer-checkpoint", f"there is no {CONFIG}: {told}", raised=raised, remedy=_STORIES["trainer-checkpoint"][1]
    )


def missing_weights(folder: Folder) -> Flaw:
    """A config without weights: the reason that explains it best."""
    raised = _hub_line(folder.label)
    remedy = "ask the author for adapter_model.safetensors; the config alone holds no weights"
    shards, parts = folder.matching(_SHARD), [name for name in folder.matching(_PART) if _LIKE_WEIGHTS.fullmatch(name)]
    named, inner = folder.matching(_LIKE_WEIGHTS), folder.holders(*WEIGHTS)
    if parts:
        whole = parts[0].rpartition(".")[0]
        return _flaw("wrong-file-in-folder", f"the weights are split into {len(parts)} parts ({shorten(parts)})", raised=raised, remedy=f"join them: cat {show(whole)}.* > {show(whole)}")  # fmt: skip
    if shards:
        return _flaw("wrong-file-in-folder", f"the weights are sharded ({shorten(shards)}): PEFT reads one file only", raised=raised, remedy=f"merge the shards into {WEIGHTS[0]}")  # fmt: skip
    if named:
        wanted = WEIGHTS[0] if ".safetensors" in named[0].lower() else WEIGHTS[1]
        return _flaw("wrong-file-in-folder", f"the weights are called {quote(named[0])}: PEFT looks for {WEIGHTS[0]} and {WEIGHTS[1]}", raised=raised, remedy=f"rename it to {wanted}")  # fmt: skip
    if inner:
        problem = f"the weights lie in {shorten(map(quote, inner))}, the config above them"
        return _flaw("adapter-in-subfolder", problem, raised=raised, remedy="put both files into one folder")
    alone = _alone(folder)
    if alone:
        return _flaw("wrong-file-in-folder", f"the one safetensors file here is called {quote(alone[0])}: PEFT looks for {WEIGHTS[0]} and {WEIGHTS[1]}", raised=raised, remedy=f"rename it to {WEIGHTS[0]}, if it is the adapter's")  # fmt: skip
    present = [*folder.matching(_ARCHIVE), *folder.matching(_MODEL), *folder.matching(_PICKLE)]
    beside = f"; {shorten(present)} is not what PEFT loads" if present else ""
    return _flaw(
        "weights-file-missing", f"there is neither {WEIGHTS[0]} nor {WEIGHTS[1]}{beside}", raised=raised, remedy=remedy
    )


def _alone(folder: Folder) -> list[str]:
    """The one file of safetensors, whatever it is called; not a whole model's, and none that another program names so."""
    found = [name for name in folder.top if name.lower().endswith(".safetensors")]
    others = (*folder.matching(_MODEL), *folder.matching(_SHARD), *_OF_OTHERS)
    return found if len(found) == 1 and found[0] not in others else []


def unseen_weights(folder: Folder) -> list[str]:
    """Weights under names that PEFT does not look for: shards, or else one file that is named like it, or is alone."""
    shards = [name for name in folder.matching(_SHARD) if not name.endswith(".json")]
    named = [name for name in folder.matching(_LIKE_WEIGHTS) if not _PART.fullmatch(name)]
    return shards or (named if len(named) == 1 else [] if named else _alone(folder))


def _hub_line(label: str) -> str:
    """PEFT takes a folder without weights for a Hub id; only a label that cannot be one fails the same way always."""
    if label.startswith(("/", ".")) or label.count("/") > 1:
        form = "Repo id must be in the form 'repo_name' or 'namespace/repo_name'"
        return f"HFValidationError: {form}: '{label}'. Use `repo_type` argument if needed."
    return ""


def _inside(inner: list[str]) -> str:
    where = shorten(quote(name) for name in inner)
    if any(_CHECKPOINT.search(name) for name in inner):
        return f"the adapters lie in the checkpoints {where}; the last one is {quote(inner[-1])}"
    if len(inner) == 1:
        return (
            f'the adapter lies in {where}: PEFT saves an adapter that is not called "default" into a folder of its name'
        )
    return f"there are {len(inner)} adapters, in {where}"


def _flaw(code: str, problem: str, **more: str) -> Flaw:
    return Flaw(code=code, message=problem, **more)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------- beside


def beside(folder: Folder) -> Iterator[Flaw]:
    """What lies beside a whole adapter and may mislead someone."""
    yield from _model_beside(folder)
    yield from _pickles(folder)
    yield from _twins(folder)


def _model_beside(folder: Folder) -> Iterator[Flaw]:
    if CONFIG not in folder.top or "config.json" not in folder.top:
        return
    models = folder.matching(_MODEL)
    what = f"a whole model ({shorten(models)})" if models else "a model's config.json"
    yield Flaw(
        code="adapter-and-model-in-one-folder",
        message=f"the folder holds an adapter and {what}: PeftModel loads the adapter, AutoModel and some trainers and "
        "servers take the model, or refuse",
        severity="warning" if models else "note",
        refused=False,
        predicted="none",
        remedy="move the adapter's files into a folder of their own",
    )


def _pickles(folder: Folder) -> Iterator[Flaw]:
    found = [name for name in folder.matching(_PICKLE) if name not in WEIGHTS]
    if found:
        yield Flaw(
            code="extra-pickles",
            message=f"{shorten(found)} can run code when something unpickles it; nothing here was opened",
            severity="note",
            refused=False,
            predicted="none",
            remedy="delete it, unless the training is to go on",
        )


def _twins(folder: Folder) -> Iterator[Flaw]:
    """Names that differ from PEFT's by case or a browser's number only, beside the right one."""
    for wanted in (CONFIG, *WEIGHTS):
        pattern = _LIKE_CONFIG if wanted == CONFIG else _LIKE_WEIGHTS
        others = [
            name for name in folder.matching(pattern) if name not in (CONFIG, *WEIGHTS) and not _SHARD.fullmatch(name)
        ]
        others = [name for name in others if name.lower().endswith(wanted.rpartition(".")[2])]
        if wanted in folder.top and others:
            problem = f"{shorten(others)} lies beside {wanted}; PEFT loads {wanted}"
            yield Flaw("wrong-file-in-folder", problem, severity="note", refused=False, predicted="silent")
