"""A stamp recognises its base through casts, shards and renames, names the layer in which another one differs, and harms nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
from pathlib import Path

import pytest
import real

import adapterfit
from adapterfit.errors import BadInput
from adapterfit.read.stamp import as_json, parse_stamp

pytestmark = pytest.mark.exact

SIDECAR = "adapterfit.json"


@pytest.fixture
def adapter(tmp_path):
    return real.saved(tmp_path / "adapter")


def on_disk(folder, model=None, dtype="float32", **how):
    import torch

    with real.quiet():
        (model or real.base()).to(getattr(torch, dtype)).save_pretrained(str(folder), **how)
    return folder


def ids(adapter, base, **how):
    with real.quiet():
        report = adapterfit.check(str(adapter), base=str(base) if isinstance(base, Path) else base, **how)
    return {found.id: found for found in report.findings}


def verdict(adapter, base):
    return adapterfit.check(str(adapter), base=str(base)).verdict


# ------------------------------------------------------------------------------------------------ the same base

STAMPED_FROM = {
    "a live model": lambda tmp: real.base(),
    "a live model in bfloat16": lambda tmp: real.base().bfloat16(),
    "a folder": lambda tmp: on_disk(tmp / "stamped-base"),
    "a folder in float16": lambda tmp: on_disk(tmp / "stamped-base", dtype="float16"),
    "the trained PeftModel": lambda tmp: real.trained(real.base(), **real.LORA),
}
CHECKED_AGAINST = {
    "a folder": lambda tmp: on_disk(tmp / "b"),
    "a folder in bfloat16": lambda tmp: on_disk(tmp / "b", dtype="bfloat16"),
    "a folder in float16": lambda tmp: on_disk(tmp / "b", dtype="float16"),
    "a folder in many shards": lambda tmp: on_disk(tmp / "b", max_shard_size="40KB"),
    "a folder of another name": lambda tmp: on_disk(tmp / "another name altogether"),
    "a live model": lambda tmp: real.base(),
    "a live model in float16": lambda tmp: real.base().half(),
    "a live model cast to bfloat16 and back": lambda tmp: real.base().bfloat16().float(),
}


@pytest.mark.parametrize("start", STAMPED_FROM)
@pytest.mark.parametrize("now", CHECKED_AGAINST)
def test_the_same_base_is_the_same(start, now, adapter, tmp_path):
    written = adapterfit.stamp(adapter, STAMPED_FROM[start](tmp_path))
    assert parse_stamp(written.read_bytes()).touched == 4
    found = ids(adapter, CHECKED_AGAINST[now](tmp_path))
    assert not {"base-changed", "config-edited", "stamp-outdated", "stamp-unreadable"} & set(found)


@pytest.mark.parametrize("family", ["llama-tied", "gpt2", "bert", "t5", "qwen2", "phi3", "mixtral", "llava"])
def test_every_family_is_recognised_on_disk_by_what_was_stamped_live(family, tmp_path):
    targets = {"gpt2": ["c_attn"], "bert": ["query"], "t5": ["q"], "phi3": ["qkv_proj"]}.get(family, ["q_proj"])
    folder = real.saved(tmp_path / "adapter", real.base(family), r=4, target_modules=targets)
    stamp = parse_stamp(adapterfit.stamp(folder, real.base(family)).read_bytes())
    assert stamp.content
    same, other = on_disk(tmp_path / "b", real.base(family)), on_disk(tmp_path / "o", real.base(family, seed=3))
    assert "base-changed" not in ids(folder, same)
    assert f"{stamp.touched} of {stamp.touched} touched modules" in ids(folder, other)["base-changed"].message


def test_an_adapter_that_was_cast_is_still_the_stamped_one(adapter):
    adapterfit.stamp(adapter, real.base())
    real.rewrite(adapter, lambda held: {name: tensor.bfloat16() for name, tensor in held.items()})
    assert "stamp-outdated" not in ids(adapter, real.base())


def test_the_stamp_of_a_prompt_knows_the_layers_it_acts_through(tmp_path):
    folder = real.saved(tmp_path / "adapter", kind="PromptTuningConfig", num_virtual_tokens=3, task_type="CAUSAL_LM")
    adapterfit.stamp(folder, real.base())
    assert "base-changed" not in ids(folder, real.base())
    assert "other weights" in ids(folder, real.base(seed=3))["base-changed"].message


# ------------------------------------------------------------------------------------------------ another base


def test_other_weights_are_counted_and_the_verdict_changes(adapter, tmp_path):
    base = on_disk(tmp_path / "b")
    adapterfit.stamp(adapter, str(base))
    other = on_disk(tmp_path / "other", real.base(seed=5))
    assert verdict(adapter, base) == "fits"
    found = ids(adapter, other)["base-changed"]
    assert "same architecture, other weights in 4 of 4 touched modules" in found.message
    assert (found.severity, found.predicted) == ("error", "silent")
    report = adapterfit.check(str(adapter), base=str(other))
    assert (report.verdict, report.predicted) == ("does-not-fit", "loads-differently")


def test_a_part_that_differs_is_named(adapter):
    adapterfit.stamp(adapter, real.base())
    model = real.base()
    model.model.layers[1].self_attn.q_proj.weight.data += 0.1
    found = ids(adapter, model)["base-changed"]
    assert "1 of 4 touched modules" in found.message
    assert "q_proj in layer 1" in found.message
    assert found.at == ("model.layers.1.self_attn.q_proj",)


def test_a_change_of_one_number_is_seen_in_full_only(adapter, tmp_path):
    base = on_disk(tmp_path / "b")
    adapterfit.stamp(adapter, str(base), full=True)
    model = real.base()
    model.model.layers[0].self_attn.q_proj.weight.data[17, 23] += 1
    other = on_disk(tmp_path / "o", model)
    assert "base-changed" not in ids(adapter, other)
    assert "1 of 4 touched modules" in ids(adapter, other, values=True)["base-changed"].message
    assert "base-changed" not in ids(adapter, base, values=True)
    assert "base-changed" not in ids(adapter, on_disk(tmp_path / "c", dtype="bfloat16"), values=True)
    assert "1 of 4" in ids(adapter, model, values=True)["base-changed"].message


def test_a_config_that_differs_is_named_by_its_field(adapter, tmp_path):
    base = on_disk(tmp_path / "b")
    adapterfit.stamp(adapter, str(base))
    config = json.loads((base / "config.json").read_text("utf-8"))
    config["rope_parameters"] = {"rope_theta": 500000.0, "rope_type": "default"}
    (base / "config.json").write_text(json.dumps(config), "utf-8")
    message = ids(adapter, base)["base-changed"].message
    assert "another config over the same weights (rope.theta: 10000.0 → 500000.0)" in message


def older(path):
    """The stamp as an older PEFT wrote it."""
    held = json.loads(path.read_text("utf-8"))
    held["libraries"]["peft"] = "0.6.0"
    path.write_text(json.dumps(held), "utf-8")


def test_other_versions_of_the_libraries_alone_are_one_line_and_no_finding(adapter):
    from adapterfit.report.text import render

    path = adapterfit.stamp(adapter, real.base())
    assert "stamped with" not in render(adapterfit.check(str(adapter), base=real.base()))
    older(path)
    report = adapterfit.check(str(adapter), base=real.base())
    assert "base-changed" not in {one.id for one in report.findings}
    assert report.verdict == "fits"
    assert render(report).count("stamped with peft 0.6.0") == 1
    with real.quiet():
        adapterfit.load(real.base(), adapter)


def test_beside_another_base_other_versions_are_a_note(adapter):
    import peft

    older(adapterfit.stamp(adapter, real.base()))
    found = [
        one
        for one in adapterfit.check(str(adapter), base=real.base(seed=5)).findings
        if one.id == "base-changed" and one.severity == "note"
    ]
    assert [
        f"stamped with peft 0.6.0, and this answer is for peft {peft.__version__}" in one.message for one in found
    ] == [True]
    assert found[0].predicted == "none"


def test_another_commit_is_said_where_the_numbers_cannot_be_compared(adapter):
    import dataclasses

    model = real.base()
    model.config._commit_hash = "a" * 40
    path = adapterfit.stamp(adapter, model)
    held = json.loads(path.read_text("utf-8"))
    assert held["base"]["commit"] == "a" * 40
    known = dataclasses.replace(adapterfit.read_base(real.base()), revision="b" * 40)
    assert "of another commit than the stamped one" in ids(adapter, known)["base-changed"].message


def test_a_grown_vocabulary_is_a_warning(adapter):
    adapterfit.stamp(adapter, real.base())
    model = real.base()
    model.resize_token_embeddings(300, mean_resizing=False)
    found = ids(adapter, model)["base-changed"]
    assert found.severity == "warning"
    assert "300 rows of vocabulary, 256 when it was stamped" in found.message


def tokenizer(words):
    table = {word: at for at, word in enumerate(words)}
    return json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": table, "merges": []}, "added_tokens": []})


def test_a_tokenizer_with_other_ids_is_a_warning_and_one_written_anew_is_none(adapter, tmp_path):
    base = on_disk(tmp_path / "b")
    (base / "tokenizer.json").write_text(tokenizer(["a", "b", "c"]), "utf-8")
    adapterfit.stamp(adapter, str(base))
    (base / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer(["a", "b", "c"])), indent=4), "utf-8")
    assert "base-changed" not in ids(adapter, base)
    (base / "tokenizer.json").write_text(tokenizer(["a", "c", "b"]), "utf-8")
    assert "other ids" in ids(adapter, base)["base-changed"].message


def test_a_quantised_base_is_not_compared_and_the_report_says_so(adapter, tmp_path):
    import torch

    adapterfit.stamp(adapter, real.base())
    model = real.base()
    for name, module in list(model.named_modules()):
        if name.endswith("q_proj"):
            weight = (module.weight.data * 100).to(torch.int8)
            module.weight = torch.nn.Parameter(weight, requires_grad=False)
    report = adapterfit.check(str(adapter), base=model)
    assert any("beside the stamp" in entry.what for entry in report.not_checked)
    assert "base-changed" not in {found.id for found in report.findings}


def test_a_base_read_once_is_compared_for_every_adapter(adapter, tmp_path):
    adapterfit.stamp(adapter, real.base())
    base = adapterfit.read_base(str(on_disk(tmp_path / "o", real.base(seed=5))))
    assert {found.id for found in adapterfit.check(str(adapter), base=base).findings} >= {"base-changed"}


# ------------------------------------------------------------------------------------------------ the adapter itself


def test_training_on_makes_the_stamp_old_and_the_base_a_question(adapter):
    adapterfit.stamp(adapter, real.base())
    real.rewrite(adapter, lambda held: {name: tensor * 1.5 for name, tensor in held.items()})
    assert ids(adapter, real.base())["stamp-outdated"].severity == "note"
    found = ids(adapter, real.base(seed=5))["base-changed"]
    assert (found.severity, found.differs) == ("warning", False)


def test_a_config_written_anew_by_peft_is_the_same_config(adapter):
    import peft

    adapterfit.stamp(adapter, real.base())
    config = peft.PeftConfig.from_pretrained(str(adapter))
    config.inference_mode = False
    config.save_pretrained(str(adapter))
    assert "config-edited" not in ids(adapter, real.base())


def test_the_cure_of_an_edited_config_sets_it_back(adapter):
    adapterfit.stamp(adapter, real.base())
    real.reconfigure(adapter, lora_alpha=64)
    fix = ids(adapter, real.base())["config-edited"].fix
    assert [(edit.key, edit.value) for edit in fix.edits] == [("lora_alpha", 16)]


# ------------------------------------------------------------------------------------------------ what it writes


def fingerprints(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_only_the_sidecar_is_written_and_peft_loads_as_before(adapter):
    before = fingerprints(adapter)
    written = adapterfit.stamp(adapter, real.base())
    after = fingerprints(adapter)
    assert written.name == SIDECAR
    assert after.keys() - before.keys() == {SIDECAR}
    assert {name: after[name] for name in before} == before
    assert real.plain_load(real.base(), adapter) is not None


def test_stamping_twice_writes_the_same(adapter):
    first = adapterfit.stamp(adapter, real.base()).read_bytes()
    assert adapterfit.stamp(adapter, real.base()).read_bytes() == first


def test_no_path_of_this_machine_is_written(adapter, tmp_path):
    base = on_disk(tmp_path / "my-base")
    real.reconfigure(adapter, base_model_name_or_path=None)
    text = adapterfit.stamp(adapter, str(base)).read_text("utf-8")
    assert str(tmp_path) not in text
    assert parse_stamp(text.encode()).base_name == "my-base"


def test_an_adapter_that_does_not_fit_is_not_stamped(adapter):
    with pytest.raises(adapterfit.AdapterMisfit):
        adapterfit.stamp(adapter, real.base(num_hidden_layers=1))
    assert not (adapter / SIDECAR).exists()


def test_a_merged_base_is_not_stamped(adapter):
    model = real.trained(real.base(), **real.LORA)
    model.merge_adapter()
    with pytest.raises(adapterfit.CannotCheck, match="merged"):
        adapterfit.stamp(adapter, model)


def test_the_residual_that_pissa_leaves_is_not_taken_for_the_base(tmp_path):
    model = real.trained(real.base(), **{**real.LORA, "init_lora_weights": "pissa"})
    with real.quiet():
        model.save_pretrained(str(tmp_path))
    assert parse_stamp(adapterfit.stamp(tmp_path, model).read_bytes()).content == {}
    assert "base-changed" not in ids(tmp_path, real.base())


def linked_folder(folder):
    link = folder.parent / "link"
    link.symlink_to(folder)
    return link


def linked_file(folder):
    (folder / real.WEIGHTS).rename(folder.parent / "elsewhere")
    (folder / real.WEIGHTS).symlink_to(folder.parent / "elsewhere")
    return folder


def hub_cache(folder):
    (folder.parent / "models--a--b" / "blobs").mkdir(parents=True)
    inside = folder.parent / "models--a--b" / "snapshots" / ("0" * 40)
    inside.parent.mkdir()
    folder.rename(inside)
    return inside


def linked_stamp(folder):
    (folder.parent / "target").write_text("precious", "utf-8")
    (folder / SIDECAR).symlink_to(folder.parent / "target")
    return folder


def another_programs(folder):
    (folder / SIDECAR).write_text('{"mine": true}', "utf-8")
    return folder


@pytest.mark.parametrize("place", [linked_folder, linked_file, hub_cache, linked_stamp, another_programs])
def test_what_is_not_ours_to_write_is_left_alone(place, adapter):
    folder = place(adapter)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(adapterfit.CannotCheck):
        adapterfit.stamp(folder, real.base())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_a_one_line_error(adapter):
    adapter.chmod(0o500)
    with pytest.raises(adapterfit.CannotCheck, match="cannot write"):
        adapterfit.stamp(adapter, real.base())


# ------------------------------------------------------------------------------------------------ as an input


def broken(found, draw):
    """The stamp with one value anywhere in it replaced, or taken away."""
    spot, holder = found, None
    while isinstance(spot, (dict, list)) and spot:
        holder = (spot, draw.choice(list(spot) if isinstance(spot, dict) else range(len(spot))))
        spot = holder[0][holder[1]]
        if draw.random() < 0.3:
            break
    where, key = holder
    if isinstance(where, dict) and draw.random() < 0.3:
        del where[key]
    else:
        where[key] = draw.choice([None, -1, 1e300, 2**70, "x", "\u202e", [], {}, [[1]], True, {"a": {"b": {}}}])
    return found


def test_whatever_stands_in_a_stamp_it_is_read_or_refused_by_name(adapter):
    good = json.loads(adapterfit.stamp(adapter, real.base()).read_text("utf-8"))
    draw = random.Random(1)
    refused = 0
    for _ in range(600):
        data = json.dumps(broken(json.loads(json.dumps(good)), draw)).encode()
        with contextlib.suppress(BadInput):
            parse_stamp(data)
            continue
        refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"schema": 1}', b'{"schema": "adapterfit/stamp/v2"}', b"\xff\xfe"]
)
def test_a_file_that_is_no_stamp_is_a_warning_and_nothing_more(data, adapter):
    (adapter / SIDECAR).write_bytes(data)
    found = ids(adapter, real.base())
    assert found["stamp-unreadable"].severity == "warning"
    with real.quiet():
        assert adapterfit.load(real.base(), adapter) is not None


def test_a_stamp_is_read_as_it_was_written(adapter):
    data = adapterfit.stamp(adapter, real.base()).read_bytes()
    assert as_json(parse_stamp(data)) == json.loads(data)


def test_the_command_stamps_and_says_what_it_kept(adapter, tmp_path, adapterfit):  # the fixture, not the module
    base = on_disk(tmp_path / "base")
    done = adapterfit("stamp", adapter, "--base", base)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4, some of their numbers" in done.stdout
    assert adapterfit("check", adapter, "--base", base).returncode == 0
    other = on_disk(tmp_path / "other", real.base(seed=5))
    assert "other weights in 4 of 4" in adapterfit("check", adapter, "--base", other, COLUMNS="200").stdout
    assert (
        adapterfit("stamp", adapter, "--base", on_disk(tmp_path / "s", real.base(num_hidden_layers=1))).returncode == 1
    )
    assert adapterfit("stamp", adapter, "--base", tmp_path / "nowhere").returncode == 2
