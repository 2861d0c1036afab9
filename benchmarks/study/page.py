"""The tables of docs/what_helps.md."""

from typing import Any

from benchmarks.study.cells import ROOT, STRATA, cells, finished

PAGE = ROOT / "docs" / "what_helps.md"


def write_tables() -> None:
    """Replaces the tables between the markers of the page."""
    text = PAGE.read_text(encoding="utf-8")
    found = {(cell["stratum"], cell["row"]): cell for cell in finished()}
    for stratum in STRATA:
        begin, end = f"<!-- {stratum} -->\n", f"<!-- end of {stratum} -->"
        table = "\n".join(_table(stratum, found))
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{table}\n\n{end}{rest.partition(end)[2]}"
    PAGE.write_text(text, encoding="utf-8")


def _table(stratum: str, found: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    rows = [
        "| Row | Return: IQM | Mean [95 % t interval] | Success | Seeds | Seconds a seed |",
        "|---|---|---|---|---|---|",
    ]
    for cell in cells(stratum):
        result = found.get((stratum, cell.row))
        rows.append(f"| {cell.row} | not run | | | | |" if result is None else _row(result))
    return rows


def _row(result: dict[str, Any]) -> str:
    seeds = result["seeds"]
    low, high = result["interval"]
    successes = [seed["success"] for seed in seeds if "success" in seed]
    success = f"{sum(successes) / len(successes):.2f}" if successes else ""
    seconds = sum(seed["trial_seconds"] for seed in seeds) / len(seeds)
    mean = f"{result['mean']:.3g} [{low:.3g}, {high:.3g}]"
    return (
        f"| {result['row']} | {result['iqm']:.3g} | {mean} | {success} | {len(seeds)} | "
        f"{seconds:.0f} |"
    )
