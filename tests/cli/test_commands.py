"""The command line as a user meets it, each command in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from test_json_report import SCHEMA

from adapterfit import __version__
from adapterfit.cli.demo import demo_cases
from adapterfit.cli.main import run
from adapterfit.testing import make
from adapterfit.testing.disk import lay

CHECK = [sys.executable, "-m", "adapterfit", "check", "adapter", "--base", "base"]


@pytest.fixture
def sample(tmp_path):
    """An adapter that fits and its base, known by config alone."""
    good = make.lora("llama")
    lay(tmp_path / "adapter", make.as_files(good))
    lay(tmp_path / "base", {"config.json": json.dumps(good.case.base.config).encode()})
    return tmp_path


def one_line(result):
    """Nothing on stdout, one line on stderr, no traceback."""
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.splitlines()
    return line


def test_a_fit_is_exit_code_0(adapterfit, sample):
    result = adapterfit("check", "adapter", "--base", "base")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("FITS: ")


def test_a_wrapper_prefix_is_exit_code_1(adapterfit, sample):
    bad = make.lora("llama").renamed(lambda name: f"module.{name}")
    lay(sample / "bad", make.as_files(bad))
    result = adapterfit("check", "bad", "--base", "base")
    assert result.returncode == 1
    assert "wrapper-prefix" in result.stdout


def test_json_on_the_command_line_obeys_the_schema(adapterfit, sample):
    result = adapterfit("check", "adapter", "--base", "base", "--format", "json")
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(result.stdout))


def test_an_adapter_that_is_not_there_is_one_line_and_exit_code_2(adapterfit):
    result = adapterfit("check", "nowhere")
    assert result.returncode == 2
    assert "nowhere" in one_line(result)


def test_a_base_that_is_not_there_is_one_line_and_exit_code_2(adapterfit, sample):
    result = adapterfit("check", "adapter", "--base", "./nowhere")
    assert result.returncode == 2
    assert "nowhere" in one_line(result)


def test_a_path_that_would_move_the_cursor_is_shown_inert(adapterfit):
    result = adapterfit("check", "no\x1b[2J\x07where")
    assert result.returncode == 2
    assert not set(one_line(result)) & {"\x1b", "\x07"}


@pytest.mark.parametrize(
    "arguments",
    [(), ("chek",), ("check",), ("check", "adapter", "--format", "yaml"), ("check", "a", "--fail-on", "x")],
    ids=str,
)
def test_a_mistyped_command_is_exit_code_2(adapterfit, arguments):
    result = adapterfit(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_the_version(adapterfit):
    assert adapterfit("--version").stdout.strip() == f"adapterfit, version {__version__}"


def test_help_lists_every_command(adapterfit):
    out = adapterfit("--help").stdout
    assert [word for word in ("check", "explain", "demo") if f"  {word} " not in out] == []


def test_the_report_goes_to_a_file(adapterfit, sample):
    result = adapterfit("check", "adapter", "--base", "base", "--format", "json", "--output", "report.json")
    assert (result.returncode, result.stdout) == (0, "")
    assert json.loads((sample / "report.json").read_text())["verdict"] == "fits"


def test_the_report_replaces_an_older_one(adapterfit, sample):
    (sample / "report.txt").write_text("old")
    adapterfit("check", "adapter", "--base", "base", "--output", "report.txt")
    assert (sample / "report.txt").read_text().startswith("FITS")
    assert sorted(path.name for path in sample.iterdir()) == ["adapter", "base", "report.txt"]


@pytest.mark.parametrize("output", ["adapter/adapter_model.safetensors", "base/config.json", "link.json"])
def test_a_report_never_replaces_what_was_checked(adapterfit, sample, output):
    (sample / "link.json").symlink_to(sample / "base" / "config.json")
    before = (sample / output).read_bytes()
    result = adapterfit("check", "adapter", "--base", "base", "--output", output)
    assert result.returncode == 2
    assert "would replace a file that was checked" in one_line(result)
    assert (sample / output).read_bytes() == before


@pytest.mark.parametrize("output", ["nowhere/report.txt", "adapter", "x" * 300])
def test_an_output_that_cannot_be_written_is_one_line(adapterfit, sample, output):
    result = adapterfit("check", "adapter", "--base", "base", "--output", output)
    assert result.returncode == 2
    one_line(result)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(sample):
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            CHECK, cwd=sample, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


def test_a_reader_that_has_had_enough_is_no_error(sample):
    with subprocess.Popen(CHECK, cwd=sample, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_an_interrupt_is_exit_code_130_and_silent(sample):
    script = """
import signal, sys, time
import adapterfit.pipeline
from adapterfit.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and its children with it
adapterfit.pipeline.check = lambda *_, **__: (print("ready", flush=True), time.sleep(30))
sys.exit(main.run(["check", "adapter"]))
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=sample, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in errors


def broken_check(*_, **__):
    raise ValueError("of our own\nmaking \x1b[2J")


def test_our_own_fault_is_one_line_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr("adapterfit.pipeline.check", broken_check)
    monkeypatch.delenv("ADAPTERFIT_DEBUG", raising=False)
    assert run(["check", "."]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "adapterfit: internal error, please report it (ValueError: of our own\\x0amaking \\x1b[2J); ADAPTERFIT_DEBUG=1 shows where"
    ]


def test_our_own_fault_shows_a_traceback_when_asked(monkeypatch, capsys):
    monkeypatch.setattr("adapterfit.pipeline.check", broken_check)
    monkeypatch.setenv("ADAPTERFIT_DEBUG", "1")
    assert run(["check", "."]) == 2
    assert "broken_check" in capsys.readouterr().err


@pytest.mark.parametrize(("color", "coloured"), [("auto", False), ("never", False), ("always", True)])
def test_colours_in_a_pipe(adapterfit, sample, color, coloured):
    result = adapterfit("check", "adapter", "--base", "base", "--color", color)
    assert ("\x1b[" in result.stdout) is coloured


def test_quiet_prints_the_verdict_alone(adapterfit, sample):
    assert len(adapterfit("check", "adapter", "--base", "base", "--quiet").stdout.splitlines()) == 1


def test_the_screen_is_as_wide_as_columns_says(adapterfit, sample):
    narrow = adapterfit("check", "adapter", COLUMNS="60").stdout
    assert len(narrow.splitlines()) > len(adapterfit("check", "adapter", COLUMNS="200").stdout.splitlines())


def test_a_terminal_that_cannot_show_a_character_is_no_error(sample):
    (sample / "adapter").rename(sample / "模型")
    command = [*CHECK[:4], "模型", *CHECK[5:]]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    result = subprocess.run(command, cwd=sample, capture_output=True, env=environment, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    assert rb"\u6a21\u578b" in result.stdout


def test_several_consumers_give_several_reports(adapterfit, sample):
    new = "peft==0.21.2,transformers==5.23.0"
    result = adapterfit("check", "adapter", "--base", "base", "--for", new, "--for", new)
    assert result.stdout.count("FITS: ") == 2


def test_one_json_document_holds_one_report(adapterfit, sample):
    result = adapterfit("check", "adapter", "--for", "peft==0.21.2", "--for", "peft==0.20.0", "--format", "json")
    assert result.returncode == 2
    assert "one --for at a time" in result.stderr


def test_explain_shows_the_page(adapterfit):
    out = adapterfit("explain", "wrapper-prefix").stdout
    assert [
        heading for heading in ("What this means", "Why it happens", "Fix", "Prevention") if heading not in out
    ] == []


@pytest.mark.parametrize("spelling", ["Wrapper_Prefix", " wrapper-prefix "])
def test_explain_forgives_spelling(adapterfit, spelling):
    assert adapterfit("explain", spelling).stdout == adapterfit("explain", "wrapper-prefix").stdout


def test_explain_suggests_what_was_meant(adapterfit):
    result = adapterfit("explain", "wraper-prefix")
    assert result.returncode == 2
    assert "Did you mean wrapper-prefix" in result.stderr


def test_explain_lists_every_cause(adapterfit):
    from adapterfit.diagnose.registry import all_causes

    out = adapterfit("explain", "--list").stdout
    assert [entry.id for entry in all_causes() if f"  {entry.id} " not in out] == []


def test_explain_without_an_id_lists_causes_and_rules(adapterfit):
    out = adapterfit("explain").stdout
    assert out == adapterfit("explain", "--list").stdout
    assert "  wrapper-prefix " in out
    assert "  merge-result-dropped " in out


def test_explain_shows_code_and_what_it_was_run_with(adapterfit):
    out = adapterfit("explain", "vocabulary-grown").stdout
    assert [word for word in ("Setup", "Broken", "Fixed", "base.resize_token_embeddings(66)") if word not in out] == []
    assert "Verified with peft " in out


def test_explain_says_why_code_was_not_run(adapterfit):
    assert "Not verified here: " in adapterfit("explain", "loader-goes-by-folder-name").stdout


def test_explain_shows_the_page_of_a_rule_and_names_it_on_the_page_of_its_cause(adapterfit):
    out = adapterfit("explain", "adapter-unpickled").stdout
    assert [word for word in ("What this means", "Prevention", "weights_only=True)") if word not in out] == []
    assert "adapterfit explain pickle-not-plain" in out
    assert "adapter-unpickled" in adapterfit("explain", "pickle-not-plain").stdout


def test_explain_suggests_a_rule_too_and_ids_that_hold_the_word(adapterfit):
    assert "merge-result-dropped" in adapterfit("explain", "merge-result-droped").stderr
    assert "vocabulary-shrunk" in adapterfit("explain", "shrunk").stderr


def test_the_demo_gives_every_verdict_it_promises(adapterfit, tmp_path):
    result = adapterfit("demo")
    assert result.returncode == 0, result.stdout
    assert "without torch" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_demo_shows_a_fit_a_repair_and_a_misfit():
    assert {case.verdict for case in demo_cases()} == {"fits", "fits-after-fix", "does-not-fit"}


def test_the_demo_leaves_its_files_when_asked_and_its_commands_work(adapterfit, tmp_path):
    adapterfit("demo", "--keep", "play")
    assert adapterfit("check", "fits", "--base", "base", cwd=tmp_path / "play").returncode == 0


def test_the_demo_does_not_write_over_anything(adapterfit, tmp_path):
    adapterfit("demo", "--keep", "play")
    result = adapterfit("demo", "--keep", "play")
    assert result.returncode == 2
    assert "File exists" in one_line(result)
