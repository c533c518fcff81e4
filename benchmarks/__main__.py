"""Compare ckptstore with what people would use instead.

    python -m benchmarks [--quick] [--only TEXT] [--results FILE] [--no-docs] [--list]

Prints a table for each comparison and keeps every figure as JSON. A full run also writes docs/performance.md and its
picture, from the JSON alone: comparisons that were left out keep their earlier figures.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from benchmarks import comparisons, plot, report

_HERE = Path(__file__).parent
_DOCS = _HERE.parent / "docs"


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two minutes: 64 MiB, three rounds, no docs")
    parser.add_argument("--only", default="", metavar="TEXT", help="comparisons whose name holds this")
    parser.add_argument("--rounds", type=int, help="instead of each comparison's own number")
    parser.add_argument("--results", type=Path, default=_HERE / "results.json", metavar="FILE")
    parser.add_argument("--no-docs", action="store_true", help="leave docs/ as it is")
    parser.add_argument(
        "--list", action="store_true", help="print what would be run and how long it took, measure nothing"
    )
    given = parser.parse_args()
    wanted = comparisons.chosen(comparisons.QUICK if given.quick else comparisons.FULL, given.only)
    results = report.load_results(given.results) if not given.quick else {"comparisons": []}
    print(*report.plan(wanted, results), sep="\n")
    if given.list or not wanted:
        return
    print(*(f"{name}: {value}" for name, value in report.machine().items()), sep="\n")
    for number, comparison in enumerate(wanted, 1):
        _measure(comparison, f"[{number}/{len(wanted)}]", results, given.rounds)
        if not given.quick:
            report.keep(given.results, results)
    if not given.quick and not given.no_docs:
        plot.draw(results, _DOCS / "performance.png")
        (_DOCS / "performance.md").write_text(report.performance_page(results))


def _measure(comparison: comparisons.Comparison, mark: str, results: dict, rounds: int | None) -> None:
    if rounds is not None:
        comparison = comparisons.with_rounds(comparison, rounds)
    load, began = os.getloadavg()[0], time.perf_counter()
    print(f"\n{mark} {comparison.title}, {comparison.rounds} rounds, load {load:.1f}", flush=True)
    record = report.as_record(comparison, comparisons.measure(comparison), load, report.machine())
    record["took_s"] = round(time.perf_counter() - began)
    others = [other for other in results["comparisons"] if other["name"] != comparison.name]
    order = [other.name for other in comparisons.FULL]
    results["comparisons"] = sorted(
        [*others, record], key=lambda other: order.index(other["name"]) if other["name"] in order else -1
    )
    print("\n".join(report.table(record)))
    print(f"took {record['took_s']} s", flush=True)


if __name__ == "__main__":
    main()
