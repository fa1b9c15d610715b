"""Backbones: one file per family, each with its spec. Every family here can be named in an experiment."""

from importlib import import_module
from pkgutil import iter_modules

from calot.config.holding import component_classes
from calot.models.backbones.protocol import BackboneSpec
from calot.models.backbones.vjepa2 import VJEPA2

for _module in iter_modules(__path__, prefix=f"{__name__}."):
    import_module(_module.name)

#: The default of an experiment.
DEFAULT = VJEPA2()


def families() -> tuple[type[BackboneSpec], ...]:
    """Every family there is, a user's own among them; the default one first."""
    known = dict.fromkeys([type(DEFAULT), *component_classes(BackboneSpec)])
    return tuple(cls for cls in known if issubclass(cls, BackboneSpec))
