"""Commands of plugins: distributions as pip would leave them, on a path of their own."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from strangers import Site

from autoreg import commands, installed
from autoreg.cli import autoreg

Install = Callable[..., None]


@pytest.fixture
def install(site: Site, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with a command on the path: ``install("autoreg-greet", "1.2", GREET, "greet")``."""

    def put(distribution: str, version: str, source: str, name: str) -> None:
        value = f"{distribution.replace('-', '_')}:run"
        site.put(distribution, version, source, group="autoreg.commands", **{name: value})
        monkeypatch.setenv("AUTOREG_PLUGINS", site.environment()["AUTOREG_PLUGINS"])

    return put


GREET = """
    import click

    @click.command()
    @click.argument("name")
    @click.option("--loud", is_flag=True)
    def run(name, loud):
        '''Greet someone.'''
        click.echo(f"HELLO {name}" if loud else f"hello {name}")
"""


def run(*args: str, code: int = 0) -> Result:
    done = CliRunner().invoke(autoreg, list(args))
    assert done.exit_code == code, f"{done.exit_code}\n{done.stdout}\n{done.stderr}\n{done.exception}"
    return done


def refused(*args: str, code: int = 2) -> str:
    """The last line, which is the only error."""
    done = run(*args, code=code)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.startswith("Error: ") for line in lines] == [False] * (len(lines) - 1) + [True]
    return lines[-1]


def test_a_command_runs_and_has_its_own_help(install: Install) -> None:
    install("autoreg-greet", "1.2", GREET, "greet")
    assert run("greet", "you", "--loud").stdout == "HELLO you\n"
    shown = run("greet", "--help").stdout
    assert shown.startswith("Usage: autoreg greet [OPTIONS] NAME")
    assert "Greet someone." in shown
    assert "Missing argument 'NAME'" in refused("greet")


def test_a_group_of_commands_runs(install: Install) -> None:
    source = """
        import click

        run = click.Group()

        @run.command()
        def inner():
            click.echo("inside")
    """
    install("autoreg-group", "1.0", source, "outer")
    assert run("outer", "inner").stdout == "inside\n"


def test_help_and_completion_list_it_without_an_import(install: Install) -> None:
    install("autoreg-greet", "1.2", "raise SystemExit('imported')", "greet")
    lines = run("--help").stdout.splitlines()
    assert [line.split(maxsplit=1) for line in lines if "greet" in line] == [["greet", "from autoreg-greet 1.2"]]
    complete = ShellComplete(autoreg, {}, "autoreg", "_AUTOREG_COMPLETE")
    assert [item.value for item in complete.get_completions([], "gr")] == ["greet"]
    assert [item.type for item in complete.get_completions(["greet"], "mod")] == ["file"]
    assert "autoreg_greet" not in sys.modules


def test_help_imports_no_plugin_and_nothing_heavy(install: Install, site: Site) -> None:
    install("autoreg-greet", "1.2", GREET, "greet")
    program = """
        import json, sys
        from autoreg.__main__ import main
        sys.argv = ["autoreg", "--help"]
        try:
            main()
        except SystemExit:
            print(json.dumps(sorted(sys.modules)), file=sys.stderr)
    """
    done = site.run(program=program)
    assert "from autoreg-greet 1.2" in done.stdout
    assert not {"autoreg_greet", "torch", "sklearn", "pandas", "numpy"} & set(json.loads(done.stderr))


def test_a_distribution_of_commands_alone_is_a_known_plugin(install: Install, site: Site) -> None:
    install("autoreg-greet", "1.2", GREET, "greet")
    program = "from autoreg.plugins import load_plugins; assert load_plugins().problems == []"
    done = site.run(program=program, PYTHONWARNINGS="error")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'. Upgrade or"),
        ("run = 1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(7)", "SystemExit: 7"),
        ("raise ValueError('one\\ntwo')", "ValueError: one. Upgrade"),
        ("other = 1", "AttributeError: module 'autoreg_broken' has no attribute 'run'"),
        ("run = 3", "autoreg_broken:run is of type int, but has to be a click.Command"),
        ("def run(): pass", "autoreg_broken:run is of type function, but has to be a click.Command"),
    ],
)
def test_a_broken_command_is_one_line_that_names_the_plugin(install: Install, source: str, part: str) -> None:
    install("autoreg-broken", "0.3", source, "broken")
    line = refused("broken", "x")
    assert line.startswith("Error: command 'broken' of autoreg-broken 0.3")
    assert part in line
    assert "from autoreg-broken 0.3" in run("--help").stdout


def test_a_fault_while_it_runs_is_the_plugins(install: Install) -> None:
    install("autoreg-late", "2.0", GREET.replace("click.echo(", "open(0 / 0, "), "late")
    line = refused("late", "x", code=1)
    assert line.startswith("Error: bug in autoreg-late 2.0: ZeroDivisionError: division by zero (AUTOREG_DEBUG=1")


def test_what_the_user_can_mend_stays_one_line_with_status_2(install: Install) -> None:
    source = GREET.replace("click.echo(", "from autoreg.errors import OptionError; raise OptionError(")
    install("autoreg-greet", "1.2", source, "greet")
    assert refused("greet", "you") == "Error: hello you"


def test_a_slow_import_is_named(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "PATIENCE", 0.01)
    install("autoreg-slow", "1.0", "import time; time.sleep(0.5)\n" + textwrap.dedent(GREET), "slow")
    done = run("slow", "you")
    assert done.stdout == "hello you\n"
    assert done.stderr.startswith("Still loading command 'slow' of autoreg-slow 1.0 after 0.01 seconds")


def test_a_built_in_command_keeps_its_name(install: Install) -> None:
    install("autoreg-grab", "1.0", GREET, "show")
    assert "from autoreg-grab" not in run("--help").stdout
    done = run("show", "--help")
    assert "Tell what MODEL was fitted on" in done.stdout
    assert done.stderr == ("Warning: command 'show' is autoreg's own; the one of autoreg-grab 1.0 is left out\n")
    assert "autoreg_grab" not in sys.modules


def test_two_plugins_with_one_name_are_told_when_it_is_asked_for(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("autoreg-one", "1.0", GREET, "greet")
    install("autoreg-two", "2.0", GREET.replace("hello", "bye"), "greet")
    assert "from autoreg-one 1.0 and autoreg-two 2.0: uninstall one of them" in " ".join(run("--help").stdout.split())
    assert refused("greet", "you") == (
        "Error: command 'greet' is offered by autoreg-one 1.0 and autoreg-two 2.0: uninstall one of them, or name "
        "those to use in AUTOREG_PLUGINS"
    )
    monkeypatch.setenv("AUTOREG_PLUGINS", "autoreg-two")
    assert run("greet", "you").stdout == "bye you\n"


def test_the_environment_limits_commands_too(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("autoreg-greet", "1.2", GREET, "greet")
    monkeypatch.setenv("AUTOREG_PLUGINS", "")
    assert "greet" not in run("--help").stdout
    assert refused("greet", "you") == (
        "Error: No such command 'greet': autoreg-greet 1.2 offers it, which AUTOREG_PLUGINS leaves out."
    )


def test_an_unknown_command_is_compared_with_those_of_plugins(install: Install) -> None:
    install("autoreg-greet", "1.2", GREET, "greet")
    assert refused("gret") == "Error: No such command 'gret'; did you mean 'greet'?"
    assert refused("xyzzy").endswith("No such command 'xyzzy'. Known: evaluate, fit, plugins, predict, show, greet.")


@pytest.mark.parametrize("name", ["--help", "Greet", "gr eet", "-x", "né"])
def test_a_name_that_could_not_be_typed_is_no_command(install: Install, name: str) -> None:
    install("autoreg-odd", "1.0", GREET, name)
    assert name not in commands.offers()
    assert "autoreg-odd" not in run("--help").stdout


def test_a_promise_is_a_command_of_click(install: Install) -> None:
    install("autoreg-greet", "1.2", GREET, "greet")
    promise = commands.Promise("greet", commands.offers()["greet"])
    loaded = promise.load()
    assert isinstance(promise, click.Command)
    assert (loaded.name, loaded.help) == ("run", "Greet someone.")
