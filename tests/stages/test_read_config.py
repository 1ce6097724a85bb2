"""Reading `adapter_config.json`: PEFT's fields and defaults, what it really does with bad values, and how old a file is."""

import json
import lzma
import tarfile
import warnings
from collections import Counter
from functools import cache

import pytest

import shared_data
from adapterfit.causes.config import config_key_unknown
from adapterfit.causes.config.read import unknown_peft_type
from adapterfit.read import peft_facts
from adapterfit.read.config import config_kind, parse_config
from adapterfit.testing import make
from adapterfit.testing.bases import CONFIGS

CURRENT = [name for name in peft_facts.peft_types() if not peft_facts.method(name).last]


def parsed(**fields):
    return parse_config(make.config_json(**fields))


def codes(config):
    return [flaw.code for flaw in config.flaws]


# ------------------------------------------------------------------------------------------ raw and validated


def test_a_good_config_has_no_flaw_and_every_field_of_the_newest_peft():
    config = parsed(r=4)
    assert config.flaws == ()
    assert config.known
    assert set(config.values) == set(peft_facts.method("LORA").fields_of(peft_facts.newest()))
    assert config.values["r"] == 4
    assert config.values["use_dora"] is False
    assert "use_dora" not in config.raw


def test_all_problems_are_reported_at_once():
    config = parsed(r="8", lora_alpha=0, target_modules="(", task_type="CAUSAL", base_model_name_or_path="/x")
    assert Counter(codes(config)) == {
        "bad-config-value": 2,
        "regex-invalid": 1,
        "bad-rank": 1,
        "base-path-not-portable": 1,
    }


def test_the_first_problem_that_raises_is_the_one_peft_comes_to_first():
    config = parsed(r="8", target_modules="(", task_type="CAUSAL")
    assert [flaw.code for flaw in config.flaws if flaw.predicted == "raises"] == [
        "bad-config-value",
        "regex-invalid",
        "bad-rank",
    ]


def test_a_value_of_the_wrong_type_is_kept_as_it_is():
    assert parsed(r="8").values["r"] == "8"


def test_unknown_keys_are_those_the_newest_class_does_not_have():
    assert parsed(enable_lora=None, foo=1, runtime_config={}).unknown_keys == ("enable_lora", "foo")


def test_a_removed_method_is_unknown_and_the_message_says_when_it_went():
    config = parsed(peft_type="BONE", r=8)
    assert not config.known
    assert config.flaws[0].raised == "KeyError: 'BONE'"
    assert "0.14.0 to 0.18.1" in config.flaws[0].message


def test_a_message_holds_no_control_character():
    config = parsed(base_model_name_or_path="a\x1b[2J\n", peft_type="LORA\x00")
    assert all(flaw.message.isprintable() for flaw in config.flaws)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "is empty"),
        (b" \n", "blanks"),
        (b"[]", "a list"),
        (b"null", "null"),
        (b"{", "ends too early"),
        (b'{"a": 1} x', "something follows"),
    ],
    ids=repr,
)
def test_what_is_no_json_table_is_named(text, problem):
    flaw = parse_config(text).flaws[0]
    assert flaw.code == "config-not-json"
    assert flaw.refused
    assert problem in flaw.message


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"peft_type": "LORA"}, "peft"),
        ({"peft_type": None}, "peft"),
        ({"fine_tune_type": "lora"}, "mlx"),
        ({"num_layers": 4, "lora_parameters": {}}, "mlx"),
        ({"config": {}, "model_class": "Bert"}, "adapterhub"),
        ({"model_type": "llama"}, "model"),
        ({"r": 8, "lora_alpha": 16}, "nameless"),
        ({"base_model": "x"}, "other"),
    ],
    ids=str,
)
def test_a_config_s_kind_is_told_by_its_fields(fields, kind):
    assert config_kind(fields) == kind


# ----------------------------------------------------------------------------------------------- the facts


@pytest.fixture
def newest_peft():
    """PEFT, where the installed one is the newest that the facts know."""
    peft = pytest.importorskip("peft")
    if peft.__version__ != peft_facts.newest():
        pytest.skip(f"peft {peft.__version__} is installed, the facts end with {peft_facts.newest()}")
    return peft


@pytest.mark.exact
@pytest.mark.parametrize("name", CURRENT)
def test_fields_and_defaults_are_those_of_the_installed_class(name, newest_peft):
    import dataclasses

    cls = newest_peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[name]
    real = {}
    for field in dataclasses.fields(cls):
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        real[field.name] = None if made is dataclasses.MISSING else made
    real = {key: value for key, value in real.items() if key != "runtime_config"}
    facts = peft_facts.method(name)
    ours = {field.name: field.default for field in facts.fields.values() if not field.last}
    assert facts.config_class == cls.__name__
    assert set(ours) == set(real)
    assert {k: v for k, v in ours.items() if k != "peft_type"} == {
        k: json.loads(json.dumps(v, default=str)) for k, v in real.items() if k != "peft_type"
    }


@pytest.mark.exact
def test_values_are_what_from_pretrained_gives(tmp_path, newest_peft):
    fields = {"r": 4, "target_modules": ["q_proj"], "use_rslora": True, "rank_pattern": {"q_proj": 8}}
    (tmp_path / "adapter_config.json").write_bytes(make.config_json(**fields))
    real = newest_peft.PeftConfig.from_pretrained(str(tmp_path)).to_dict()
    ours = parsed(**fields).values
    differing = {key for key in ours if json.loads(json.dumps(real[key], default=list)) != ours[key]}
    assert differing <= {"peft_version"}, "PEFT fills in its own version"


def test_the_tables_on_the_pages_agree_with_the_facts():
    lora = peft_facts.method("LORA").fields
    minor = lambda version: peft_facts.as_tuple(version)[:2]  # noqa: E731
    known = {name: minor(field.first) for name, field in lora.items() if minor(field.first) > (0, 3)}
    assert {name: minor(version) for name, version in config_key_unknown.SINCE.items()} == known
    methods = {name: peft_facts.method(name).first for name in CURRENT}
    later = {name: first for name, first in methods.items() if first != "0.2.0"}
    assert later == unknown_peft_type.SINCE


# ------------------------------------------------------------------------------------------------ how old


@cache
def inventories():
    """(saver's PEFT, config) of every adapter of the matrix."""
    archive = shared_data.need(shared_data.MATRIX / "inventories.tar.xz")
    found = []
    with lzma.open(archive) as plain, tarfile.open(fileobj=plain) as tar:
        for member in tar.getmembers():
            if not member.isfile():
                continue
            saver = member.name.rpartition("/")[2].removeprefix("sq-")[1:].split("-")[0]
            entries = json.load(tar.extractfile(member)).values()
            found += [(saver, entry["config"]) for entry in entries if entry.get("config")]
    return found


@pytest.mark.slow
@pytest.mark.corpus
def test_every_saver_lies_within_the_bounds_of_its_config():
    wrong = []
    for saver, raw in inventories():
        config = parse_config(json.dumps(raw).encode())
        low, high = map(peft_facts.as_tuple, (config.oldest, config.newest))
        if not low <= peft_facts.as_tuple(saver) <= high:
            wrong.append((saver, config.peft_type, config.oldest, config.newest))
    assert len(inventories()) > 1_500
    assert wrong == []


@pytest.mark.slow
@pytest.mark.corpus
def test_every_config_that_peft_wrote_is_free_of_errors():
    errors = Counter(
        (saver, flaw.code, flaw.message)
        for saver, raw in inventories()
        for flaw in parse_config(json.dumps(raw).encode()).flaws
        if flaw.severity != "note"
    )
    expected = {
        key: count for key, count in errors.items() if key[1] == "unknown-peft-type" or "OFT was written anew" in key[2]
    }
    assert errors == expected


@pytest.mark.parametrize(
    ("changed", "bounds"),
    [
        ({}, ("0.21.2", "0.21.2")),
        ({"peft_version": "0.18.1"}, ("0.21.0", "0.21.2")),
        ({"peft_version": None}, ("0.21.0", "0.21.2")),
        ({"peft_version": "9999.0@x; rm -rf /"}, ("0.21.2", "0.21.2")),
        ({"peft_version": "0.21.2.dev0@UNKNOWN"}, ("0.21.1", "0.21.2")),
    ],
    ids=str,
)
def test_a_whole_config_is_dated_by_its_fields_and_its_stamp(changed, bounds):
    fields = {field.name: field.default for field in peft_facts.method("LORA").fields.values() if not field.last}
    config = parse_config(json.dumps({**fields, "peft_version": "0.21.2", **changed}).encode())
    assert (config.oldest, config.newest) == bounds


def test_what_a_hand_written_config_lacks_proves_nothing():
    config = parsed(use_dora=True)
    assert (config.oldest, config.newest) == ("0.9.0", peft_facts.newest())


@pytest.mark.parametrize("old", ["0.3.0", "0.6.2", "0.9.0", "0.13.2", "0.15.2", "0.17.1"])
def test_a_whole_config_of_an_old_release_is_bounded_from_both_sides(old):
    keys = peft_facts.method("LORA").fields_of(old)
    low, high = peft_facts.dated("LORA", keys)
    assert peft_facts.as_tuple(low) <= peft_facts.as_tuple(old) <= peft_facts.as_tuple(high)
    assert high != peft_facts.newest()


# ---------------------------------------------------------------------------------------------- real files


@pytest.mark.corpus
def test_the_real_configs_are_told_apart_as_they_were_by_hand():
    folder = shared_data.need(shared_data.CORPUS / "configs")
    rows = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    names = {"peft": "peft", "mlx-lm": "mlx", "adapterhub": "adapterhub", "other": "other"}
    read = {row["file"]: parse_config((folder / row["file"]).read_bytes(), row["file"]) for row in rows}
    assert Counter(names[row["kind"]] for row in rows) == {"peft": 490, "mlx": 17, "adapterhub": 3, "other": 2}
    assert [row["file"] for row in rows if config_kind(read[row["file"]].raw) != names[row["kind"]]] == []
    unreadable = {file: codes(config) for file, config in read.items() if "config-not-json" in codes(config)}
    assert unreadable == {}


@pytest.mark.corpus
def test_methods_and_dropped_keys_of_the_real_configs_are_those_of_the_real_peft():
    folder = shared_data.need(shared_data.CORPUS / "configs")
    rows = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    later = {"SHADOW", "SUPERTUNING"}  # the verdicts were taken before these came
    for row in rows:
        if row["kind"] != "peft" or row["peft_type"] in later:
            continue
        config = parse_config((folder / row["file"]).read_bytes())
        verdict = row["peft_head_verdict"]
        assert config.known == (not verdict.startswith("KeyError")), row["file"]
        dropped = verdict.partition("keys dropped: ")[2]
        assert set(config.unknown_keys) == set(filter(None, dropped.split(", "))), row["file"]


# ---------------------------------------------------------------------------------------- beside real PEFT


@cache
def _model():
    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    raw = dict(CONFIGS["llama"])
    torch.manual_seed(0)
    return LlamaForCausalLM(AutoConfig.for_model(raw.pop("model_type"), **raw))


def real(folder):
    """What `PeftModel.from_pretrained` does: `loads`, or the exception as `Kind: message`."""
    import copy

    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            PeftModel.from_pretrained(copy.deepcopy(_model()), str(folder))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return "loads"


RAISING = [
    *({"r": each} for each in (0, -1, 4.0, "4", True, None, [4], {})),
    *({"lora_alpha": each} for each in ("16", None, [1])),
    *({"lora_dropout": each} for each in (1.5, "0.1", None)),
    *({"bias": each} for each in ("x", 5, None)),
    *({"task_type": each} for each in ("CAUSAL", "", 5, [])),
    *({"peft_type": each} for each in ("lora", "BONE", None, 5, [], "")),
    *({"rank_pattern": each} for each in (None, [], "x", {"(": 4}, {"q_proj": -4}, {"q_proj": "4"}, {"q_proj": None})),
    *({"alpha_pattern": each} for each in (None, "x", {"(": 4}, {"q_proj": "4"})),
    *({"target_modules": each} for each in ("(", "q_proj)", "*.q_proj", "a{4294967295}", [1], 5, True)),
    *({"modules_to_save": each} for each in (["("], [1], 5)),
    {"exclude_modules": "("},
    {"layers_pattern": "layers"},
    {"target_modules": ".*q_proj", "layers_to_transform": [0]},
    {"init_lora_weights": "x"},
    {"lora_bias": True, "use_dora": True},
    {"target_parameters": "x"},
    {"megatron_core": "evil", "megatron_config": {"a": 1}},
    {"trainable_token_indices": ["0"]},
]
SILENT = [
    *({"lora_alpha": each} for each in (0, -16, 1e308, True)),
    *({"lora_dropout": each} for each in (-0.1,)),
    *({"use_rslora": each} for each in ("false",)),
    {"peft_version": 5},
    {"runtime_config": {}},
    {"base_model_name_or_path": 5},
    {"auto_mapping": "evil"},
    {"target_modules": ["q_proj", "v_proj", ""]},
    {"megatron_core": "evil"},
]


def adapter(tmp_path, fields):
    for name, data in make.as_files(make.lora("llama")).items():
        (tmp_path / name).write_bytes(data)
    data = make.config_json(**fields)
    (tmp_path / "adapter_config.json").write_bytes(data)
    return parse_config(data)


@pytest.mark.exact
@pytest.mark.parametrize("fields", RAISING, ids=json.dumps)
@pytest.mark.usefixtures("newest_peft")
def test_where_a_flaw_says_peft_raises_it_does_with_that_line(fields, tmp_path):
    config = adapter(tmp_path, fields)
    raising = [flaw for flaw in config.flaws if flaw.predicted == "raises"]
    assert raising, codes(config)
    truth = real(tmp_path)
    assert truth != "loads"
    if raising[0].raised:
        assert truth.splitlines()[0] == raising[0].raised


@pytest.mark.exact
@pytest.mark.parametrize("fields", SILENT, ids=json.dumps)
@pytest.mark.usefixtures("newest_peft")
def test_where_a_flaw_says_peft_goes_on_it_does(fields, tmp_path):
    config = adapter(tmp_path, fields)
    assert config.flaws
    assert all(flaw.predicted != "raises" for flaw in config.flaws), config.flaws
    assert real(tmp_path) == "loads"


@pytest.mark.exact
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"  ",
        b"{",
        b"[]",
        b'"x"',
        b"3",
        b"null",
        b"{} ,",
        b"// x\n{}",
        b"\xef\xbb\xbf{}",
        b'{"r": 8,}',
        b"{}",
        b"\xff\xfe{",
    ],
    ids=repr,
)
@pytest.mark.usefixtures("newest_peft")
def test_the_line_of_a_broken_file_is_the_one_python_prints(data, tmp_path):
    adapter(tmp_path, {})
    (tmp_path / "adapter_config.json").write_bytes(data)
    assert real(tmp_path) == parse_config(data).flaws[0].raised
