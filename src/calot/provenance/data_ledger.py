"""What happened to one data set, counted once wherever results go: test openings and equal predictions.

The user's own state folder holds a ledger per manifest; the results root and the data set's `.calot` hold copies where
they can be written. Each line has an id, so that their union counts it once, and each reader completes the state's.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calot.errors import CalotError
from calot.provenance import ledger
from calot.provenance.ledger import PREDICTED, TEST_OPENED, Entry
from calot.provenance.twins import alike
from calot.state import STATE, state_folder
from calot.statistics.schema import UNKNOWN


@dataclass(frozen=True, kw_only=True)
class DataLedger:
    """The ledger of the data set with this manifest; `data` and `results` are the folders that may hold copies."""

    manifest_hash: str
    data: Path | None = None
    results: Path | None = None

    @property
    def known(self) -> bool:
        """Whether there is a manifest to count by: another group's table does not name one."""
        return self.manifest_hash != UNKNOWN

    @property
    def _home(self) -> Path:
        return state_folder() / "data" / "".join(c for c in self.manifest_hash if c.isalnum())[:32]

    def record(self, event: str, **facts: Any) -> Entry:
        """Append one line to the results root, and to the other places where they can be written.

        Raises CalotError where the results root refuses it, or where no place takes it.
        """
        entry = ledger.make_entry(event, manifest_hash=self.manifest_hash, id=uuid.uuid4().hex, **facts)
        if self.results is not None:
            ledger.append(self.results, entry)
        others = [self._home, *([self.data / ".calot"] if self.data is not None and event == TEST_OPENED else [])]
        refused = []
        for folder in others:
            try:
                ledger.append(folder, entry)
            except (OSError, CalotError) as error:
                refused.append(str(error))
        if self.results is None and len(refused) == len(others):
            raise CalotError(f"{event} cannot be recorded: {refused[0]} Set {STATE} to a folder that can be written.")
        return entry

    def entries(self) -> tuple[Entry, ...]:
        """Every line about this data set, oldest first, each once; what the user's own ledger lacked is added to it."""
        own = {_key(entry): entry for entry in ledger.read(self._home)}
        found = dict(own)
        for folder in (self.results, None if self.data is None else self.data / ".calot"):
            for entry in () if folder is None else ledger.read(folder):
                if entry.facts.get("manifest_hash") == self.manifest_hash:
                    found.setdefault(_key(entry), entry)
        for key, entry in found.items():
            if key not in own:
                self._adopt(entry)
        return tuple(sorted(found.values(), key=lambda entry: entry.time))

    def _adopt(self, entry: Entry) -> None:
        try:
            ledger.append(self._home, entry)
        except (OSError, CalotError):
            return  # a state folder that cannot be written: the copies hold the line

    def test_openings(self) -> int:
        """How often the test frames of this data set were opened for scoring."""
        return sum(entry.event == TEST_OPENED for entry in self.entries())

    def twins(
        self, found: Mapping[str, Any], *, fingerprint: str, split: str, code: str | None = None
    ) -> tuple[Twin, ...]:
        """Recorded predictions of a split under another fingerprint that are like those of this sketch: such a result
        is INVALID.

        Under another version of calot's code a fingerprint may differ for the same treatment: such lines do not count.
        """
        others = (
            entry
            for entry in self.entries()
            if entry.event == PREDICTED
            and entry.facts.get("split", split) == split
            and entry.facts.get("fingerprint") != fingerprint
            and (code is None or entry.facts.get("code") in (None, code))
        )
        pairs = ((entry, alike(found, entry.facts)) for entry in others)
        return tuple(Twin(entry=entry, alike=how) for entry, how in pairs if how is not None)


@dataclass(frozen=True, kw_only=True)
class Twin:
    """Predictions of another treatment that are the same, and in what."""

    entry: Entry
    alike: str

    def __str__(self) -> str:
        return f"{self.entry.facts.get('run')}: {self.alike}"


def _key(entry: Entry) -> str:
    """The line's id; a line of calot 0.1 has none and is identified by its whole content."""
    return str(entry.facts.get("id") or json.dumps([entry.event, entry.time, entry.facts], sort_keys=True))
