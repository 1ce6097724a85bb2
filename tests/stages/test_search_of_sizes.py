"""The generator's search for formulas of sizes, on samples made here: what it finds is right on all of them."""

from __future__ import annotations

import random

import pytest

from adapterfit.expect.formulas import compile_formula


@pytest.fixture(autouse=True)
def numpy():
    pytest.importorskip("numpy")


def samples(count=24):
    rng = random.Random(3)
    return [
        {
            "heads": rng.choice((2, 3, 4, 5)),
            "head_dim": rng.choice((22, 26, 34)),
            "hidden": rng.randint(50, 400),
            "inner": rng.randint(50, 400),
            "flag": rng.random() < 0.5,
            "widths": [rng.randint(9, 99) for _ in range(4)],
            "i": rng.randint(0, 3),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    "truth",
    ["heads*head_dim", "3*hidden", "hidden+7", "2*hidden+heads*head_dim", "inner//heads", "heads*head_dim*inner"],
)
def test_that_a_product_or_a_sum_of_two_is_found_by_its_number(truth):
    from architectures.monomials import Monomials

    envs = samples()
    target = [compile_formula(truth)(env) for env in envs]
    atoms = {name: [env[name] for env in envs] for name in ("heads", "head_dim", "hidden", "inner")}
    found = Monomials(atoms).candidates(target)
    assert found
    assert [compile_formula(found[0])(env) for env in envs] == target


def test_that_what_no_formula_gives_is_not_found():
    from architectures.monomials import Monomials

    envs = samples()
    rng = random.Random(5)
    atoms = {name: [env[name] for env in envs] for name in ("heads", "head_dim", "hidden", "inner")}
    assert Monomials(atoms).candidates([rng.randint(1, 10**6) for _ in envs]) == []


@pytest.mark.parametrize(
    ("truth", "depth"),
    [
        ("flag ? hidden : heads*head_dim", 1),
        ("i == 0 ? inner : widths[i-1]", 1),
        ("flag ? 1 : (i == 0 ? hidden : inner)", 2),
    ],
)
def test_that_one_formula_or_another_is_told_apart_by_a_condition(truth, depth):
    from architectures.choices import choice

    envs = samples(80)
    values = [compile_formula(truth)(env) for env in envs]
    literals = {
        text: sum(bool(compile_formula(text)(env)) << at for at, env in enumerate(envs))
        for text in ("heads == 2", "flag", "i == 0")
    }
    found = choice(envs, values, literals, depth)
    assert [compile_formula(found)(env) for env in envs] == values
