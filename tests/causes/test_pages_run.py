"""The code of every page is run with the real PEFT: the broken code does what the page says, the fixed code works."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterfit.cli._page import pages

pytestmark = [pytest.mark.exact, pytest.mark.slow]
RUN = [page for page in pages().values() if page.code.runs]


@pytest.fixture(scope="module")
def verify():
    pytest.importorskip("peft", reason="peft is not installed")
    import verify_pages

    return verify_pages


@pytest.fixture(scope="module")
def bench(verify):
    with verify.bench() as at:
        yield at


#: What the code itself raises, and no library: adapterfit's own exception, and a clock that ends a load without end.
OWN = ("AdapterMisfit: ", "TimeoutError: ")


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.id)
def test_the_code_of_a_page_does_what_the_page_says_and_a_user_finds_its_line_on_the_page(page, bench, verify):
    if page.code.needs:
        pytest.importorskip(page.code.needs, reason=f"{page.code.needs} is not installed")
    if page.code.older:
        try:
            verify.releases(page.code.older)
        except OSError as error:
            pytest.skip(str(error))
    broken, fixed = bench.page(page)
    assert fixed
    line = next((one.line for one in broken if one.line), "")
    assert not line or line.startswith(OWN) or verify.is_messaged(page, line)
    text = next((one.text for one in broken if one.text), "")
    assert not text or line.startswith(OWN) or verify.rank(page, text) == 1, (
        "what the code raises is explained as something else"
    )


TWICE = """
model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS))
get_peft_model(model, LoraConfig(**OPTIONS))
"""
#: Code that lies about itself, and what the runner says to it.
LIES = {
    "it raises and does not say so": ("1 / 0", "not said"),
    "it says that it raises and does not": ("1 + 1  # raises ZeroDivisionError: division by zero", "does not raise"),
    "it raises something else": ("1 / 0  # raises KeyError: division by zero", "not KeyError"),
    "it raises with other words": ("1 / 0  # raises ZeroDivisionError: modulo", "not ZeroDivisionError: modulo"),
    "it gives another value": ("1 + 1  # -> 3", "not 3"),
    "it does not warn": ("1 + 1  # warns: something", "does not warn"),
    "PEFT warns and it does not say so": (TWICE, "warns, which is not said"),
}


@pytest.mark.parametrize(("code", "words"), LIES.values(), ids=LIES)
def test_code_that_does_something_else_than_it_says_is_seen(code, words, verify, bench):
    with bench.fresh() as names, pytest.raises(verify.Unlike, match=words):
        verify.run(code, names, "a lie")


def test_each_snippet_starts_from_the_same_files(bench):
    with bench.fresh() as names:
        Path(names["CONFIG"]).unlink()
    with bench.fresh() as names:
        assert Path(names["CONFIG"]).is_file()
