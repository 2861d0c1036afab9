"""The table of docs/zoo.md."""

from typing import Any

from benchmarks.zoo.entries import ENTRIES, ROOT, finished

PAGE = ROOT / "docs" / "zoo.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->"
_HEAD = (
    "| Policy | Settings | Env steps | Seeds | Return: IQM [95 % interval] | Success | Exported: "
    "seed, return | Minutes a seed |"
)


def write_table() -> None:
    """Replaces the table between the markers of the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    table = "\n".join(rows())
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def rows() -> list[str]:
    """The lines of the table."""
    found = {f"{one['algorithm']}/{one['env']}": one for one in finished()}
    lines = [_HEAD, "|---|---|---|---|---|---|---|---|"]
    for entry in ENTRIES:
        result = found.get(entry.name)
        if result is None:
            lines.append(f"| `zoo/{entry.name}`: not run | {entry.source} | | | | | | |")
        else:
            lines.append(_row(result))
    return lines


def _row(result: dict[str, Any]) -> str:
    seeds = result["seeds"]
    low, high = result["interval"]
    success = [seed["success"] for seed in seeds if "success" in seed]
    (exported,) = (seed for seed in seeds if seed["seed"] == result["exported_seed"])
    minutes = sum(seed["trial_seconds"] for seed in seeds) / len(seeds) / 60
    cells = [
        f"`zoo/{result['algorithm']}/{result['env']}`",
        result["settings"],
        f"{result['env_steps']:,}",
        str(len(seeds)),
        f"{result['iqm']:.4g} [{low:.4g}, {high:.4g}]",
        f"{sum(success) / len(success):.2f}" if success else "",
        f"{exported['seed']}, {exported['return']:.4g}",
        f"{minutes:.1f}",
    ]
    return f"| {' | '.join(cells)} |"
