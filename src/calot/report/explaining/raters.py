"""The raters on the page: how often each says yes, against the others, and who departs from all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calot.criteria import CRITERIA, label
from calot.report.explaining.section import Block, Section, SectionView
from calot.report.tables import Row, Table, columns, number, percent, ranged
from calot.report.verdict import Reason, spoken_list
from calot.statistics.findings import Findings
from calot.statistics.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class RaterSection(Section):
    """Who says yes more or less often than every other rater."""

    name: str = "raters"
    title: str = "Raters"

    def view(self, found: Findings) -> SectionView:
        facts = found.facts
        text = (
            f"{facts['keyframes']:,} keyframes of {facts['videos']} videos that every rater saw. A rater is named "
            "where the share of yes differs from that of each other rater in the same direction: with three raters, "
            "one rater’s bias moves the other two away from the mean as well. p: sign flips over videos, the largest "
            "over the other raters, after Holm’s correction over raters."
        )
        rows = [_row(one) for one in facts["departures"]]
        heads = columns(
            "rater", "criterion", "yes", "others", "difference, points", "p, Holm", "", text=("criterion", "")
        )
        table = Table(title="How often each rater says yes", columns=heads, rows=rows)
        named = facts["named"]
        lead = f"Rater {spoken_list(named)}" if named else "Raters."
        reasons = [Reason(f"Rater {rater}", f"{facts['says'][rater]}.") for rater in named]
        if not named:
            reasons = [Reason(lead, "None is shown to say yes more, or less, often than every other one.")]
        said = [Block(text=f"Rater {rater} {words}.") for rater, words in facts["says"].items()]
        return SectionView(reasons=reasons, blocks=[Block(text=text, table=table), *said])


def _row(one: Mapping[str, Any]) -> Row:
    between = one["difference"]
    interval = Interval(value=between["value"], low=between["low"], high=between["high"], reason=between.get("reason"))
    return Row(
        cells=(
            one["rater"],
            label(one["criterion"]) if one["criterion"] in CRITERIA else one["criterion"],
            percent(one["share"]),
            percent(one["others"]),
            ranged(interval, digits=1, scale=100.0),
            number(one["p_holm"], digits=4),
            "departs" if one["departs"] else "",
        ),
        strong=one["departs"],
    )


SECTION = RaterSection()
