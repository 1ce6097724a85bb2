"""Install lines bring libraries that can be imported together."""

import re

import pytest

import adapterfit
from adapterfit.consumers import facts, model_types
from adapterfit.consumers.choice import consumer
from adapterfit.consumers.versions import version_range
from adapterfit.testing import make

PAIRS = [
    (peft, transformers)
    for peft in ("0.10.0", "0.14.0", "0.16.0", "0.18.0")
    for transformers in ("4.31.0", "4.40.2", "4.43.4", "4.49.0", "4.57.6")
    if "import" not in consumer(peft, transformers).rules
]
assert len(PAIRS) == 11


def lines(sample, who):
    report = adapterfit.check(sample.adapter, sample.case.base, who)
    return {finding.id: finding.fix.summary for finding in report.findings if finding.fix is not None}


@pytest.mark.parametrize(
    ("who", "line"),
    [
        ("peft==0.10.0,transformers==4.39.3", "pip install 'peft>=0.14.0' 'transformers>=4.43'"),
        ("peft==0.13.2,transformers==4.45.2", "pip install 'peft>=0.14.0'"),
    ],
    ids=["a newer transformers too", "peft alone"],
)
def test_a_newer_peft_brings_the_transformers_that_it_needs(who, line):
    sample = make.lora("llama", use_dora=True, exclude_modules=["k_proj"])
    assert lines(sample, who)["config-key-unknown"] == line


def test_a_newer_peft_stays_below_the_first_that_needs_another_transformers():
    sample = make.adapter("llama", peft_type="VERA", target_modules=["q_proj"], r=4)
    found = lines(sample, "peft==0.10.0,transformers==4.39.3")
    assert found["unknown-peft-type"] == "pip install 'peft>=0.11.0,<0.14.0'"


def test_a_newer_transformers_stays_below_the_first_that_its_peft_cannot_be_imported_with():
    adapter = make.lora("llama", target_modules=["q_proj"]).adapter
    base = make.base("llama", model_type="qwen3", architectures=["Qwen3ForCausalLM"])
    report = adapterfit.check(adapter, base, "peft==0.16.0,transformers==4.49.0")
    found = {finding.id: finding.fix.summary for finding in report.findings if finding.fix is not None}
    assert re.fullmatch(r"pip install 'transformers>=4\.51\.\d,<5\.0\.\d'", found["base-unknown-to-transformers"])


@pytest.mark.parametrize(("peft", "transformers"), PAIRS)
def test_what_a_line_would_install_can_be_imported(peft, transformers):
    """The newest of each range, which is what pip takes, beside what is there."""
    sample = make.lora("llama", exclude_modules=["k_proj"], kasa_config={"beta": 1.0})
    said = " ".join(lines(sample, f"peft=={peft},transformers=={transformers}").values())
    installed = {"peft": peft, "transformers": transformers}
    known = {"peft": facts.load("peft").releases, "transformers": model_types.releases()}
    wanted = re.findall(r"'(peft|transformers)([<>=][^']+)'", said)
    assert wanted
    for name, text in wanted:
        installed[name] = [each for each in known[name] if each in version_range(text)][-1]
    assert "import" not in consumer(installed["peft"], installed["transformers"]).rules
