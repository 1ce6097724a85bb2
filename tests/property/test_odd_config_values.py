"""Whatever stands in a field of adapter_config.json, a check ends in a report."""

from hypothesis import given
from hypothesis import strategies as st

import adapterfit
import fuzzing
from adapterfit.report import text
from adapterfit.testing import make

SAMPLES = (
    make.lora("llama"),
    make.lora("mixtral"),
    make.adapter("llama", peft_type="OSF", target_modules=["q_proj"]),
    make.adapter("llama", peft_type="IA3"),
    make.adapter("llama", peft_type="ADALORA", init_r=3, total_step=10, target_modules=["q_proj"]),
    make.adapter("gpt2", peft_type="FOURIERFT", n_frequency=20),
)
FIELDS = (
    "target_modules", "modules_to_save", "exclude_modules", "target_parameters", "layers_to_transform", "layers_pattern",
    "rank_pattern", "alpha_pattern", "n_frequency_pattern", "feedforward_modules", "task_type", "tinit", "tfinal", "r", "lora_alpha",
    "init_lora_weights", "trainable_token_indices", "layer_replication", "use_bdlora", "kasa_config", "bias",
)  # fmt: skip
VALUES = st.sampled_from(
    [None, True, 0, -1, 10**30, 1.5, "", "(", "q_proj", [], [[]], [None], ["q_proj", 1], {}, {"q_proj": 2}, {"q_proj": []},
     {"(": 1}, [["a"]], [[0, 1]], [[1, 0]], "all-linear", {"": ""}, [10**20]]
)  # fmt: skip


@given(st.sampled_from(SAMPLES), st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=3))
@fuzzing.tries(60)
def test_a_check_ends_in_a_report(sample, fields):
    broken = sample.with_config(**fields)
    report = adapterfit.check(broken.adapter, base=broken.case.base)
    assert report.verdict in ("fits", "fits-after-fix", "does-not-fit", "cannot-tell")
    assert text.render(report)


def test_a_table_of_ranks_that_is_none_leaves_the_answer_open():
    broken = make.lora("llama").with_config(rank_pattern=[["q_proj", 2]])
    report = adapterfit.check(broken.adapter, base=broken.case.base)
    assert report.verdict != "fits"
