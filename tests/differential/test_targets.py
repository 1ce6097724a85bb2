"""Target matching beside PEFT's own functions, on generated configs and module trees."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterfit.errors import BadInput
from adapterfit.expect.methods.lokr import factorization
from adapterfit.expect.patterns import Patterns
from adapterfit.expect.targets import condense, ends_with_any, pattern_key, select
from adapterfit.records import Module
from fuzzing import tries

pytestmark = pytest.mark.exact

SEGMENTS = st.sampled_from(
    ["model", "layers", "h", "0", "1", "2", "17", "q_proj", "proj", "attn", "experts", "q", "x_q"]
)
NAMES = st.lists(SEGMENTS, min_size=1, max_size=6).map(".".join)
TREES = st.lists(NAMES, min_size=1, max_size=25, unique=True)
WORDS = st.one_of(NAMES, st.sampled_from(["q_proj", "attn.q_proj", "layers.1.attn.q_proj", "proj", "0.q"]))
REGEXES = st.sampled_from([
    r".*\.q_proj", r"q_proj", r".*layers\.[01]\..*", r"(.*\.)?attn\.(q|x_q)", r".*(?<!x_)q_proj", r"model\..*proj", r"",
])  # fmt: skip


def _config(**fields):
    plain = {
        "target_modules": ["q_proj"],
        "exclude_modules": None,
        "modules_to_save": None,
        "layers_to_transform": None,
        "layers_pattern": None,
        "target_parameters": None,
    }
    return {**plain, **fields}


@st.composite
def configs(draw):
    targets = draw(st.one_of(REGEXES, st.lists(WORDS, max_size=5), st.none()))
    regex = isinstance(targets, str) or targets is None
    layers = None if regex else draw(st.one_of(st.none(), st.integers(0, 20), st.lists(st.integers(0, 20), max_size=3)))
    pattern = st.one_of(st.none(), st.sampled_from(["layers", "h", "attn"]), st.lists(st.sampled_from(["layers", "h"])))
    return _config(
        target_modules=targets,
        exclude_modules=draw(st.one_of(st.none(), REGEXES, st.lists(WORDS, max_size=3))),
        modules_to_save=draw(st.one_of(st.none(), st.lists(WORDS, max_size=3))),
        layers_to_transform=layers,
        layers_pattern=None if layers is None else draw(pattern),
        target_parameters=["experts.x"] if targets is None else None,
    )


@tries(600)
@given(names=TREES, config=configs())
def test_every_module_is_sorted_as_peft_sorts_it(names, config):
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists

    theirs = {"matched": [], "excluded": []}
    for name in names:
        result = check_target_module_exists(SimpleNamespace(**config), name)
        if isinstance(result, _ExcludedModule):
            theirs["excluded"].append(name)
        elif result:
            theirs["matched"].append(name)
    ours = select([Module(name, "Linear") for name in names], config, Patterns())
    assert list(ours.matched) == theirs["matched"]
    assert list(ours.excluded) == theirs["excluded"]
    assert ours.unmatched == len(names) - len(ours.matched) - len(ours.excluded)


@tries(300)
@given(names=TREES, keys=st.lists(st.one_of(WORDS, REGEXES, st.sampled_from(["^model", "a|q_proj"])), max_size=4))
def test_the_first_pattern_that_fits_is_pefts(names, keys):
    from peft.utils.other import get_pattern_key

    for name in names:
        ours = pattern_key(dict.fromkeys(keys, 1), name, Patterns())
        theirs = get_pattern_key(keys, name)
        assert (name if ours is None else ours) == theirs


@tries(300)
@given(names=TREES, more=TREES)
def test_a_long_list_of_targets_is_condensed_as_peft_does(names, more):
    from peft.tuners.tuners_utils import _find_minimal_target_modules

    others = [name for name in more if not ends_with_any(name, frozenset(names))]
    theirs = _find_minimal_target_modules(names, others)
    theirs = theirs if len(theirs) < len(set(names)) else set(names)
    assert condense(names, [*names, *more]) == sorted(theirs)


@tries(500)
@given(dimension=st.integers(1, 5000), factor=st.sampled_from([-1, 0, 1, 2, 3, 4, 8, 16, 64, 1000]))
def test_a_dimension_is_factorized_as_lokr_does(dimension, factor):
    from peft.tuners.lokr.layer import factorization as theirs

    assert factorization(dimension, factor) == theirs(dimension, factor)


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        pytest.param(r"(.+)+\d\dx", "regex-too-slow", id="a pattern with exponential backtracking is cut off"),
        pytest.param(r"(a|aa)+b{1,}(c", "regex-invalid", id="a pattern that does not compile is named"),
        pytest.param(r"x{4294967295}", "regex-invalid", id="a repeat count beyond what re takes is named"),
        pytest.param("a" * 2001, "over-limit", id="a pattern over the limit is not looked at"),
    ],
)
def test_a_bad_pattern_is_refused_quickly(pattern, code):
    import time

    names = [f"model.layers.{n}.self_attn.some_long_module_name" for n in range(50)]
    begun = time.perf_counter()
    with pytest.raises(BadInput) as refused:
        select([Module(name, "Linear") for name in names], _config(target_modules=pattern), Patterns())
    assert refused.value.flaw.code == code
    assert time.perf_counter() - begun < 2
