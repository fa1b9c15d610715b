"""Backbones: one file a family, each with its spec. Every family here can be named in an experiment."""

from importlib import import_module
from pkgutil import iter_modules

from calot.models.backbones.vjepa2 import VJEPA2

for _module in iter_modules(__path__, prefix=f"{__name__}."):
    import_module(_module.name)

#: What an experiment has unless it says otherwise.
DEFAULT = VJEPA2()
