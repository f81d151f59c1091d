"""A plugin that ends the process when it is imported, without a word."""

import os

os._exit(3)
