"""The product of a list, as facts ask for it: the places of an image, say."""

from __future__ import annotations

import pytest

from adapterfit.expect.formulas import compile_formula


def test_that_a_product_is_of_whole_numbers_and_no_larger_than_any_size():
    assert compile_formula("prod(each(2, image[i]//patch[i]))")({"image": [224, 64], "patch": [4, 8]}) == 448
    assert compile_formula("prod(many)")({"many": []}) == 1
    with pytest.raises(ValueError, match="whole number"):
        compile_formula("prod(many)")({"many": [2, 0.5]})
    with pytest.raises(ValueError, match="larger than any size"):
        compile_formula("prod(many)")({"many": [1 << 40] * 1000})
