"""A thing that is no function."""

from autoreg import hookimpl


@hookimpl
def register_losses(register):
    register("registers_a_number", 3)
