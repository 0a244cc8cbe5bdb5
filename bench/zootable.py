"""The table of the zoo, the failures with their causes, and the summary, from the records.

Knows nothing of how records come about.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

import table
from journal import Record

PEER = "torch-pruning"
LIVE = "live"
LAST_EXPORTER = "legacy"
EXPORTED = "exported"
EXPORT_FAILED = "export failed"
NOT_RUN = "not run"
PRUNED = ("ok", "ok, no exact group", "approximate")

HEADER = (
    "model",
    "from ",
    "groups",
    "exact",
    "covered",
    "Mparams",
    "after",
    "error",
    "ms",
    "status ",
    "torch-pruning ",
    "after",
    "s",
)


def failed(record: Record) -> bool:
    return record["status"] not in (*PRUNED, EXPORTED)


def is_bad(record: Record) -> bool:
    """A failure of ours: not an exporter's, not the runtime's, and not torch-pruning's."""
    others = (EXPORT_FAILED, NOT_RUN)
    return record["side"] != PEER and failed(record) and record["status"] not in others


def render(records: list[Record], *, markdown: bool) -> str:
    """Everything there is to say, as text or as Markdown."""
    peers = {record["model"]: record for record in records if record["side"] == PEER}
    ours = [record for record in records if record["side"] != PEER]
    layout = table.markdown if markdown else table.text
    rows = [row(record, peers.get(record["model"])) for record in ours]
    parts = [layout(HEADER, rows)] if rows else []
    for title, found in (("Failures", ours), ("Failures of torch-pruning", peers.values())):
        parts += listing(title, found, layout)
    parts += [summary(ours), peer_summary(list(peers.values()))]
    return "\n\n".join(part for part in parts if part)


def row(record: Record, peer: Record | None) -> list[str]:
    return [record["model"], record["side"], *_our_cells(record), *_peer_cells(peer)]


def _our_cells(record: Record) -> list[str]:
    if "coverage" not in record:
        return [*["-"] * 7, record["status"]]
    before, after = (record[when]["parameters"] for when in ("before", "after"))
    return [
        str(record["groups"]),
        str(record["exact_groups"]),
        f"{record['coverage']:.1%}",
        f"{before / 1e6:.2f}",
        f"{after / before:.0%}",
        f"{record['error']:.0e}" if record["exact_groups"] else "-",
        f"{record['milliseconds']:.0f}",
        record["status"],
    ]


def _peer_cells(record: Record | None) -> list[str]:
    if record is None:
        return ["-"] * 3
    share = "-"
    if "after" in record:
        share = f"{record['after']['parameters'] / record['before']['parameters']:.0%}"
    seconds = f"{record['seconds']:.2f}" if "seconds" in record else "-"
    return [record["status"], share, seconds]


def listing(title: str, records: Iterable[Record], layout: table.Layout) -> list[str]:
    bad = [record for record in records if failed(record)]
    if not bad:
        return []
    cells = [[r["model"], r["side"], r["status"], r.get("cause", "")] for r in bad]
    return [f"{title}:", layout(("model", "from ", "status ", "cause "), cells)]


def summary(records: list[Record]) -> str:
    """Ours, of the files that exported."""
    if not records:
        return ""
    files = [record for record in records if record["status"] != EXPORT_FAILED]
    runnable = [record for record in files if record["status"] != NOT_RUN]
    good = [record for record in runnable if record["status"] in PRUNED]
    covered = [record["coverage"] for record in runnable if "coverage" in record]
    lines = [
        f"Exported: {_share(files, records)} of {_models(records)} models; "
        f"ONNX Runtime runs {_share(runnable, files)}.",
        f"Secateur, pruned, runs, and exact where it says exact: {_share(good, runnable)}; "
        f"{_counted(runnable)}.",
    ]
    if covered:
        low = sum(share < 0.97 for share in covered)
        times = [record["milliseconds"] for record in runnable if "milliseconds" in record]
        lines.append(
            f"Covered parameters: median {median(covered):.1%}, lowest {min(covered):.1%}, "
            f"below 97 % in {low} files. Median time of a run: {median(times):.0f} ms."
        )
    return "\n".join(lines)


def peer_summary(records: list[Record]) -> str:
    if not records:
        return ""
    good = [record for record in records if record["status"] == "ok"]
    seconds = [record["seconds"] for record in records if "seconds" in record]
    lines = [
        "torch-pruning, pruned, runs, and agrees with its mask: "
        f"{_share(good, records)}; {_counted(records)}."
    ]
    if seconds:
        lines.append(f"Median CPU time of construction and step: {median(seconds):.2f} s.")
    return "\n".join(lines)


def _counted(records: Sequence[Record]) -> str:
    counts = Counter(record["status"] for record in records)
    counts.setdefault("wrong", 0)
    return ", ".join(f"{status}: {count}" for status, count in counts.most_common())


def _share(part: Sequence[Record], whole: Sequence[Record]) -> str:
    percent = f" ({len(part) / len(whole):.1%})" if whole else ""
    return f"{len(part)} of {len(whole)}{percent}"


def _models(records: Iterable[Record]) -> int:
    return len({record["model"] for record in records})
