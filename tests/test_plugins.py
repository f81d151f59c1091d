"""Loading plugins: late, once, in order, each alone and guarded."""

from __future__ import annotations

import builtins
import inspect
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from strangers import SNAKE, WATCHER, Site

import autoreg
from autoreg import hookspecs
from autoreg import installed as metadata
from autoreg.errors import DuplicateNameError, PluginError, PluginLoadWarning, UnknownNameError
from autoreg.hookspecs import hookimpl
from autoreg.plugins import HOOKS, Plugins, installed, load_plugins, registry
from autoreg.registry import KINDS, Owner

NETWORK = "@hookimpl\ndef register_networks(register): register('x', lambda d, o, a, width=1: d, space={})"


@pytest.fixture
def all_allowed(monkeypatch: pytest.MonkeyPatch, site: Site) -> Site:
    """Every distribution of the site may be loaded, and no other."""
    monkeypatch.setattr(metadata, "is_allowed", lambda name, allowed: name == "autoreg-core" or name.startswith("t-"))
    return site


def module(**hooks: Callable[..., None]) -> ModuleType:
    """A plugin with these hooks."""
    found = ModuleType("found")
    found.__dict__.update({name: hookimpl(hook) for name, hook in hooks.items()})
    return found


def fault(source: str) -> str:
    """What is said of a plugin with this source."""
    plugin = ModuleType("faulty")
    exec(compile(source, "plugin", "exec"), plugin.__dict__)
    plugins = Plugins()
    with pytest.warns(PluginLoadWarning, match=r"plugin 'faulty' \(autoreg-faulty 2.1\) is left out: "):
        plugins.add(plugin, Owner("faulty", "autoreg-faulty", "2.1"))
    assert list(plugins.registry) == []
    assert plugins.owners == []
    (problem,) = plugins.problems
    return problem.reason


# ---------------------------------------------------------------- what can be wrong with one


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("@hookimpl\ndef register_activation(register): pass", "no hook 'register_activation'; did you mean 'register"),
        ("@hookimpl(specname='register_loss')\ndef mine(register): pass", "no hook 'register_loss'; did you mean"),
        (
            "@hookimpl\ndef register_losses(register, owner): pass",
            "takes register: no argument 'owner'",
        ),
        ("@hookimpl\ndef register_losses(): pass", "register_losses offers nothing without its argument 'register'"),
        ("def register_losses(register): pass", "register_losses is not marked: put @autoreg.hookimpl above it"),
        ("x = 1", "it has no hook: mark a function with @autoreg.hookimpl"),
        ("@hookimpl\ndef register_losses(register): register('Bad Name', len)", "use lower-case letters"),
        (
            "@hookimpl\ndef register_losses(register): register('x', 3)",
            "'x' from autoreg-faulty 2.1: 3 is not callable",
        ),
        ("@hookimpl\ndef register_losses(register): register('x')", "missing 1 required positional argument: 'thing'"),
        ("@hookimpl\ndef register_losses(register): 1 / 0", "ZeroDivisionError: division by zero"),
        ("@hookimpl\ndef register_losses(register): raise SystemExit(3)", "SystemExit: 3"),
        ("@hookimpl\ndef register_losses(register): raise ValueError('a\\n\\x1b[31mb')", "ValueError: a"),
        (
            "@hookimpl\ndef register_losses(register):\n    register('x', len)\n    register('x', abs)",
            "loss 'x' is registered twice",
        ),
        (
            NETWORK.format({"width": 64}),
            "network__width=64: give a non-empty list of values or a scipy distribution",
        ),
        (
            NETWORK.format({"wdth": [1]}),
            "no option of network x 'wdth'; did you mean 'width'?",
        ),
    ],
)
def test_a_plugin_at_fault_is_left_out_and_the_reason_said(source: str, part: str) -> None:
    reason = fault("from autoreg import hookimpl\n" + source)
    assert part in reason
    assert "\n" not in reason


def test_the_first_fault_takes_back_what_came_before_it() -> None:
    source = "@hookimpl\ndef register_losses(register):\n    register('x', len)\n    raise OSError('late')"
    assert fault("from autoreg import hookimpl\n" + source) == "OSError: late"


def test_ctrl_c_is_no_fault_of_a_plugin() -> None:
    def interrupted(register: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Plugins().add(module(register_losses=interrupted), Owner("x"))


def test_two_distributions_may_call_their_plugins_the_same() -> None:
    plugins = Plugins()
    for version in ("1.0", "2.0"):
        plugin = module(search_finished=lambda results, model: None)
        plugins.add(plugin, Owner("plugin", f"autoreg-{version}", version))
    assert len(plugins.owners) == 2
    assert len(plugins.manager.get_plugins()) == 2


def test_a_module_is_taken_in_once() -> None:
    plugin = module(register_losses=lambda register: register("x", len))
    plugins = Plugins()
    plugins.add(plugin, Owner("one", "d", "1"))
    with pytest.warns(PluginLoadWarning, match="plugin 'one' names already"):
        plugins.add(plugin, Owner("two", "d", "1"))
    assert plugins.registry.get("loss", "x").owner.plugin == "one"


def test_an_object_that_pluggy_cannot_keep_is_left_out() -> None:
    plugins = Plugins()
    with pytest.warns(PluginLoadWarning, match="TypeError: unhashable type"):
        plugins.add(SimpleNamespace(search_finished=hookimpl(lambda results, model: None)), Owner("x"))
    assert plugins.manager.get_plugins() == set()


# ---------------------------------------------------------------- what is installed


def test_an_installed_plugin_is_found_with_owner_and_version(all_allowed: Site) -> None:
    all_allowed.put("t-snake", "0.3")
    entry = registry().get("activation", "snake")
    assert str(entry.owner) == "t-snake 0.3"
    assert entry.options == ["frequency"]
    assert registry().get("activation", "relu").owner.distribution == "autoreg-core"


def test_plugins_are_loaded_once_and_in_order(all_allowed: Site) -> None:
    source = SNAKE + "\n    import builtins\n    builtins.loaded = getattr(builtins, 'loaded', []) + [__name__]\n"
    for name in ("t-b", "t-a", "t-c"):
        all_allowed.put(name, source=source.replace('"snake"', f'"{name}"'))
    registry(), registry()
    try:
        assert builtins.loaded == ["t_a", "t_b", "t_c"]  # type: ignore[attr-defined]
    finally:
        del builtins.loaded  # type: ignore[attr-defined]
    assert load_plugins() is load_plugins()


def test_one_load_serves_all_threads(all_allowed: Site) -> None:
    all_allowed.put("t-snake", source="import time\ntime.sleep(0.2)\n" + SNAKE.replace("\n    ", "\n"))
    found = []
    threads = [threading.Thread(target=lambda: found.append(load_plugins())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({id(plugins) for plugins in found}) == 1


def test_a_clash_fails_when_the_name_is_asked_for(all_allowed: Site) -> None:
    all_allowed.put("t-snake", "0.3")
    all_allowed.put("t-serpent", "2.0")
    registered = registry()
    assert registered.get("activation", "relu").name == "relu"
    with pytest.raises(DuplicateNameError) as caught:
        registered.get("activation", "snake")
    assert str(caught.value) == (
        "activation 'snake' is offered by t-serpent 2.0 and t-snake 0.3: uninstall one of them, or name those to load "
        "in AUTOREG_PLUGINS"
    )


def test_one_at_fault_leaves_the_others(all_allowed: Site) -> None:
    all_allowed.put("t-broken", source="import no_such_package")
    all_allowed.put("t-exits", source="import sys\nsys.exit(3)")
    all_allowed.put("t-missing", missing="t_no_such_module")
    all_allowed.put("t-attribute", attribute="t_attribute:nothing")
    all_allowed.put("t-snake")
    with pytest.warns(PluginLoadWarning) as told:
        registered = registry()
    assert registered.get("activation", "snake").name == "snake"
    texts = sorted(str(warning.message) for warning in told)
    assert len(texts) == len(load_plugins().problems) == 4
    assert "plugin 'broken' (t-broken 1.0) is left out: ModuleNotFoundError: No module named 'no_such_package'" in texts
    assert "plugin 'exits' (t-exits 1.0) is left out: SystemExit: 3" in texts


def test_damaged_metadata_of_another_distribution_does_no_harm(all_allowed: Site) -> None:
    all_allowed.put("t-snake")
    (all_allowed.put("t-damaged").parent / "t_damaged-1.0.dist-info" / "entry_points.txt").write_bytes(
        b"\xff[autoreg\n="
    )
    assert registry().get("activation", "snake").name == "snake"


def test_a_plugin_that_looks_names_up_while_it_is_imported_is_told(all_allowed: Site) -> None:
    all_allowed.put("t-early", source="from autoreg.plugins import registry\nregistry().names('loss')")
    with pytest.warns(PluginLoadWarning, match="ask for names when they are used, not at import"):
        assert "relu" in registry().names("activation")


def test_the_environment_limits_plugins_and_switches_them_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("autoreg-one", source=SNAKE.replace('"snake"', '"one"'))
    site.put("autoreg-two", source=SNAKE.replace('"snake"', '"two"'))

    def others(allowed: str) -> list[str]:
        monkeypatch.setenv("AUTOREG_PLUGINS", allowed)
        load_plugins.cache_clear()
        return sorted({*registry().names("activation")} & {"one", "two"})

    assert others("") == []
    assert others("Autoreg_One") == ["one"]
    assert others(" autoreg-two , autoreg-one,") == ["one", "two"]
    assert "relu" in registry().names("activation")
    with pytest.warns(PluginLoadWarning, match=r"AUTOREG_PLUGINS: no plugin 'autoreg-tow'; did you mean 'autoreg-two'"):
        assert others("autoreg-two,autoreg-tow") == ["two"]
    monkeypatch.delenv("AUTOREG_PLUGINS")
    assert {"autoreg-one", "autoreg-two"} <= {point.dist.name for point in installed() if point.dist}


# ---------------------------------------------------------------- every hook


REGISTER = {
    "register_activations": "activation",
    "register_losses": "loss",
    "register_optimizers": "optimizer",
    "register_networks": "network",
    "register_encodings": "encoding",
    "register_strategies": "strategy",
    "register_companions": "companion",
}
OBSERVERS = ("search_started", "rung_finished", "search_finished", "search_failed")


def test_every_hook_is_one_of_these() -> None:
    assert set(HOOKS) == {*REGISTER, *OBSERVERS}
    assert set(REGISTER.values()) == set(KINDS)


@pytest.mark.parametrize("hook", REGISTER)
def test_what_a_hook_registers_is_found_under_its_kind(hook: str) -> None:
    plugins = Plugins()
    plugins.add(module(**{hook: lambda register: register("mine", abs)}), Owner("p", "d", "1"))
    assert plugins.problems == []
    assert plugins.registry.get(REGISTER[hook], "mine").thing is abs
    assert plugins.offers(Owner("p", "d", "1")).keys() == {REGISTER[hook]}


@pytest.mark.parametrize("hook", OBSERVERS)
def test_an_observer_is_kept_and_may_take_fewer_arguments(hook: str) -> None:
    called = []
    plugins = Plugins()
    plugins.add(module(**{hook: lambda: called.append(hook)}), Owner("p", "d", "1"))
    assert plugins.problems == []
    assert plugins.offers(Owner("p", "d", "1")) == {"observer": {hook: []}}
    arguments = dict.fromkeys(inspect.signature(getattr(hookspecs, hook)).parameters)
    getattr(plugins.manager.hook, hook)(**arguments)
    assert called == [hook]


# ---------------------------------------------------------------- a file


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    plugins = Plugins()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.py").write_text(WATCHER.replace("\n    ", "\n"))
    plugins.add_file(str(tmp_path / "a" / "x.py"))
    with pytest.raises(PluginError, match="has the same name; rename one of them"):
        plugins.add_file(str(tmp_path / "b" / "x.py"))


def test_a_file_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    source = "from autoreg import hookimpl\n@hookimpl\ndef register_losses(register): register('{}', abs)"
    plugins = Plugins()
    file.write_text(source.format("one"))
    plugins.add_file(str(file))
    file.write_text(source.format("other"))
    plugins.add_file(str(file))
    assert plugins.registry.names("loss") == ["other"]
    assert [str(owner) for owner in plugins.owners] == ["mine.py"]
    file.write_text("1 / 0")
    with pytest.raises(PluginError, match=r"mine.py': ZeroDivisionError: division by zero"):
        plugins.add_file(str(file))
    assert plugins.registry.names("loss") == []


# ---------------------------------------------------------------- slow ones, and what is told


@pytest.mark.parametrize("where", ["import", "hook"])
def test_what_takes_long_is_named_and_goes_on(
    where: str, all_allowed: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = threading.Event()
    write = sys.stderr.write
    monkeypatch.setattr(sys.stderr, "write", lambda text: (write(text), told.set())[0])
    monkeypatch.setattr(metadata, "PATIENCE", 0.01)
    monkeypatch.setattr(builtins, "wait_until_told", lambda: told.wait(60), raising=False)
    source = SNAKE.replace("        register(", "        wait_until_told()\n        register(")
    all_allowed.put("t-slow", source=source if where == "hook" else SNAKE + "\n    wait_until_told()\n")
    assert registry().get("activation", "snake").name == "snake"
    assert told.is_set()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Still loading plugin 'slow' (t-slow 1.0) after 0.01 seconds; Ctrl-C ends it")


def test_an_import_that_hangs_is_named_and_ctrl_c_ends_it(site: Site) -> None:
    site.put("autoreg-hangs", "0.1", source="import time\ntime.sleep(1000)")
    program = "from autoreg import installed, __main__; installed.PATIENCE = 0.1; __main__.main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "plugins", "list", "--load"],
        env=site.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert process.stderr.readline().startswith("Still loading plugin 'hangs' (autoreg-hangs 0.1) after ")
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert rest == "Interrupted.\n"


def test_a_trace_shows_each_call(
    all_allowed: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOREG_TRACE_PLUGINS", "1")
    all_allowed.put("t-snake")
    failing = "from autoreg import hookimpl\n@hookimpl\ndef register_losses(register): raise ValueError('no loss')"
    all_allowed.put("t-fails", source=failing)
    all_allowed.put("t-watch", source=WATCHER)
    with pytest.warns(PluginLoadWarning):
        plugins = load_plugins()
    plugins.manager.hook.search_finished(results=3, model="x" * 100)
    lines = capsys.readouterr().err.splitlines()
    ours = [line for line in lines if "autoreg: snake" in line or "t-" in line]
    assert ours[0] == "autoreg: fails (t-fails 1.0): import t_fails"
    assert "autoreg: snake (t-snake 1.0): import t_snake" in ours
    place = lines.index("autoreg: snake: register_activations(register)")
    assert lines[place + 1] == "autoreg:   activation 'snake'"
    place = lines.index("autoreg: fails: register_losses(register)")
    assert lines[place + 1] == "autoreg:   raised ValueError: no loss"
    assert "autoreg: watch: search_finished(results=3, model=<str>)" in lines


def test_no_trace_unless_it_is_wanted(all_allowed: Site, capsys: pytest.CaptureFixture[str]) -> None:
    all_allowed.put("t-snake")
    registry()
    assert capsys.readouterr().err == ""


def test_a_plugin_may_print_and_results_stay_clean(site: Site) -> None:
    site.put("autoreg-chatty", source=SNAKE + "\n    print('look at me')\n")
    done = site.run("plugins", "list", "--load", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert rows[-1]["offers"] == {"activation": ["snake"]}
    assert "look at me" in done.stderr


def test_debugging_shows_where(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AUTOREG_DEBUG", "1")
    fault("from autoreg import hookimpl\n@hookimpl\ndef register_losses(register): 1 / 0")
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert "register_losses" in shown


def test_importing_autoreg_loads_no_plugin(site: Site) -> None:
    site.put("autoreg-snake", source="raise SystemExit('loaded')")
    assert site.run(program="import autoreg; print(autoreg.AutoRegressor)").stderr == ""
    assert autoreg.__version__


def test_an_unknown_name_names_the_nearest(all_allowed: Site) -> None:
    all_allowed.put("t-snake")
    with pytest.raises(UnknownNameError, match=r"no activation 'snak'; did you mean 'snake'\?"):
        registry().get("activation", "snak")
