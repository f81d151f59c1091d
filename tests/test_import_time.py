"""What a light command must not pay for: torch, scikit-learn, pandas and plugins are imported when used."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "sklearn", "pandas", "scipy"}

PRINT_MODULES = "import json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"

COMMAND = """
import sys
from autoreg.__main__ import main
sys.argv = ["autoreg", *{arguments!r}]
try:
    main()
except SystemExit as exit:
    assert not exit.code, exit.code
"""


def modules_after(program: str) -> set[str]:
    command = [sys.executable, "-W", "error", "-c", f"{program}\n{PRINT_MODULES}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def assert_light(modules: set[str]) -> None:
    assert not HEAVY & modules
    assert not {name for name in modules if name.startswith("autoreg.builtins")}


def test_import_autoreg_is_light() -> None:
    assert_light(modules_after("import autoreg"))


def test_listing_the_public_names_is_light() -> None:
    assert_light(modules_after("import autoreg; assert 'AutoRegressor' in dir(autoreg)"))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["fit", "--help"], ["predict", "--help"]])
def test_command_is_light(arguments: list[str]) -> None:
    assert_light(modules_after(COMMAND.format(arguments=arguments)))
