"""How property tests search: the same examples every time (`ci`), or new ones from a printed seed, as many
(`seeded`) or many more (`random`).

No clock decides in either: a slow machine is no failure. `conftest.py` loads one of them.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

#: `ci` tries the same examples every time; `random` (`make fuzz`) keeps those that failed in `.hypothesis/`.
PROFILES = {"ci": 100, "seeded": 100, "random": 2000}


def register() -> None:
    """Make them known to hypothesis; where it has a `ci` of its own, this one takes its place."""
    _draw_no_constants_of_ours()
    clock = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
    settings.register_profile("ci", max_examples=PROFILES["ci"], derandomize=True, database=None, **clock)
    # `derandomize` is said here because hypothesis sets it itself where the variable CI is set
    for name in ("seeded", "random"):
        settings.register_profile(name, max_examples=PROFILES[name], derandomize=False, **clock)


def _draw_no_constants_of_ours() -> None:
    """Hypothesis draws constants of the modules of ours that are imported by then, which depends on the tests before.

    It has no setting for this (6.170), so the place where it collects them is emptied.
    """
    if hasattr(providers, "_get_local_constants"):
        nothing = providers._local_constants
        providers._get_local_constants = lambda: nothing


def searched(examples: int, *allowed: HealthCheck) -> settings:
    """In place of `@settings`: so many examples under `ci`, in proportion more under `random`."""
    count = examples * settings.default.max_examples // PROFILES["ci"]
    return settings(max_examples=count, suppress_health_check=[HealthCheck.too_slow, *allowed])
