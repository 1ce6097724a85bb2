"""Rows C: every bad adapter_config.json gets the finding that names it, and nothing it names is touched."""

import functools
import json
import os
from dataclasses import replace

import pytest
from harness import Row, outcomes, verify

from adapterfit.read.config import parse_config
from adapterfit.testing import make

NAME = "adapter_config.json"
NO = False


def _write(folder, data, weights=True):
    (folder / NAME).write_bytes(data)
    if weights:
        (folder / make.WEIGHTS).write_bytes(_weights())


@functools.lru_cache(maxsize=1)
def _weights():
    return make.as_files(make.lora("llama"))[make.WEIGHTS]


def raw(data):
    return lambda folder: _write(folder, data)


def fields(**changed):
    return lambda folder: _write(folder, make.config_json(**changed))


def without(*keys, **changed):
    left = {key: value for key, value in json.loads(make.config_json(**changed)).items() if key not in keys}
    return lambda folder: _write(folder, json.dumps(left).encode())


def text(old, new, **changed):
    """The config with a piece of its text replaced: what `json` itself would not write."""
    data = make.config_json(**changed).decode()
    assert old in data
    return lambda folder: _write(folder, data.replace(old, new).encode("utf-8", "surrogatepass"))


def fifo(folder):
    os.mkfifo(folder / NAME)
    (folder / make.WEIGHTS).write_bytes(_weights())


def link(target):
    def build(folder):
        (folder / NAME).symlink_to(target)
        (folder / make.WEIGHTS).write_bytes(_weights())

    return build


def directory(folder):
    (folder / NAME).mkdir()
    (folder / NAME / "x").write_bytes(b"")
    (folder / make.WEIGHTS).write_bytes(_weights())


def one(name, build, code, refused=NO, **more):
    return Row(name, build, (code,) if code else (), refused, action="adapter", **more)


def several(label, key, values, code, **more):
    return [one(f"{label} {key} = {json.dumps(value)[:40]}", fields(**{key: value}), code, **more) for value in values]


GOOD = make.config_json()
DEEP = b'{"peft_type": "LORA", "r": 4, "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
BOMB = r"(.+)+\d\dx"

ROWS = [
    one("C00 a config as it should be", raw(GOOD), ""),
    one("C01 missing", lambda folder: (folder / make.WEIGHTS).write_bytes(_weights()), "adapter-config-missing", True),
    one("C01 empty", raw(b""), "config-not-json", True, says=("is empty",)),
    one("C01 blanks", raw(b" \n\t "), "config-not-json", True, says=("blanks",)),
    one("C01 a directory", directory, "adapter-config-missing", True, says=("is a folder",)),
    one("C01 more than 1 MB", raw(GOOD[:-1] + b" " * 1_100_000 + b"}"), "over-limit", True),
    one("C02 byte order mark", raw(b"\xef\xbb\xbf" + GOOD), "config-not-json", True, says=("byte order mark",)),
    one("C02 UTF-16", raw(GOOD.decode().encode("utf-16")), "config-not-json", True, says=("UTF-16",)),
    one("C02 latin-1", text('"r": 4', '"r": 4, "x": "\udce9"'), "config-not-json", True),
    one("C02 NULs", raw(GOOD + b"\0\0"), "config-not-json", True, says=("line 1",)),
    one("C02 comment", raw(b"// mine\n" + GOOD), "config-not-json", True, says=("line 1, column 1",)),
    one("C02 trailing comma", raw(GOOD[:-1] + b",}"), "config-not-json", True, says=("line 1",)),
    *[one(f"C03 root is {root!r}", raw(root), "config-not-json", True) for root in (b"[]", b'"x"', b"3", b"null")],
    one("C03 10,000 levels", raw(DEEP), "config-not-json", True, says=("levels deep",)),
    one("C03 5,000 digits", text('"r": 4', '"r": ' + "9" * 5000), "config-not-json", True, says=("5000 digits",)),
    one("C04 r twice", text('"r": 4', '"r": 4, "r": 8'), "duplicate-config-key", says=("4 and 8",)),
    one(
        "C04 a key twice further in",
        text('"r": 4', '"rank_pattern": {"q_proj": 4, "q_proj": 8}, "r": 4'),
        "duplicate-config-key",
    ),
    *[
        one(f"C05 lora_alpha = {odd}", text('"lora_alpha": 8', f'"lora_alpha": {odd}'), "bad-config-value", says=(odd,))
        for odd in ("NaN", "Infinity", "-Infinity", "1e400")
    ],
    *[
        one(f"C05 lora_dropout = {odd}", text('"r": 4', f'"r": 4, "lora_dropout": {odd}'), "bad-config-value")
        for odd in ("NaN", "Infinity", "1e400")
    ],
    *several("C06", "r", (0, -1, 8.0, "8", True, None, 2**63, 10**18, [4], {}), "bad-rank"),
    *several("C07", "lora_alpha", (0, -16, "16", 1e308, None, True, [1]), "bad-config-value"),
    *several(
        "C08",
        "peft_type",
        ("lora", "__init__", "../lora", "os", "BONE", "", None, 5, [], {}),
        "unknown-peft-type",
        refused=True,
    ),
    *[
        one(
            f"C09 parent_library = {library}",
            fields(auto_mapping={"parent_library": library, "base_model_class": "Model"}),
            "config-imports-code",
        )
        for library in ("os", "evil", "chronos.chronos2.model", "transformers_evil")
    ],
    *several("C10", "auto_mapping", (5, "evil", [], {}, {"parent_library": "transformers"}), "config-imports-code"),
    one(
        "C10 base_model_class is __import__",
        fields(auto_mapping={"parent_library": "transformers", "base_model_class": "__import__"}),
        "config-imports-code",
    ),
    one(
        "C11 megatron_core without megatron_config",
        fields(megatron_core="evil"),
        "config-imports-code",
        says=("not used",),
    ),
    one(
        "C11 megatron_core with megatron_config",
        fields(megatron_core="evil", megatron_config={"a": 1}),
        "config-imports-code",
    ),
    *several("C12", "auto_map", ({"AutoModel": "evil.Model"},), "config-imports-code"),
    *several("C12", "trust_remote_code", (True,), "config-imports-code"),
    *several("C12", "custom_pipeline", ("evil",), "config-imports-code"),
    *several(
        "C13",
        "base_model_name_or_path",
        ("/etc", "../..", "~", "C:\\models", "\\\\host\\share", "file:///etc/passwd", "http://169.254.169.254/"),
        "base-path-not-portable",
    ),
    *several(
        "C14",
        "base_model_name_or_path",
        ("a\nb", "a\x1b[2J", "<script>/../</script>", "x" * 10_000, "", 5, None, [], "a\u202eb\x00"),
        "base-path-not-portable",
    ),
    *several("C16", "revision", ("refs/pr/1", "--x", "main", 5), "base-revision-moves"),
    one("C17 a pattern that never ends", fields(target_modules=BOMB), "", seconds=1.0),
    *several(
        "C18",
        "target_modules",
        ("(", "q_proj)", "*.q", "(" * 900 + ")" * 900, "a{4294967295}", "(?<=a+)b"),
        "regex-invalid",
    ),
    *several(
        "C18", "target_modules", ("|".join("ab" for _ in range(100_000)), "x" + "(" * 5000 + ")" * 5000), "over-limit"
    ),
    *several("C18 fine", "target_modules", ("(?i).*q_proj", "(?<=self_attn.)q_proj"), ""),
    *several("C19", "exclude_modules", ("(",), "regex-invalid"),
    *several("C19", "modules_to_save", (["("],), "regex-invalid"),
    *several("C19", "rank_pattern", ({"(": 4},), "regex-invalid"),
    *several("C19", "alpha_pattern", ({"(": 4},), "regex-invalid"),
    one("C19 layers_pattern", fields(layers_pattern="(", layers_to_transform=[0]), "regex-invalid"),
    one("C19 many patterns", fields(rank_pattern={f"({i})x" * 100: 4 for i in range(300)}), "over-limit"),
    one("C20 a million target modules", fields(target_modules=["q"] * 1_000_000), "over-limit", True),
    *several("C20", "target_modules", (5, True), "bad-config-value", refused=True),
    *several(
        "C20",
        "target_modules",
        ([""], ["."], [1], [None], ["q_proj", "q_proj"], {"q_proj": 1}),
        "bad-config-value",
    ),
    one("C22 a million ranks", fields(rank_pattern={str(i): 4 for i in range(1_000_000)}), "over-limit", True),
    *several("C22", "rank_pattern", ({"q_proj": -4}, {"q_proj": "4"}, {"q_proj": 4.0}, {"q_proj": None}), "bad-rank"),
    *several("C22", "rank_pattern", ([], "x", None, 5), "bad-config-value"),
    *several(
        "C23",
        "layer_replication",
        ([[0, 10**9]], [[4, 0]], [0], "x", [["a", "b"]], [[0]], [[-1, 2]]),
        "bad-config-value",
    ),
    *several("C23 fine", "layer_replication", ([[0, 2], [1, 2]],), ""),
    one("C24 ten million layers", fields(layers_to_transform=list(range(200_000))), "over-limit", True),
    *several("C24", "layers_to_transform", ([-1], ["0"], 1.5, "x"), "bad-config-value"),
    *[
        one(
            f"C25 num_virtual_tokens = {count!r}",
            fields(peft_type="PROMPT_TUNING", num_virtual_tokens=count),
            "bad-config-value",
            codes_only=False,
        )
        for count in (10**12, 0, -1, "8", 1.5)
    ],
    one(
        "C25 encoder_hidden_size",
        fields(peft_type="P_TUNING", num_virtual_tokens=4, encoder_hidden_size=-1),
        "bad-config-value",
    ),
    one("C26 too many tokens", fields(trainable_token_indices=list(range(140_000))), "over-limit", True),
    *several(
        "C26",
        "trainable_token_indices",
        ([-1], ["0"], 5, "x", {"embed_tokens": "x"}, {"embed_tokens": [1.5]}),
        "bad-config-value",
    ),
    one(
        "C27 a tokenizer that brings code",
        fields(
            peft_type="PROMPT_TUNING",
            num_virtual_tokens=4,
            tokenizer_name_or_path="a/b",
            tokenizer_kwargs={"trust_remote_code": True},
        ),
        "config-imports-code",
    ),
    one(
        "C28 X-LoRA's adapters", fields(peft_type="XLORA", adapters={"0": "/etc", "1": "a/b"}), "base-path-not-portable"
    ),
    one("C28 a path in a sub-config", fields(loftq_config={"x": "file:///etc/passwd"}), "base-path-not-portable"),
    *several("C29", "runtime_config", ({"ephemeral_gpu_offload": True},), "runtime-config-ignored"),
    one("C30 keys of a newer PEFT", fields(lora_of_tomorrow=True, another=None), ""),
    one("C30 100,001 unknown keys", fields(**{f"{i:x}": 0 for i in range(100_001)}), "over-limit", True),
    *[
        one(f"C31 the key {key!r}", fields(**{key: 1}), "")
        for key in ("__proto__", "</script>", "a\x1b[2Jb", "__class__", "a\u202eb")
    ],
    one("C31 half a character", text('"r": 4', '"r": 4, "\\ud800": 1'), "config-not-json", True, says=("surrogate",)),
    *several("C32", "peft_version", ("x", 5, [], "rm -rf /"), "peft-version-unreadable"),
    one("C32 a version with a tail", fields(peft_version="9999.0@x; rm -rf /"), ""),
    one("C33 a FIFO", fifo, "not-a-regular-file", True, seconds=1.0),
    one("C33 a link out of the folder", link("/etc/passwd"), "path-escapes", True),
    one("C34 without weights", lambda folder: _write(folder, GOOD, weights=False), "weights-file-missing", True),
    one("C34 no peft_type", without("peft_type"), "config-not-peft", True),
    one("C34 a model's config", raw(b'{"model_type": "llama", "architectures": ["X"]}'), "config-not-peft", True),
    one(
        "C34 mlx-lm's config",
        raw(b'{"fine_tune_type": "lora", "lora_parameters": {"rank": 8}}'),
        "config-not-peft",
        True,
    ),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return outcomes(ROWS, tmp_path_factory.mktemp("config_rows"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_bad_config_gets_its_finding(row, answers):
    verify(row, answers[row.name])


#: Rows whose weights are read too, so that the whole check goes through every stage.
CHECKED = [
    replace(row, name=f"check {row.name}", action="check", refused=NO, due=(), codes_only=NO, says=()) for row in ROWS
]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    return outcomes(CHECKED, tmp_path_factory.mktemp("config_checks"))


@pytest.mark.parametrize("row", CHECKED, ids=lambda row: row.name)
def test_the_whole_check_survives_a_bad_config(row, reports):
    """No stage after reading takes a value of the config for granted."""
    verify(row, reports[row.name])


def test_another_tuner_s_weights_beside_a_config_are_found():
    """C34: the config is one method's, the tensors another's."""
    from adapterfit import pipeline

    files = make.as_files(make.adapter("llama", peft_type="IA3"))
    sample = make.folder({**files, make.CONFIG: GOOD})
    report = pipeline.check(sample.adapter, base=sample.case.base)
    assert "method-differs" in {found.id for found in report.findings}


@pytest.mark.parametrize("cut", range(0, len(GOOD), 7))
def test_a_config_cut_off_anywhere_is_refused(cut):
    found = parse_config(GOOD[:cut])
    assert [flaw.code for flaw in found.flaws] == ["config-not-json"]
    assert found.flaws[0].raised.startswith("JSONDecodeError")
