"""What holds for every input of the readers, tried on thousands that nobody thought of."""

import json

from hypothesis import given
from hypothesis import strategies as some

from adapterfit.errors import BadInput
from adapterfit.read import strictjson
from adapterfit.read.formats.safetensors import DTYPE_BITS
from adapterfit.read.sources.memory import MemorySource
from adapterfit.read.weights import read_weights
from adapterfit.testing.forge import (
    BIN,
    GOOD_BIN,
    GOOD_LEGACY,
    GOOD_NPZ,
    GOOD_ST,
    ST,
    call,
    name,
    of,
    st,
    torch_zip,
    zipped,
)
from adapterfit.text import show
from fuzzing import tries

ANY_TEXT = some.text(some.characters(codec=None))
JSON = some.recursive(
    some.none() | some.booleans() | some.integers(-(10**39), 10**39) | some.floats(allow_nan=False, allow_infinity=False)
    | some.text(some.characters(codec="utf-8")),
    lambda inner: some.lists(inner, max_size=5) | some.dictionaries(some.text(some.characters(codec="utf-8")), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip
NAMES = some.text(some.characters(codec="utf-8"), max_size=30).filter(lambda each: each != "__metadata__")
SHAPES = some.lists(some.integers(0, 5), max_size=4)
WHOLE_BYTES = sorted(dtype for dtype, bits in DTYPE_BITS.items() if bits % 8 == 0)
many = tries(300)


def read(data, name):
    return read_weights(MemorySource({name: data}), name)


@given(JSON)
@many
def test_strict_json_reads_every_document_that_json_writes(value):
    assert strictjson.loads(json.dumps(value).encode(), what="x") == value
    assert strictjson.loads(json.dumps(value, ensure_ascii=False, indent=1).encode(), what="x") == value


@given(some.binary(max_size=60) | some.text(some.sampled_from('{}[]",:\\u0d8 1eN-.'), max_size=60).map(str.encode))
@many
def test_strict_json_reads_or_refuses_any_bytes_and_agrees_with_json(data):
    try:
        value = strictjson.loads(data, what="x")
    except BadInput:
        return
    assert json.loads(data) == value


@given(ANY_TEXT, some.integers(30, 300) | some.none())
@many
def test_text_is_inert_short_and_shown_twice_the_same(text, limit):
    shown = show(text, limit)
    assert shown.isprintable()
    assert shown.encode("utf-8").decode() == shown
    assert limit is None or len(shown) <= limit
    assert show(shown, limit) == shown


@given(some.dictionaries(NAMES, some.tuples(some.sampled_from(WHOLE_BYTES), SHAPES), max_size=6))
@many
def test_safetensors_gives_back_what_was_written(tensors):
    header, at = {}, 0
    for each, (dtype, shape) in tensors.items():
        size = DTYPE_BITS[dtype] // 8
        for dim in shape:
            size *= dim
        header[each] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    weights = read(st(header, bytes(at)), ST)
    assert not weights.refused
    assert {each.name: (each.dtype, list(each.shape)) for each in weights.tensors} == tensors


@given(some.binary(max_size=2000), some.sampled_from([ST, BIN, "x.npz", "x"]))
@many
def test_random_bytes_are_refused_by_name(data, name):
    weights = read(data, name)
    assert weights.refused
    assert weights.tensors == ()
    assert weights.flaws[0].message.isprintable()


@given(
    some.sampled_from([(ST, GOOD_ST), (BIN, GOOD_BIN), (BIN, GOOD_LEGACY), ("x.npz", GOOD_NPZ)]),
    some.data(),
)
@many
def test_a_good_file_with_a_piece_replaced_is_read_or_refused(good, data):
    name, whole = good
    start = data.draw(some.integers(0, len(whole)))
    end = data.draw(some.integers(start, min(len(whole), start + 40)))
    weights = read(whole[:start] + data.draw(some.binary(max_size=40)) + whole[end:], name)
    assert weights.refused or weights.tensors


@given(some.from_regex(r"[a-z_.]{1,20}", fullmatch=True), some.from_regex(r"[A-Za-z_.]{1,20}", fullmatch=True))
@many
def test_no_name_is_ever_accepted_to_be_called_but_those_of_the_closed_set(module, attribute):
    weights = read(zipped(torch_zip(of(call(name(module, attribute))))), BIN)
    assert weights.refused or (module, attribute) == ("collections", "OrderedDict")
