"""Does each planted no-op get caught, and does no honest run raise an alarm? The table of both, as Markdown.

    python -m planted.table --out docs/results/receipts.md     (with src, tests/helpers and tests/receipts on the path)

Everything is really run: the checks before training, and two epochs where only training can show a fault. What was
found is kept beside the page as it goes, so that a stopped table continues. About an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from calot.errors import CalotError
from calot.phantom import PhantomSpec, generate
from planted.catching import DURING, checks_after, checks_before, failed, request_of
from planted.clean import clean
from planted.plants import PLANTS

SPEC = PhantomSpec(videos=9, seed=3, mean_frames=45.0, min_frames=30, max_frames=60)


def caught(number: int, phantom: Path) -> dict[str, object]:
    """One plant: which check failed, and why."""
    torch.set_num_threads(1)
    plant, start = PLANTS[number], time.process_time()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        plant.put(patch)
        where = {"phantom": phantom, "folder": Path(folder) / "run"}
        if plant.check in DURING:
            found = failed(checks_after(plant.experiment, plant.changes, **where))
        else:
            found = failed(checks_before(request_of(plant.experiment, plant.changes, **where), only=plant.check))
    why = found.get(plant.check.removesuffix(" (after training)"), "")
    return {"caught": plant.says in why, "why": why, "cpu": time.process_time() - start}


def alarms(number: int, phantom: Path) -> dict[str, object]:
    """One honest run: the checks that failed, of all but the ledger and the controls."""
    torch.set_num_threads(1)
    (name, changes), start = clean()[number], time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        try:
            before = checks_before(request_of(name, changes, phantom=phantom, folder=Path(folder) / "before"))
            after = checks_after(name, changes, phantom=phantom, folder=Path(folder) / "run")
        except (CalotError, ValueError) as error:  # an honest run that is refused is an alarm
            return {"alarms": {"refused": str(error)}, "cpu": time.process_time() - start}
    return {"alarms": failed(before) | failed(after), "cpu": time.process_time() - start}


def page(kept: dict[str, dict[str, object]], *, date: str) -> str:
    """Both tables."""
    plants = [(p, kept.get(f"plant {p.name}")) for p in PLANTS]
    honest = [(c, kept.get(f"clean {_named(*c)}")) for c in clean()]
    hits = sum(bool(f and f["caught"]) for _, f in plants)
    quiet = sum(f is not None and not f["alarms"] for _, f in honest)
    lines = [
        "# Planted no-ops and honest runs",
        "",
        f"`python -m planted.table`, {date}: {hits} of {len(PLANTS)} planted faults caught by name; "
        f"{quiet} of {len(honest)} honest runs without an alarm ({sum(f is not None for _, f in honest)} run).",
        "",
        "| family | planted | in | caught by | what it said |",
        "|---|---|---|---|---|",
    ]
    for p, f in plants:
        verdict = "not run" if f is None else p.check if f["caught"] else "**not caught**"
        said = "" if f is None else str(f["why"]).replace("|", "/")[:160]
        lines.append(f"| {p.family} | {p.name} | {' '.join((p.experiment, *p.changes))} | {verdict} | {said} |")
    lines += ["", "| honest run | alarms |", "|---|---|"]
    for c, f in honest:
        said = "not run" if f is None else "none"
        if f is not None and isinstance(f["alarms"], dict) and f["alarms"]:
            said = "; ".join(f"**{name}**: {why}" for name, why in f["alarms"].items())
        lines.append(f"| {_named(*c)} | {said} |")
    return "\n".join(lines) + "\n"


def _named(name: str, changes: tuple[str, ...]) -> str:
    return " ".join((name, *changes))


def main() -> None:
    """Run what is missing, two at a time, and write the page after each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("docs/results/receipts.md"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="plant or clean")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "calot-planted")
    given = parser.parse_args()
    phantom, record = given.work / "phantom", given.work / "found.json"
    if not (phantom / "phantom.json").exists():
        generate(phantom, SPEC, workers=1)
    kept = json.loads(record.read_text()) if record.exists() else {}
    todo = [(f"plant {p.name}", caught, i) for i, p in enumerate(PLANTS)]
    todo += [(f"clean {_named(*c)}", alarms, i) for i, c in enumerate(clean())]
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        asked = {
            pool.submit(make, number, phantom): name
            for name, make, number in todo
            if name not in kept and name.startswith(given.only)
        }
        for done in as_completed(asked):
            if done.exception() is not None:
                pool.shutdown(cancel_futures=True)
            kept[asked[done]] = done.result()
            record.write_text(json.dumps(kept))
            given.out.write_text(page(kept, date=time.strftime("%Y-%m-%d")))
            print(asked[done], {k: v for k, v in kept[asked[done]].items() if k != "why"}, flush=True)


if __name__ == "__main__":
    main()
