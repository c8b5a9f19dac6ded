"""Commands agree: the same option has the same name and help everywhere, and a configuration or run comes first."""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import typer

from segzoo.cli import app

GROUP = typer.main.get_command(app)
COMMANDS = {**GROUP.commands, "weights convert": GROUP.commands["weights"].commands["convert"]}
del COMMANDS["weights"]


def test_every_option_and_argument_has_a_help_text_and_every_command_a_description():
    for name, command in COMMANDS.items():
        assert command.help, name
        for parameter in command.params:
            assert parameter.help, (name, parameter.name)


def test_the_same_option_has_the_same_help_up_to_a_colon_and_the_same_parameter():
    helps, parameters = defaultdict(set), defaultdict(set)
    for command in COMMANDS.values():
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                helps[parameter.opts[0]].add(parameter.help.partition(":")[0])
                parameters[parameter.opts[0]].add(parameter.name)
    assert {option: found for option, found in helps.items() if len(found) > 1} == {}
    assert {option: found for option, found in parameters.items() if len(found) > 1} == {}


def test_a_configuration_or_a_run_is_the_first_argument():
    first = {
        name: next(p.name for p in command.params if p.param_type_name == "argument")
        for name, command in COMMANDS.items()
        if name not in ("init", "backbones", "decoders", "schema", "weights convert")
    }
    configs = ("train", "find-lr", "check-data", "preview")
    assert first == {
        **dict.fromkeys(configs, "config"),
        **dict.fromkeys(("evaluate", "predict", "serve", "demo", "export", "push"), "run"),
        "compare": "runs",
    }
    for name, what in first.items():
        options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert {"--set", "--plugin"} <= options
        assert ("--config" in options) == (what == "config")
        assert ("--weights" in options) == (what != "config")
        assert ("--saved-model" in options) == (what != "config" and name != "push")  # which pushes no model.keras


@pytest.mark.parametrize("command", ["train", "find-lr", "check-data", "preview"])
def test_a_configuration_is_named_once(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, words in (([], "is missing"), (["a.yaml", "--config", "b.yaml"], "given twice")):
        with pytest.raises(SystemExit) as stop:
            app([command, *arguments])
        assert stop.value.code == 2 and words in " ".join(capsys.readouterr().err.split())
    for arguments in (["nowhere.yaml"], ["--config", "nowhere.yaml"], ["-c", "nowhere.yaml"]):
        with pytest.raises(Exception, match=r"There is no configuration 'nowhere.yaml'"):
            app([command, *arguments])


@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"], ["--version"]])
@pytest.mark.parametrize("module", ["segzoo", "segzoo.cli"])
def test_help_needs_no_framework(module, arguments):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['segzoo', *{arguments!r}]\n"
        "try:\n"
        f"    runpy.run_module({module!r}, run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code\n"
        "loaded = {'tensorflow', 'keras', 'torch', 'jax', 'numpy', 'cv2', 'matplotlib'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout, done.stderr


def test_the_old_name_of_an_option_still_works_and_is_told(capsys, tmp_path, monkeypatch):
    """`--config` of `weights convert` was no configuration of segzoo."""
    given = []
    monkeypatch.setattr("segzoo.backend.start_backend", lambda: given.append("started"))
    monkeypatch.setattr("segzoo.workflows.conversion.convert", lambda *arguments: given.append(arguments) or 1 / 0)
    command = ["weights", "convert", "x.pth", "--out", str(tmp_path / "y.weights.h5")]
    with pytest.raises(ZeroDivisionError):
        app([*command, "--config", "old.json"])
    assert given == ["started", (Path("x.pth"), None, Path("old.json"))]
    assert "--config is called --checkpoint-config here" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit) as stop:
        app([*command, "--config", "old.json", "--checkpoint-config", "new.json"])
    assert stop.value.code == 2
