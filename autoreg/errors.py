"""What can go wrong, as one tree.

::

    AutoregError
      + PluginError
          - UnknownNameError    no such activation, loss, optimizer, ...   (also LookupError)
          - DuplicateNameError  two plugins offer one name
          - ContractError       a plugin's part broke its documented shape
      + DataError               the table cannot be used as it is          (also ValueError)
          - SchemaError         columns differ from those the model was fitted on
          - DataTypeError       cells or a table of a type that has no use here (also TypeError)
      + OptionError             an option has no such value                (also ValueError)
      + SearchError             every candidate failed
      + ModelFileError          not ours, damaged, too new, or unsafe      (also ValueError)

    PluginLoadWarning           one plugin could not be loaded; the others were
    ObserverWarning             a plugin that observes failed; the fit went on
    DataWarning                 a table was mended or read with a guess
    JournalWarning              a search goes on without its journal
    PluginVersionWarning        a model was made with another version of a plugin

Every message is one line with the value, the rule and the way out.
"""

from difflib import get_close_matches
from typing import Any


class AutoregError(Exception):
    """Base of all errors that a user of autoreg can mend."""


class PluginError(AutoregError):
    """A plugin, or a name that a plugin should have offered, is at fault."""


class UnknownNameError(PluginError, LookupError):
    """No plugin offers the name."""


class DuplicateNameError(PluginError):
    """Two plugins offer the same name."""


class ContractError(PluginError):
    """A part that a plugin offers does not do what its hook's page says."""


class DataError(AutoregError, ValueError):
    """The table or the target cannot be used as it is."""


class SchemaError(DataError):
    """The columns differ from those the model was fitted on."""


class DataTypeError(DataError, TypeError):
    """A table, or a cell in it, is of a type that cannot be used."""


class OptionError(AutoregError, ValueError):
    """An option has a value that it cannot have."""


class SearchError(AutoregError):
    """The search ended without one usable candidate."""


class ModelFileError(AutoregError, ValueError):
    """The file is not a model of ours, or is damaged, too new or unsafe."""


class PluginLoadWarning(UserWarning):
    """A plugin could not be loaded; the others were."""


class ObserverWarning(UserWarning):
    """A plugin that observes a search failed; the fit went on."""


class DataWarning(UserWarning):
    """A table was read with a guess, or something in it was mended."""


class JournalWarning(UserWarning):
    """The disk takes no more of a search's journal; the search goes on."""


class PluginVersionWarning(UserWarning):
    """A model was made with another version of a plugin than the installed one."""


def unknown(kind: str, name: object, known: list[str] | tuple[str, ...]) -> str:
    """Say that a name is not known, with the nearest and all known ones.

    Examples
    --------
    >>> unknown("activation", "snak", ["relu", "snake"])
    "no activation 'snak'; did you mean 'snake'? known: relu, snake"
    """
    near = get_close_matches(str(name), list(known), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    return f"no {kind} '{name}'{hint} known: {', '.join(sorted(known))}"


def check_option(good: bool, kind: str, name: str, value: Any, rule: str) -> None:
    """Refuse a value of a part's option.

    >>> check_option(False, "loss", "delta", -1, "above 0")
    Traceback (most recent call last):
        ...
    autoreg.errors.OptionError: loss option delta=-1: give a number above 0
    """
    if not good:
        raise OptionError(f"{kind} option {name}={value!r}: give a number {rule}")


def printable(text: str) -> str:
    """A text in which what would command a terminal is written out.

    >>> printable("no \\x1b[31mred")
    'no \\\\x1b[31mred'
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def one_line(error: BaseException) -> str:
    """An error of a stranger's code as one line that a terminal can show.

    Examples
    --------
    >>> one_line(ValueError("first\\nsecond")), one_line(KeyboardInterrupt())
    ('ValueError: first', 'KeyboardInterrupt')
    >>> one_line(PluginError("our own say all that there is to say"))
    'our own say all that there is to say'
    >>> one_line(ImportError("no \\x1b[31mred"))
    'ImportError: no \\\\x1b[31mred'
    """
    try:
        text = str(error)
    except Exception:  # it may not even be able to say what it is
        text = ""
    line = printable((text.strip().splitlines() or [""])[0][:500])
    if line and isinstance(error, AutoregError):
        return line
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def named_line(error: BaseException) -> str:
    """An error as one line with its class, ours too.

    >>> named_line(PluginError("no")), named_line(ValueError("no"))
    ('PluginError: no', 'ValueError: no')
    """
    kind = f"{type(error).__name__}: "
    return kind + one_line(error).removeprefix(kind)
