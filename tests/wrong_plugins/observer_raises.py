"""An observer that fails at the end of every search."""

from autoreg import hookimpl


@hookimpl
def search_finished(results, model):
    raise ConnectionError("no route to host")
