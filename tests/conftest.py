"""Shape annotations are checked while the tests run, where the training packages are installed."""

import importlib.util
import os

pytest_plugins = ["fixtures"]  # tests/helpers, which `pythonpath` in pyproject.toml puts in reach

os.environ.setdefault("HF_HUB_OFFLINE", "1")

if importlib.util.find_spec("torch") and importlib.util.find_spec("jaxtyping"):
    from jaxtyping import install_import_hook

    install_import_hook(
        ["calot.types", "calot.models", "calot.train.losses", "calot.train.supervision"], "beartype.beartype"
    )
