"""Make the golden values anew; see README.md for when. Files whose values are still held are left as they are.

python tests/golden/regenerate.py            every experiment, and the fingerprints
python tests/golden/regenerate.py NAME ...   these alone
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import comparing
import steps

from calot.experiments import names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="shipped experiments; all of them where none is named")
    wanted = parser.parse_args().names or names()
    with tempfile.TemporaryDirectory() as scratch:
        phantom = steps.make_phantom(Path(scratch) / "phantom")
        for name in wanted:
            _regenerate(name, phantom=phantom)
    for path in comparing.RECORDED.glob("*.json"):
        if path.stem not in names():
            path.unlink()
            print(f"{path.stem}: gone")
    comparing.write(comparing.FINGERPRINTS, {"fingerprints": {name: steps.fingerprint(name) for name in names()}})


def _regenerate(name: str, *, phantom: Path) -> None:
    path, found = comparing.RECORDED / f"{name}.json", steps.record(name, phantom=phantom)
    problems = comparing.differences(comparing.load(name), found) if path.exists() else ["new"]
    if problems:
        comparing.write(path, {"made_with": steps.made_with(), **found})
    print(f"{name}: {problems[0] if problems else 'as it was'}", flush=True)


if __name__ == "__main__":
    main()
