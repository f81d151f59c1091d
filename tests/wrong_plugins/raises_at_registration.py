"""A plugin that fails when it is asked what it offers."""

from autoreg import hookimpl


@hookimpl
def register_activations(register):
    raise KeyError("colours")
