"""Shape annotations are checked while the tests run, where the training packages are installed; property tests search
as CALOT_HYPOTHESIS says (`properties.py`)."""

import importlib.util
import os
import secrets
import signal
import tempfile
import time

import pytest

pytest_plugins = ["shared_fixtures"]  # tests/helpers, which `pythonpath` in pyproject.toml puts in reach

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["CALOT_STATE"] = tempfile.mkdtemp(prefix="calot-state-")  # what fixtures of a session record


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test counts openings of test, and equal predictions, for itself."""
    monkeypatch.setenv("CALOT_STATE", str(tmp_path_factory.mktemp("state")))


if importlib.util.find_spec("torch") and importlib.util.find_spec("jaxtyping"):
    from jaxtyping import install_import_hook

    install_import_hook(
        ["calot.types", "calot.models", "calot.train.losses", "calot.train.attention_losses"], "shape_checks.checked"
    )

HYPOTHESIS = importlib.util.find_spec("hypothesis") is not None


# A shell starts what runs in its background with SIGINT ignored, and `nohup` SIGHUP: tests send both to themselves.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


@pytest.hookimpl(tryfirst=True)  # before hypothesis's own, which reads these options
def pytest_configure(config: pytest.Config) -> None:
    if not HYPOTHESIS:
        return
    import properties

    properties.register()
    option = config.option
    option.hypothesis_profile = option.hypothesis_profile or os.environ.get("CALOT_HYPOTHESIS") or "ci"
    if option.hypothesis_profile not in properties.PROFILES:
        raise pytest.UsageError(f"CALOT_HYPOTHESIS={option.hypothesis_profile!r}: one of {[*properties.PROFILES]}")
    if option.hypothesis_profile != "ci" and option.hypothesis_seed is None:
        option.hypothesis_seed = str(secrets.randbelow(2**32))


def pytest_sessionstart(session: pytest.Session) -> None:
    """The seed at the start, so that a run which hangs can be repeated, too; workers of xdist have no reporter."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if HYPOTHESIS and reporter and session.config.option.hypothesis_profile != "ci":
        reporter.write_line(f"random examples; again with: --hypothesis-seed={session.config.option.hypothesis_seed}")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.property)


NO_TIME = "no time left: CALOT_TESTS_UNTIL has passed"


@pytest.hookimpl(tryfirst=True)  # before fixtures are made
def pytest_runtest_setup(item: pytest.Item) -> None:
    """On a slow machine a test begins only before `CALOT_TESTS_UNTIL`, seconds since 1970, so that CI ends in time."""
    if time.time() > float(os.environ.get("CALOT_TESTS_UNTIL", "inf")):
        pytest.skip(NO_TIME)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what did not run for want of time, file by file."""
    late = [r.nodeid for r in terminalreporter.getreports("skipped") if NO_TIME in str(r.longrepr)]
    if late:
        files = [name.partition("::")[0] for name in late]
        counts = ", ".join(f"{name} ({files.count(name)})" for name in dict.fromkeys(files))
        terminalreporter.section(f"{len(late)} tests NOT RUN: {NO_TIME}")
        terminalreporter.write_line(counts)
