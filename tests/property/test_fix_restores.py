"""An adapter that fits, broken in one to three of the ways that users' files are: `fix` gives back every number of it, or refuses."""

import json
import random
import re
import shutil
import struct
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

import adapterfit
from adapterfit.testing import make
from adapterfit.testing.disk import lay
from adapterfit.verify.delta import scale
from fuzzing import FACTOR, tries

pytestmark = pytest.mark.slow
SAMPLES = {
    "LoRA": ("llama", make.lora(r=4, lora_alpha=8)),
    "LoRA everywhere": ("llama", make.lora(target_modules="all-linear", r=2, lora_alpha=3, use_rslora=True)),
    "patterns": ("llama", make.lora(rank_pattern={"v_proj": 2}, alpha_pattern={"layers.1.self_attn.q_proj": 3})),
    "DoRA": ("llama", make.lora(use_dora=True)),
    "a head": ("llama", make.lora(modules_to_save=["lm_head"])),
    "biases": ("bert", make.lora("bert", target_modules=["query", "value"], bias="lora_only", task_type=None)),
    "fused": ("gpt2", make.lora("gpt2", target_modules=["c_attn", "c_fc"])),
    "experts": ("mixtral", make.lora("mixtral", target_modules=["q_proj"], target_parameters=["experts.down_proj"])),
    "IA3": ("llama", make.adapter("llama", peft_type="IA3", target_modules=["k_proj"], feedforward_modules=[])),
    "LoHa": ("llama", make.adapter("llama", peft_type="LOHA", r=2, alpha=4, target_modules=["q_proj", "v_proj"])),
}
TUNED = re.compile(r"\.(lora_(?!magnitude)\w+|ia3_l|hada_\w+)(?=\.|$)")


# ------------------------------------------------------------------------------------------------ ways to break it


def renamed(change):
    def broke(tensors, config):
        named = {change(name): data for name, data in tensors.items()}
        return (named, config) if len(named) == len(tensors) else None

    return broke


def configured(change):
    def broke(tensors, config):
        found = change(config)
        return None if found is None else (tensors, {**config, **found})

    return broke


def fewer(config):
    targets = config.get("target_modules")
    return {"target_modules": targets[1:]} if isinstance(targets, list) and len(targets) > 1 else None


WAYS = {
    "DDP": renamed(lambda name: "module." + name),
    "compiled": renamed(lambda name: "_orig_mod." + name),
    "compiled inside": renamed(lambda name: name.replace("base_model.model.", "base_model.model._orig_mod.", 1)),
    "Lightning": renamed(lambda name: "model." + name),
    "FSDP": renamed(lambda name: "_fsdp_wrapped_module." + name),
    "no prefix": renamed(lambda name: name.replace("base_model.model.", "", 1)),
    "prefix twice": renamed(lambda name: "base_model.model." + name),
    "bare model": renamed(lambda name: name.replace("base_model.model.model.", "base_model.model.", 1)),
    "adapter's name": renamed(lambda name: TUNED.sub(r"\g<0>.mine", name)),
    "old biases": renamed(lambda name: name.replace(".base_layer.bias", ".bias")),
    "a target less": configured(fewer),
    "targets nowhere": configured(lambda config: {"target_modules": ["nowhere"]}),
    "one layer": configured(lambda config: {"layers_to_transform": [0]}),
    "rank pattern": configured(lambda config: {"rank_pattern": {"v_proj": 7}}),
    "another rank": configured(lambda config: {"r": config["r"] + 1} if isinstance(config.get("r"), int) else None),
    "no DoRA": configured(lambda config: {"use_dora": False} if config.get("use_dora") else None),
    "small letters": configured(
        lambda config: {"peft_type": config["peft_type"].lower()} if "peft_type" in config else None
    ),
    "later fields": configured(lambda config: {"use_something_new": None, "later_config": {}}),
    "rank as text": configured(lambda config: {"r": str(config["r"])} if isinstance(config.get("r"), int) else None),
    "alpha as text": configured(
        lambda config: {"lora_alpha": str(config["lora_alpha"])} if "lora_alpha" in config else None
    ),
    "rsLoRA as text": configured(lambda config: {"use_rslora": "True"} if config.get("use_rslora") else None),
    "task in small letters": configured(
        lambda config: {"task_type": str(config["task_type"]).lower()} if config.get("task_type") else None
    ),
    "no method": (lambda tensors, config: (tensors, {k: v for k, v in config.items() if k != "peft_type"})),
    "no table": configured(lambda config: {"alpha_pattern": None} if not config.get("alpha_pattern") else None),
    "no such base": configured(lambda config: {"base_model_name_or_path": None}),
    "layers swapped": renamed(
        lambda name: re.sub(r"(?<=layers\.)[01](?=\.)", lambda match: str(1 - int(match[0])), name)
    ),
}
#: What no reader can see: the result computes something else, and fits. It is here so that what is compared can fail.
UNSEEN = "layers swapped"
#: Ways to lay the files.
LAID = ("one file", "shards", "a name like it", "any name")


def numbers(name, shape):
    """Numbers that no two tensors share."""
    chosen = random.Random(name)
    count = 1
    for size in shape:
        count *= size
    return struct.pack(f"<{count}f", *(chosen.uniform(-1, 1) for _ in range(count)))


def safetensors(tensors):
    """A file; name → shape, bytes."""
    header, at = {}, 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, data in tensors.values())


def files(tensors, config, laid):
    """The adapter's folder."""
    found = {make.CONFIG: json.dumps(config).encode()}
    if laid == "any name":
        return {**found, "my_lora.safetensors": safetensors(tensors)}
    if laid == "a name like it":
        return {**found, "adapter_model (1).safetensors": safetensors(tensors)}
    if laid == "one file" or len(tensors) < 2:
        return {**found, make.WEIGHTS: safetensors(tensors)}
    names = list(tensors)
    halves = {f"adapter_model-0000{n + 1}-of-00002.safetensors": names[n::2] for n in range(2)}
    where = {name: file for file, held in halves.items() for name in held}
    index = json.dumps({"metadata": {}, "weight_map": where}).encode()
    shards = {file: safetensors({name: tensors[name] for name in held}) for file, held in halves.items()}
    return {**found, **shards, "adapter_model.safetensors.index.json": index}


def whole(sample):
    """Name → shape, bytes; and the config."""
    tensors = {one.name: (one.shape, numbers(one.name, one.shape)) for one in sample.adapter.tensors}
    return tensors, dict(json.loads(make.as_files(sample)[make.CONFIG]))


def read(folder):
    """What lies in a folder: name → shape, bytes; and the config."""
    data = (folder / make.WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = {name: one for name, one in json.loads(data[8 : 8 + length]).items() if name != "__metadata__"}
    spans = {name: one["data_offsets"] for name, one in header.items()}
    held = {name: data[8 + length + start : 8 + length + end] for name, (start, end) in spans.items()}
    return {name: (tuple(one["shape"]), held[name]) for name, one in header.items()}, json.loads(
        (folder / make.CONFIG).read_bytes()
    )


def known(tensors):
    """The names without PEFT's prefix: where it translates experts, it reads them with and without."""
    return {name.partition("base_model.model.")[2] or name: data for name, data in tensors.items()}


def strengths(tensors, config):
    """What each LoRA is multiplied by."""
    ranked = {name.rpartition(".lora_A")[0] for name in known(tensors) if ".lora_A." in name}
    return {module: scale(module, config) for module in ranked}


# ------------------------------------------------------------------------------------------------ what holds


def outcome(sample, ways, laid):
    """Break, fix, compare; what came of it."""
    family, unbroken = SAMPLES[sample]
    base = make.base(family)
    right, settings = whole(unbroken)
    tensors, config = right, settings
    for way in ways:
        tensors, config = WAYS[way](tensors, config) or (tensors, config)
    root = Path(tempfile.mkdtemp(prefix="adapterfit-"))
    try:
        broken = files(tensors, config, laid)
        adapter = lay(root / "adapter", broken)
        plan = adapterfit.fix(adapter, base=base).plan
        receipt = adapterfit.fix(adapter, base=base, out=root / "out", plan=plan if plan.after == "fits" else None)
        if not receipt.out:
            if receipt.plan.before == "fits":
                assert known(tensors) == known(right)
                assert strengths(tensors, config) == strengths(right, settings)
                return "fits"
            assert receipt.plan.remaining or receipt.plan.refused or receipt.plan.left_out
            return "refused"
        assert adapterfit.check(root / "out", base=base).verdict == "fits"
        found, after = read(root / "out")
        assert known(found) == known(right)
        assert strengths(found, after) == strengths(right, settings)
        assert {path.name: path.read_bytes() for path in adapter.iterdir()} == broken
        return "mended"
    finally:
        shutil.rmtree(root)


def test_what_was_broken_in_known_ways_is_restored_number_for_number_or_refused():
    came = Counter()

    @tries(120)
    @given(
        some.sampled_from(sorted(SAMPLES)),
        some.lists(some.sampled_from(sorted(WAYS.keys() - {UNSEEN})), min_size=1, max_size=3, unique=True),
        some.sampled_from(LAID),
    )
    def each(sample, ways, laid):
        came[outcome(sample, ways, laid)] += 1

    each()
    assert came["mended"] >= 60 * FACTOR
    assert came["refused"] + came["fits"] >= 5


def test_a_restored_adapter_that_computes_something_else_would_be_seen():
    with pytest.raises(AssertionError):
        outcome("LoRA", ["DDP", UNSEEN], "one file")
