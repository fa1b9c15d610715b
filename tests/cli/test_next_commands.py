"""Every command that calot prints as the next one runs as it is printed, in folders whose names need quoting too."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from command_line import Done, calot

#: A training of seconds where a printed command would take minutes.
QUICK = ("--no-receipt", "train.epochs=1", "train.batch=8", "compute.train_subset=8")


def printed(done: Done) -> list[tuple[str, ...]]:
    """The words of each command that was printed as the next one."""
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^Next: (.*)$", done.stdout, re.M)
    found = [tuple(shlex.split(line)) for line in lines]
    assert all(words[0] == "calot" for words in found), lines
    return [words[1:] for words in found]


def followed(done: Done, *, cwd: Path, data: Path) -> list[str]:
    """Run what was printed, and what that prints, until nothing new comes; the commands in their order."""
    open_ones, seen = printed(done), []
    while open_ones:
        words = open_ones.pop(0)
        if words in seen:
            continue
        seen.append(words)
        run = [str(data) if word == "ROOT" else word for word in words]
        if run[0] == "train":
            run += [q for q in QUICK if q not in run]
        open_ones += printed(calot(*run, cwd=cwd))
    return [" ".join(word for word in words[:2] if "/" not in word and word[0] != "-") for words in seen]


@pytest.fixture(scope="module")
def home(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with `my data`, a phantom, and two runs of different experiments below `my runs`."""
    home = tmp_path_factory.mktemp("next")
    shutil.copytree(phantom, home / "my data")
    names = ("e02_frozen_probe", "e03_focal")
    given = ("--data", "my data", "--scale", "tiny", "--seeds", "7", "--out", "my runs")
    done = calot("train", *names, *QUICK, *given, cwd=home)
    assert printed(done) == [("compare", "my runs/e02_frozen_probe/s7", "my runs/e03_focal/s7")]
    return home


@pytest.mark.long
@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("data stats DATA", ["data store", "train e02_frozen_probe", "report"]),
        ("data verify DATA", ["data stats", "data store", "train e02_frozen_probe"]),
        ("experiments list", ["experiments show", "train e02_frozen_probe"]),
        ("train e02_frozen_probe --data DATA --scale tiny --dry-run", ["train e02_frozen_probe"]),
        ("compare RUN OTHER", ["report"]),
        ("metrics RUN/predictions/val.parquet", ["report"]),
        ("evaluate RUN --split val", ["report"]),
        ("predict RUN --split val --out p.parquet --data DATA", ["metrics p.parquet"]),
        ("predict RUN --split val --tta flip --data DATA", ["metrics", "report"]),
        ("ensemble RUN OTHER --out made", ["metrics", "report made"]),
        ("doctor --data DATA", ["train e02_frozen_probe"]),
        ("report RUN", []),
    ],
)
def test_what_is_printed_runs(home: Path, tmp_path: Path, first: str, then: list[str]) -> None:
    runs = home / "my runs"
    places = {"DATA": home / "my data", "RUN": runs / "e02_frozen_probe/s7", "OTHER": runs / "e03_focal/s7"}
    words = [re.sub("|".join(places), lambda found: str(places[found[0]]), word) for word in first.split()]
    ran = followed(calot(*words, cwd=tmp_path), cwd=tmp_path, data=home / "my data")
    assert ran[: len(then)] == then


def test_nothing_that_is_printed_opens_the_test_split() -> None:
    """The test split is opened last and by intent."""
    sources = (Path(__file__).parents[2] / "src" / "calot" / "cli").glob("*.py")
    said = [line for path in sources for line in path.read_text().splitlines() if "say_next(" in line]
    assert said
    assert not [line for line in said if '"test"' in line]
