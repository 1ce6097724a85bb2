"""`--for all` beside the survey of the engines, row by row, for seven adapters. The rows are written by hand."""

import pytest

import adapterfit
from adapterfit.report import _consumers
from adapterfit.testing import make
from engine_rows import ADAPTERS, ROWS

SAMPLES = {
    name: make.lora(
        "mixtral" if name == "experts" else "llama",
        base=make.base("llama", vocab_size=260) if name == "vocabulary" else None,
        **fields,
    )
    for name, fields in ADAPTERS.items()
}
CELLS = [
    pytest.param(engine, adapter, cell, id=f"{engine} {adapter}")
    for engine, cells in ROWS.items()
    for adapter, cell in zip(SAMPLES, cells)
]


@pytest.fixture(scope="module")
def reports():
    """Adapter → the report for all engines."""
    found = {
        name: adapterfit.check(sample.adapter, base=sample.case.base, consumer="all")
        for name, sample in SAMPLES.items()
    }
    for name, report in found.items():
        assert report.verdict == "fits", name
        assert not any(found.code for found in report.findings), "the table of all only informs"
    return found


@pytest.fixture(scope="module")
def tables(reports):
    """Adapter → engine → row."""
    return {
        name: {answer.name: row for answer, row in zip(report.consumers, _consumers.rows(report))}
        for name, report in reports.items()
    }


@pytest.mark.parametrize(("engine", "adapter", "cell"), CELLS)
def test_a_row_of_the_table_is_what_the_survey_says(tables, engine, adapter, cell):
    row = tables[adapter][engine]
    assert f"{row.accepted} {row.applied} {row.scale}" == cell


@pytest.mark.parametrize("adapter", SAMPLES)
def test_the_table_has_a_row_for_every_engine(tables, adapter):
    assert set(tables[adapter]) == set(ROWS)


@pytest.mark.parametrize(
    ("engine", "adapter", "line"),
    [
        ("vllm", "dora", "vLLM does not yet support DoRA."),  # 1
        ("sglang", "dora", "Failed to load NAME because LoRA serving currently doesn't support DoRA adapters"),  # 2
        (
            "sglang",
            "q-only",
            "KeyError: 'base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight'",
        ),  # 2: Structure traps
        (
            "llama.cpp",
            "vocabulary",
            "ERROR:lora-to-gguf:Unexpected name 'base_model.model.lm_head.weight': Not a lora_A or lora_B tensor",
        ),  # 6
        ("mlx-lm", "plain", "AttributeError: 'types.SimpleNamespace' object has no attribute 'num_layers'"),  # 8
        ("ollama", "experts", "unsupported architecture"),  # 7
    ],
)
def test_a_refusal_is_in_the_engines_own_words(engine, adapter, line):
    sample = SAMPLES[adapter]
    (answer,) = adapterfit.check(sample.adapter, base=sample.case.base, consumer=engine).consumers
    assert next(effect.says for effect in answer.effects if effect.kind == "refused") == line


@pytest.mark.parametrize(
    ("engine", "adapter", "cure"),
    [
        ("vllm", "dora", "--to merged"),
        ("sglang", "q-only", "adapterfit convert sample --to filled --base tiny-llama --out sample-filled"),
        ("tgi", "layers", "pairs of zeros of rank 4"),
        ("sglang", "rslora", "adapterfit convert sample --to plain --out sample-plain"),
        ("mlx-lm", "plain", "--to mlx"),
        ("vllm", "experts", "--enable-mixed-moe-lora-format"),
    ],
)
def test_what_keeps_an_engine_from_serving_it_has_a_cure(engine, adapter, cure):
    sample = SAMPLES[adapter]
    (answer,) = adapterfit.check(sample.adapter, base=sample.case.base, consumer=engine).consumers
    assert any(cure in effect.cure for effect in answer.effects)


def test_one_scale_for_all_modules_is_cured_in_the_config_alone():
    sample = make.lora(use_rslora=True)
    (answer,) = adapterfit.check(sample.adapter, base=sample.case.base, consumer="sglang").consumers
    assert {ratio.value for ratio in answer.ratios} == {0.5}  # 4 ** -0.5
    (cure,) = [effect.cure for effect in answer.effects if effect.kind == "scaled"]
    mended = sample.with_config(lora_alpha=16.0, use_rslora=False)
    assert 'set "lora_alpha": 16 and "use_rslora": false' in cure
    (after,) = adapterfit.check(mended.adapter, base=sample.case.base, consumer="sglang").consumers
    assert [(ratio.trained, ratio.served) for ratio in after.ratios] == [(4.0, 4.0)] * 4


@pytest.mark.parametrize("width", [60, 100])
def test_the_table_with_its_cures_fits_the_screen(reports, width):
    lines = [line for report in reports.values() for line, _ in _consumers.lines(report, width)]
    assert max(len(line) for line in lines if "{" not in line) <= width  # the JSON of one flag is one word of a shell
    assert any(line.endswith(" \\") for line in lines)


def test_every_engine_that_does_not_apply_it_as_peft_does_has_a_cure_in_the_table(reports):
    cured = [answer for report in reports.values() for answer in report.consumers if answer.deciding]
    assert len(cured) >= 60
    assert [answer.name for answer in cured if not answer.cure] == []
    for report in reports.values():
        text = "\n".join(line for line, _ in _consumers.lines(report, 200))
        for answer, row in zip(report.consumers, _consumers.rows(report)):
            assert answer.run in text
            assert ("; cure: " in row.note) is bool(answer.deciding)


def test_a_cure_of_the_table_is_one_line_for_all_engines_that_it_helps(reports):
    lines = [line.strip() for line, _ in _consumers.lines(reports["rslora"], 100)]
    assert lines.count("adapterfit convert sample --to plain --out sample-plain") == 1
    at = lines.index("adapterfit convert sample --to plain --out sample-plain")
    for engine in ("SGLang", "TGI", "llama.cpp", "TensorRT-LLM"):
        assert engine in " ".join(lines[at - 3 : at])


def test_merging_is_the_cure_where_one_of_several_things_needs_it():
    sample = make.lora(use_dora=True, target_modules=["q_proj"])
    (answer,) = adapterfit.check(sample.adapter, base=sample.case.base, consumer="sglang").consumers
    assert len([effect for effect in answer.deciding if effect.cure]) == 2
    assert "--to merged" in answer.run


@pytest.mark.parametrize("adapter", ["dora", "vocabulary", "experts"])
@pytest.mark.parametrize("engine", ["comfyui", "diffusers", "mlx-lm", "ollama"])
def test_no_layout_is_named_that_cannot_hold_the_adapter(reports, engine, adapter):
    (answer,) = [each for each in reports[adapter].consumers if each.name == engine]
    holds = adapter == "dora" and engine in ("diffusers", "mlx-lm")
    assert ("--to merged" in answer.run) is (bool(answer.deciding) and not holds)
