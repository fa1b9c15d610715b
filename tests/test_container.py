"""The container file cannot be built here; it is read instead: files, stages, arguments and user must fit."""

import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8")


def _instructions(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in whole.splitlines()]


def _faults(text: str, *, root: Path = ROOT) -> list[str]:
    """What could not work, one line each."""
    found: list[str] = []
    stages: list[str] = []
    known, given, user, entry = set[str](), set[str](), "root", ""
    ignored = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name, rest in _instructions(text):
        used = set(re.findall(r"\$\{(\w+)\}", rest)) - {"PATH"}
        found += [
            f"{name} {rest}: {u} is no argument of this stage"
            for u in sorted(used - known - (given if not stages or name == "FROM" else set()))
        ]
        words = shlex.split(rest)
        if name == "ARG":
            (known if stages else given).add(rest.split("=")[0])
        elif name == "FROM":
            stages.append(words[-1])
            known, user = set(), "root"
            found += [f"FROM {rest}: not IMAGE AS NAME"] * (len(words) != 3 or words[1] != "AS")
        elif name == "COPY" and words[0].startswith("--from="):
            found += [f"COPY {rest}: no earlier stage"] * (words[0][7:] not in stages[:-1])
        elif name == "COPY":
            for source in words[:-1]:
                found += [f"COPY {source}: is not there"] * (not (root / source).exists())
                seen = any(line[:1] == "!" and fnmatch(source, line[1:]) for line in ignored)
                found += [f"COPY {source}: .dockerignore hides it"] * (not seen)
        elif name == "USER":
            user = rest
        elif name == "ENTRYPOINT":
            entry = rest
    scripts = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    found += ["it runs as root"] * (user in ("root", "0"))
    found += [f"ENTRYPOINT {entry}: no command of this package"] * (entry not in [f'["{name}"]' for name in scripts])
    found += [f"an address: {one}" for one in re.findall(r"\w+://\S+", text)]
    return found


def test_the_container_file_fits_this_tree() -> None:
    assert _faults(TEXT) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("COPY src src", "COPY source source", "COPY source: is not there"),
        ("COPY src src", "COPY src docs src/", "COPY docs: .dockerignore hides it"),
        ("ARG DEVICE=cpu", "", "DEVICE is no argument of this stage"),
        ("--from=build", "--from=builder", "no earlier stage"),
        ("USER calot", "", "it runs as root"),
        ("USER calot\n", "USER calot\nUSER root\n", "it runs as root"),
        ('ENTRYPOINT ["calot"]', 'ENTRYPOINT ["calott"]', "no command of this package"),
        ("ARG PIP_EXTRA_INDEX_URL=\n", "ARG PIP_EXTRA_INDEX_URL=https://mirror.example/simple\n", "an address"),
        ("AS run", "", "not IMAGE AS NAME"),
    ],
)
def test_what_could_not_be_built_is_found(old: str, new: str, said: str) -> None:
    assert old in TEXT
    assert any(said in fault for fault in _faults(TEXT.replace(old, new, 1)))


def test_each_device_has_its_pins_and_each_argument_its_line_in_the_docs() -> None:
    page = (ROOT / "docs" / "container.md").read_text(encoding="utf-8")
    arguments = dict(rest.partition("=")[::2] for name, rest in _instructions(TEXT) if name == "ARG")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", page, re.M))
    assert {name: value.strip("`").replace("empty", "") for name, value in rows.items()} == arguments
    assert {path.stem for path in (ROOT / "requirements").glob("*.txt")} >= {"cpu", "cuda"}
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert lowest == f">={arguments['PYTHON']}"
