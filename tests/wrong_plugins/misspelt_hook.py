"""A hook that does not exist: one letter is missing."""

from autoreg import hookimpl


@hookimpl
def register_activation(register):
    register("misspelt", abs)
