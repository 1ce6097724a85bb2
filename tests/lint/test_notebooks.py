"""Notebooks: cells are one script, magics are tolerated, and a fix leaves the rest of the JSON as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("libcst", reason="libcst is not installed: pip install adapterfit[lint]")

from adapterfit.errors import CannotCheck
from adapterfit.lint import engine, files

IMPORTS = "import torch\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n"
LOAD = 'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")'
MERGE = "model.merge_and_unload()  # fold\nmodel.save_pretrained('out')\n"


def notebook(*sources, **more):
    """A notebook with these code cells, as Jupyter writes it: lists of lines, one space deep."""
    cells = [
        {"cell_type": "code", "execution_count": None, "id": f"c{at}", "metadata": {}, "outputs": [], "source": source}
        for at, source in enumerate(sources)
    ]
    whole = {"cells": cells, "metadata": {"language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}
    return {**whole, **more}


def lines(text):
    return text.splitlines(keepends=True)


def lint(raw, safeties=()):
    result, data = engine.lint(files.Source(Path("x.ipynb"), raw.encode()), None, safeties)
    return result, data.decode()


def written(document, **how):
    return json.dumps(document, **{"indent": 1, "ensure_ascii": False, **how}) + "\n"


def test_values_are_followed_from_cell_to_cell_and_lines_are_the_cells_own():
    result, _ = lint(written(notebook(lines(IMPORTS), lines(LOAD), lines("# merge\n" + MERGE))))
    (finding,) = result.findings
    assert (finding.rule, finding.cell, finding.line, finding.column) == ("merge-result-dropped", 3, 2, 1)


def test_a_cells_number_counts_cells_of_text_too():
    document = notebook(lines(IMPORTS + LOAD), lines(MERGE))
    document["cells"].insert(1, {"cell_type": "markdown", "metadata": {}, "source": ["# then\n"]})
    result, _ = lint(written(document))
    assert [finding.cell for finding in result.findings] == [3]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"indent": 2},
        {"indent": None},
        {"indent": "\t"},
        {"ensure_ascii": True},
        {"separators": (",", ":"), "indent": None},
    ],
    ids=["as Jupyter writes it", "two deep", "on one line", "with tabs", "as ASCII", "without spaces"],
)
@pytest.mark.parametrize("listed", [True, False], ids=["a list of lines", "one string"])
def test_a_fix_changes_the_one_line_and_nothing_else(how, listed):
    shape = lines if listed else str
    before = notebook(shape(IMPORTS), shape("# Größe ≈ 7B 🙂\n" + LOAD), shape(MERGE))
    after = notebook(shape(IMPORTS), shape("# Größe ≈ 7B 🙂\n" + LOAD), shape("model = " + MERGE))
    result, text = lint(written(before, **how), {"safe"})
    assert text == written(after, **how)
    assert result.fixed == {"merge-result-dropped": 1}
    assert lint(text, {"safe"})[1] == text


def test_a_fix_may_add_and_remove_lines():
    code = IMPORTS + "from peft import get_peft_model, LoraConfig, get_peft_model_state_dict\n"
    body = 'model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig())\nmodel.state_dict = lambda: get_peft_model_state_dict(model)\nmodel.eval()'
    _, text = lint(written(notebook(lines(code), lines(body))), {"unsafe"})
    assert text == written(notebook(lines(code), [lines(body)[0], "model.eval()"]))


def test_an_import_is_added_to_the_cell_of_the_imports():
    first = "import torch\nfrom transformers import AutoModelForCausalLM"
    second = 'model = AutoModelForCausalLM.from_pretrained("b")\nmodel.load_state_dict(torch.load("a/adapter_model.bin", weights_only=True))'
    _, text = lint(written(notebook(lines(first), lines(second))), {"unsafe"})
    mended = json.loads(text)
    assert "".join(mended["cells"][0]["source"]) == first + "\nfrom peft import PeftModel"
    assert mended["cells"][1]["source"][1] == 'model = PeftModel.from_pretrained(model, "a")'


MAGICS = {
    "line magics": "%matplotlib inline\n!pip install peft\n%%time\n",
    "indented ones": "if True:\n    !ls\n    %cd ..\n",
    "values of magics": "out = !ls\na, b = %time 1\n",
    "help": "PeftModel?\nmodel.eval??\n?torch\n",
    "a cell of Python under a magic": "%%capture out\nx = 1\n",
}


@pytest.mark.parametrize("magic", MAGICS.values(), ids=list(MAGICS))
def test_magics_are_tolerated(magic):
    result, text = lint(written(notebook(lines(magic), lines(IMPORTS + magic + LOAD), lines(magic + MERGE))), {"safe"})
    assert result.unread == ()
    assert result.fixed == {"merge-result-dropped": 1}
    assert json.loads(text)["cells"][2]["source"] == lines(magic + "model = " + MERGE)


def test_a_percent_sign_that_is_python_is_python():
    code = 'text = ("%s"\n% 1)\nmany = """\n!not a command\n"""\n'
    result, _ = lint(written(notebook(lines(IMPORTS + code + LOAD), lines(MERGE))))
    assert result.unread == ()
    assert [finding.rule for finding in result.findings] == ["merge-result-dropped"]


@pytest.mark.parametrize("cell", ["%%bash\necho model.merge_and_unload()\n", "%%html\n<b>peft</b>\n"])
def test_a_cell_in_another_language_is_left_out(cell):
    result, _ = lint(written(notebook(lines(IMPORTS + LOAD), lines(cell), lines("model.eval()"))))
    assert (result.findings, result.unread) == ((), ())


def test_a_cell_that_is_no_python_is_said_and_the_others_are_read():
    result, _ = lint(written(notebook(lines(IMPORTS + LOAD), lines("print 'peft'"), lines(MERGE))))
    assert result.unread == ("cell 2 is no Python that lint can read",)
    assert [finding.cell for finding in result.findings] == [3]


def test_an_empty_cell_and_one_without_a_last_line_end_are_fine():
    result, _ = lint(written(notebook([], "", lines(IMPORTS + LOAD), "model.merge_and_unload()", "model.eval()")))
    assert [(finding.cell, finding.line) for finding in result.findings] == [(4, 1)]


BAD = {
    "no JSON": "{",
    "a list": "[]",
    "no cells": "{}",
    "cells that are no list": '{"cells": 1}',
    "format 3": '{"worksheets": [], "nbformat": 3}',
    "another language": json.dumps(notebook("peft", metadata={"language_info": {"name": "R"}})),
    "a key twice": '{"cells": [], "cells": []}',
    "a nest": "[" * 5000 + "]" * 5000,
}


@pytest.mark.parametrize("raw", BAD.values(), ids=list(BAD))
def test_what_is_no_notebook_is_said_in_one_line(raw):
    with pytest.raises(CannotCheck) as error:
        lint(raw)
    assert "\n" not in str(error.value)


ODD_CELLS = [
    {"cell_type": "code"},
    {"cell_type": "code", "source": 1},
    {"cell_type": "code", "source": [1]},
    {"cell_type": ["code"], "source": "x"},
    "cell",
    None,
    {"cell_type": "code", "source": {"source": ["x"]}},
    {"cell_type": "code", "metadata": {"source": ["decoy"]}, "source": ["import torch\n", "x = '\\u2028'"]},
]


def test_odd_cells_are_passed_over():
    document = notebook(lines(IMPORTS + LOAD), lines(MERGE))
    document["cells"][1:1] = ODD_CELLS
    result, text = lint(written(document), {"safe"})
    document["cells"][-1]["source"] = lines("model = " + MERGE)
    assert text == written(document)
    assert result.fixed == {"merge-result-dropped": 1}
