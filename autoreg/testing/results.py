"""What a check found, and how several of them become an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

PAGE = "reference/testing.md"
"""Where the documentation says what each check asks for."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    part : str
        Of what, such as ``activation snake``.
    name : str
        What was looked at, such as ``gradient``.
    status : {"passed", "failed", "reported"}
        What is reported is worth knowing and no fault.
    detail : str
        Of a failure: what was expected, what came, and where to read.

    Examples
    --------
    >>> print(Check("activation snake", "speed", "reported", "1.8 times as long as relu"))
    reported  speed: 1.8 times as long as relu
    """

    part: str
    name: str
    status: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.status:<8}  {self.name}" + (f": {self.detail}" if self.detail else "")


class ConformanceError(AssertionError):
    """A part does not do what its hook asks for; the text lists all that is wrong with it.

    Attributes
    ----------
    checks : list of Check
        All that was looked at.
    """

    def __init__(self, checks: Sequence[Check]) -> None:
        self.checks = list(checks)
        failed = [check for check in checks if check.status == "failed"]
        title = f"{failed[0].part}: {len(failed)} of {len(checks)} checks failed" if failed else "nothing failed"
        super().__init__("\n".join([title, *(f"  {check.name}: {check.detail}" for check in failed)]))


class Fault(Exception):
    """Raised by a check: what was expected, and what came instead."""

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected {expected}; came {came}")


class Report(str):
    """Returned by a check: worth knowing, and no fault."""


Look = Callable[[], "Report | str | None"]
"""A check: raises `Fault`, or returns what is worth saying."""


def look(part: str, anchor: str, looks: Sequence[tuple[str, Look]], first: int = 1) -> list[Check]:
    """Run checks in order.

    Parameters
    ----------
    part : str
    anchor : str
        The heading of the page where the checks are explained.
    looks : sequence of (name, function)
    first : int
        So many are what the others build on: when one of them fails, it is the last.

    Examples
    --------
    >>> def wrong():
    ...     raise Fault("a number", "a string")
    >>> [str(check) for check in look("loss mine", "losses", [("shape", lambda: None), ("value", wrong)])]
    ['passed    shape', 'failed    value: expected a number; came a string; see reference/testing.md#losses']
    """
    checks: list[Check] = []
    for name, function in looks:
        try:
            found = function()
        except Fault as fault:
            checks.append(Check(part, name, "failed", f"{fault}; see {PAGE}#{anchor}"))
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything
            came = f"expected no error; came {told(error)}; see {PAGE}#{anchor}"
            checks.append(Check(part, name, "failed", came))
        else:
            checks.append(Check(part, name, "reported" if isinstance(found, Report) else "passed", found or ""))
        if len(checks) <= first and checks[-1].status == "failed":
            break
    return checks


def told(error: BaseException) -> str:
    """An error in one line.

    >>> told(ValueError("no"))
    'ValueError: no'
    """
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def concluded(checks: list[Check], raises: bool) -> list[Check]:
    """The checks, or `ConformanceError` when one failed and that is wanted."""
    if raises and any(check.status == "failed" for check in checks):
        raise ConformanceError(checks)
    return checks
