"""One training loop and its parts."""

import sys

from calot import CommandPackage

sys.modules[__name__].__class__ = CommandPackage  # `calot.train(...)`, whoever imported this package before
