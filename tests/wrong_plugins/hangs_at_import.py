"""A plugin that waits for an answer that does not come."""

import time

from autoreg import hookimpl

time.sleep(3600)


@hookimpl
def register_activations(register):
    register("hangs_at_import", abs)
