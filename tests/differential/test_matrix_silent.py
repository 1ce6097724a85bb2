"""Silent differences of methods that are not compared tensor by tensor: predicted, or the same file loads equal elsewhere."""

import pytest

import matrix
import shared_data

pytestmark = [pytest.mark.corpus, pytest.mark.slow]

shared_data.need(shared_data.MATRIX)
#: Kinds of which single rows were *cannot tell*; `tools/matrix.py` counts the silent differences of all kinds.
KINDS = ("xlora", "adamss", "lora_gptoss_sq_down")


def rows():
    return [row for row in matrix.rows() if row["kind"] in KINDS and matrix.truth(row) in ("loads", "differs")]


def read(row):
    """All that we read of a row's adapter, and who loads it."""
    found = matrix.adapter(f"p{row['saver_peft']}-t{row['saver_tf']}", row["kind"])
    return repr((found.config.raw, found.tensors)), matrix.loader_of(row)


def test_a_silent_difference_is_predicted_or_a_file_with_the_same_names_shapes_and_config_loads_equal():
    equal = {read(row) for row in rows() if matrix.truth(row) == "loads"}
    silent = [row for row in rows() if row.get("warnclass") == ["SILENT"]]
    assert len(silent) == 7
    said = [(matrix.outcome(row).ours, read(row) in equal) for row in silent]
    assert sorted(said) == [("cannot tell", True)] + 6 * [("differs", False)]


def test_none_of_them_that_loads_equal_is_called_otherwise():
    fine = [matrix.outcome(row).ours for row in rows() if matrix.truth(row) == "loads"]
    assert len(fine) >= 45
    assert set(fine) <= {"loads", "cannot tell"}
