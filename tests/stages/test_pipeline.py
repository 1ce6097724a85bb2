"""The whole way: verdict, prediction, and the honest *cannot tell*."""

import pytest

import adapterfit
from adapterfit.testing import make


def check(sample, **options):
    return adapterfit.check(sample.adapter, base=sample.case.base, **options)


@pytest.mark.parametrize(
    ("sample", "verdict", "predicted"),
    [
        pytest.param(make.lora(), "fits", "loads", id="a plain LoRA fits"),
        pytest.param(
            make.lora().renamed(lambda n: "module." + n),
            "fits-after-fix",
            "loads-without-effect",
            id="a wrapper's prefix has no effect and can be mended",
        ),
        pytest.param(make.lora().on("gpt2"), "does-not-fit", "raises", id="a llama adapter on gpt2 raises"),
        pytest.param(
            make.lora().on("llama", num_hidden_layers=1),
            "does-not-fit",
            "loads-partly",
            id="a shallower base drops layers",
        ),
        pytest.param(
            make.lora().on("llama", model_type="nobody-knows"),
            "cannot-tell",
            "cannot-tell",
            id="an unknown architecture",
        ),
        pytest.param(make.lora().on_base(None), "cannot-tell", "cannot-tell", id="no base"),
    ],
)
def test_the_verdict(sample, verdict, predicted):
    report = check(sample)
    assert (report.verdict, report.predicted) == (verdict, predicted)
    assert report.next_step


@pytest.mark.parametrize(
    "sample",
    [
        pytest.param(make.lora().on_base(None), id="no base"),
        pytest.param(make.lora().on("llama", model_type="nobody-knows"), id="an unknown architecture"),
        pytest.param(make.lora().with_config(peft_type="ADAMSS"), id="a method that is not decided"),
    ],
)
def test_what_is_not_known_is_said_and_never_fits(sample):
    report = check(sample)
    assert report.verdict == "cannot-tell"
    assert any("whether it fits" in entry.what or "modules" in entry.what for entry in report.not_checked)


def test_another_consumer_than_the_known_one_is_not_guessed():
    report = check(make.lora(), consumer="peft==0.1.0,transformers==4.33.0")
    assert report.verdict == "cannot-tell"
    assert "peft 0.1.0 is not known" in report.not_checked[0].why


def test_a_consumer_that_is_none_is_a_clear_error():
    with pytest.raises(adapterfit.CannotCheck, match="consumer"):
        check(make.lora(), consumer="tensorrt; rm -rf")


def test_a_classifier_is_checked_as_the_class_its_task_needs():
    sample = make.adapter("bert", peft_type="LORA", r=4, target_modules=["query"], task_type="SEQ_CLS")
    on_disk = make.base("bert", architectures=["BertForMaskedLM"])
    report = check(sample.on_base(on_disk))
    assert report.verdict == "fits"
    assert report.diff.expectation.tree.class_name == "BertForSequenceClassification"


def test_the_class_can_be_named():
    report = check(make.lora(), base_class="LlamaModel")
    assert report.diff.expectation.tree.class_name == "LlamaModel"
    assert report.verdict == "does-not-fit"


def test_a_base_is_read_once_and_serves_many():
    base = adapterfit.read_base(make.base("llama"))
    samples = [make.lora(), make.lora(target_modules=["down_proj"])]
    assert [adapterfit.check(one.adapter, base=base).verdict for one in samples] == ["fits", "fits"]


def test_nothing_is_changed_on_disk(tmp_path):
    for name, data in make.as_files(make.lora()).items():
        (tmp_path / name).write_bytes(data)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    assert adapterfit.check(tmp_path, base=make.base("llama")).verdict == "fits"
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before


def _installed(folder, **versions):
    for name, version in versions.items():
        (folder / f"{name}-{version}.dist-info").mkdir()
    return [str(folder)]


def test_without_a_consumer_the_answer_is_for_the_installed_versions(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", _installed(tmp_path, peft="0.13.2", transformers="4.45.2"))
    report = adapterfit.check(
        make.lora(use_dora=True, lora_ga_config={"direction": "x"}).adapter, base=make.base("llama")
    )
    assert (report.case.consumer.peft, report.case.consumer.transformers) == ("0.13.2", "4.45.2")
    assert report.predicted == "raises", "PEFT before 0.14 raises on a key it does not know"
    assert not [one for one in report.not_checked if "installed here" in one.what]


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        pytest.param(
            {"peft": "0.17.1"}, "peft 0.17.1, which is installed here", id="one without the other loads nothing"
        ),
        pytest.param(
            {"peft": "9.0.0", "transformers": "5.23.0"},
            "peft 9.0.0, which is installed here",
            id="a version nobody has facts of",
        ),
    ],
)
def test_installed_versions_that_are_not_answered_for_are_named(versions, said, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", _installed(tmp_path, **versions))
    report = adapterfit.check(make.lora().adapter, base=make.base("llama"))
    assert report.case.consumer.peft == "0.21.2"
    assert said in [one.what for one in report.not_checked]
