"""The module tree from facts and config against the model that transformers builds on the meta device, whole."""

from __future__ import annotations

import copy
import json
import os
import random
import re
from pathlib import Path

import pytest

from adapterfit.expect import modules
from adapterfit.expect.checkpoint import Loader, load_rules
from adapterfit.expect.fields import Fields
from adapterfit.expect.growth import Growth
from adapterfit.records import Base, TensorInfo

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
pytestmark = pytest.mark.exact
ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
#: What issue 2 needs: every class of these is compared each time.
NEEDED = (
    "bert", "roberta", "distilbert", "gpt2", "opt", "bloom", "gpt_neox", "falcon", "llama", "mistral", "mixtral",
    "qwen2", "qwen3", "gemma2", "phi3", "t5", "whisper", "vit", "llava", "qwen2_vl", "gpt_oss",
)  # fmt: skip
TYPES = sorted(modules.known_types())
CASES = [(t, c) for t in TYPES for c in modules.facts(t)["classes"]]
#: FUZZ compares every class of every type on several configs, as `make coverage-architectures` does; without it one
#: class of each type is compared, on one config whose number of fields is drawn as well: the same ones on every run.
THOROUGH = int(os.environ.get("FUZZ", "0"))


def proof():
    """What the generator's tools and this file share: drawing configs, building on meta, comparing."""
    from architectures import proof

    return proof


def sampled():
    """(type, class, share of fields, seed) of what is compared in this run."""
    for model_type in TYPES:
        names = sorted(modules.facts(model_type)["classes"])
        if THOROUGH:
            yield from [(model_type, c, s, n) for c in names for s in (1, 0.5, 0.15) for n in range(THOROUGH // 10 + 1)]
        elif model_type in NEEDED:
            yield from [(model_type, c, s, 0) for c in names for s in (1, 0.5, 0.15)]
        else:
            rng = random.Random(model_type)
            yield model_type, rng.choice(names), rng.choice((1, 0.5, 0.15)), 1


def assert_same(ours, model):
    assert ours.doubts == ()
    assert ours.known == "facts"
    assert proof().differences(ours, model) == []


def test_that_all_types_of_the_main_job_have_facts():
    assert set(NEEDED) <= set(TYPES)


SAMPLED = list(sampled())
#: Sapiens 2's heads have no sizes by default, and lists of random sizes seldom fit each other.
NOT_BY_DEFAULT = frozenset((
    "Sapiens2ForImageMatting", "Sapiens2ForNormalEstimation", "Sapiens2ForPointmapEstimation", "Sapiens2ForPoseEstimation",
    "Sapiens2ForSemanticSegmentation",
))  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "class_name", "share", "seed"), SAMPLED, ids=["-".join(map(str, s)) for s in SAMPLED]
)
def test_that_the_tree_from_a_config_is_the_model(model_type, class_name, share, seed):
    pytest.importorskip("transformers")
    case = proof().drawn(model_type, class_name, seed, share, seconds=10)
    if case is None and (share == 1 or class_name in NOT_BY_DEFAULT):
        pytest.skip("no random config was found that transformers builds this class from")
    raw, model = case or ({}, proof().default(model_type, class_name))
    ours = proof().ours(model_type, class_name, raw)
    if model_type not in NEEDED and ours.doubts:
        pytest.skip(f"said not to know: {ours.doubts[0]}")
    assert_same(ours, model)


@pytest.mark.parametrize("model_type", TYPES if THOROUGH else NEEDED)
def test_that_the_tree_of_the_default_config_is_the_model(model_type):
    for class_name in modules.facts(model_type)["classes"]:
        try:
            model = proof().default(model_type, class_name)
        except Exception:
            continue
        assert_same(modules.tree(Base("x", config={"model_type": model_type}), class_name), model)


# ------------------------------------------------------------------------------------------------ names while loading


def own_rules(model_type, class_name, raw):
    found = modules.facts(model_type)
    growth = Growth(Fields(found, raw, modules.facts), modules.facts, modules.common)
    growth.grow(found, class_name)
    return load_rules(found, class_name, growth.sub_models, modules.common)


def older_names(name):
    """Spellings of a runtime name that checkpoints and adapters of other versions have."""
    swaps = [
        ("model.language_model.", "language_model.model."), ("model.language_model.", "model."), ("model.", ""), ("", "model."),
        ("mlp.", "block_sparse_moe."), (".layers.", ".encoder.layer."), ("q_proj", "attention.query"), ("mlp.fc2", "output.dense"),
        ("LayerNorm.weight", "LayerNorm.gamma"), ("vision_tower.", "vision_tower.vision_model."), ("lm_head", "embed_out"),
        ("model.vision_tower.", "vision_tower."), ("model.visual", "visual"), ("lm_head", "language_model.lm_head"),
        ("experts.gate_up_proj", "experts.0.w1.weight"), ("experts.gate_up_proj", "experts.1.gate_proj.weight"),
    ]  # fmt: skip
    return {name, *(name.replace(new, old, 1) for new, old in swaps)}


def ruled(model_type):
    found = modules.facts(model_type)
    names = [c for c, entry in found["classes"].items() if entry["rules"] or found["converts_adapters"]]
    return [(model_type, c) for c in (names if THOROUGH or model_type in NEEDED else names[-1:])]


RULED = [case for t in TYPES for case in ruled(t)]


@pytest.mark.parametrize(("model_type", "class_name"), RULED, ids=[f"{t}-{c}" for t, c in RULED])
def test_that_names_are_mapped_as_transformers_maps_them(model_type, class_name):
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    drawn = proof().drawn(model_type, class_name, 1, 1, seconds=10)
    if drawn is None:
        try:
            drawn = {}, proof().default(model_type, class_name)
        except Exception as problem:
            pytest.skip(f"no config drawn in ten seconds builds {class_name}, nor does its default: {problem}")
    raw, model = drawn
    ours = modules.tree(Base("x", config={**raw, "model_type": model_type}), class_name)
    if ours.doubts and proof().differences(ours, model):
        pytest.skip(f"nothing is claimed: {ours.doubts[0]}")
    loader = Loader(ours, own_rules(model_type, class_name, raw))
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    state = model.state_dict()
    for name in sorted({old for key in loader.params for old in older_names(key)}):
        wanted, source = rename_source_key(name, renamings, converters, model.base_model_prefix, state)
        if wanted not in state and name in state:
            wanted, source = rename_source_key(name, [], [], model.base_model_prefix, state)
        placed, converter, _ = loader.place(name)
        assert (placed, converter is not None) == (wanted, source is not None), name
        alone = name
        for rename in ours.adapter_renames:
            alone = re.sub(rename.pattern, rename.replacement, alone, count=1)
        if ours.adapter_renames:
            assert alone == rename_source_key(name, renamings, [])[0], name


@pytest.mark.parametrize("model_type", TYPES)
def test_that_peft_converts_adapters_of_this_type_exactly_when_we_say_so(model_type):
    pytest.importorskip("peft")
    from peft.utils import transformers_weight_conversion as peft_side
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    found = modules.facts(model_type)
    pattern = peft_side._MODEL_TO_CONVERSION_PATTERN.get(model_type)
    assert found["converts_adapters"] == (get_checkpoint_conversion_mapping(model_type) is not None)
    assert found["expert_fusion"] == (pattern if pattern in peft_side._MOE_TARGET_MODULE_MAPPING else "")


# ------------------------------------------------------------------------------------------------ real files


def headers(path):
    from safetensors import safe_open

    with safe_open(path, "pt") as opened:
        return {
            key: TensorInfo(key, "F32", tuple(opened.get_slice(key).get_shape()))
            for key in opened.keys()  # noqa: SIM118
        }


@pytest.fixture(scope="session")
def matrix_bases(tmp_path_factory):
    archive = SHARED / "data" / "matrix" / "bases.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no {archive.name} beside the checkout")
    import tarfile

    folder = tmp_path_factory.mktemp("bases")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return sorted(path.parent for path in folder.rglob("config.json"))


@pytest.mark.corpus
def test_that_the_small_bases_are_known_from_their_config_and_agree_with_their_headers(matrix_bases):
    from transformers import AutoConfig

    assert matrix_bases
    for folder in matrix_bases:
        raw = json.loads((folder / "config.json").read_text())
        base = Base(folder.name, config=raw, tensors=headers(folder / "model.safetensors"), complete=True)
        ours = modules.tree(base, base.architecture)
        assert_same(ours, proof().on_meta(base.architecture, AutoConfig.from_pretrained(folder)))
        loader = Loader(ours, own_rules(base.model_type, base.architecture, raw))
        assert [name for name in base.tensors if loader.place(name)[0] not in loader.params] == []


@pytest.mark.corpus
def test_that_real_config_files_give_the_model_that_transformers_builds_from_them():
    from transformers import AutoConfig

    folder = SHARED / "data" / "corpus" / "bases"
    if not folder.is_dir():
        pytest.skip("no corpus beside the checkout")
    compared, left_out = 0, []
    for path in sorted(folder.glob("*.json")):
        try:
            raw = json.loads(path.read_text())
        except ValueError:
            continue
        base = Base(path.name, config=raw if isinstance(raw, dict) else {})
        if base.architecture not in (modules.facts(base.model_type) or {"classes": ()})["classes"]:
            continue
        values = {
            key: value for key, value in raw.items() if key not in {"model_type", "quantization_config", "auto_map"}
        }
        try:
            model = proof().on_meta(base.architecture, AutoConfig.for_model(base.model_type, **copy.deepcopy(values)))
        except Exception as problem:
            left_out.append(f"{path.name}: {problem}")
            continue
        ours = modules.tree(base, base.architecture)
        if ours.doubts:
            left_out.append(f"{path.name}: {ours.doubts}")
            continue
        assert_same(ours, model)
        compared += 1
    assert compared >= 60, left_out


def test_the_page_of_architectures_says_what_the_last_comparisons_found():
    transformers = pytest.importorskip("transformers")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    import architecture_coverage as tool

    known, details = modules.known_types(), json.loads(tool.ANSWERS.read_text())
    rows = tool._rows(details, CONFIG_MAPPING_NAMES)
    assert tool.PAGE.read_text() == tool.page(rows, transformers.__version__, known)
    assert {name for name, (state, *_) in rows.items() if state in ("exact", "part")} == set(known)
