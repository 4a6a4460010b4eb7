"""Numbers against targets, as Markdown.

The one idea: a target is data (what is compared, with which bound), so that the table says
"reached" or "missed" without anybody's judgement.
"""

from .common import median
from .scenarios import FLOOR

PRODUCT_LIST = "product list"
WRITES = {
    "price": "price write",
    "partners": "100 partners created",
    "order": "sales order of 5 lines confirmed",
}
READ_COLUMNS = ("plain_ms", "miss_ms", "hit_ms", "plain/hit", "hit/floor", "miss/plain")


def judge(results):
    """Compare with the targets of the project's issue 2.

    :param dict results: what the parts measured, by name of the part
    :return list: dicts with what, target, measured, reached
    """
    targets = []

    def add(what, sign, bound, measured):
        if measured is not None:
            reached = measured >= bound if sign == "≥" else measured <= bound
            targets.append(
                {
                    "what": what,
                    "target": f"{sign} {bound}",
                    "measured": measured,
                    "reached": reached,
                }
            )

    http = results.get("http", {})
    inside = results.get("inprocess", {})
    page, inner = http.get(PRODUCT_LIST, {}), inside.get(PRODUCT_LIST, {})
    add("product list over HTTP: plain / hit", "≥", 8, page.get("plain/hit"))
    add("product list over HTTP: hit / emptiest RPC", "≤", 1.5, page.get("hit/floor"))
    add("product list in process: hit / (SELECT 1 + decode)", "≤", 2, inner.get("hit/floor"))
    add("SQL queries on a hit", "≤", 1, inner.get("queries", {}).get("hit"))
    for name, rows in (("over HTTP", http), ("in process", inside)):
        add(f"miss / plain {name}, median of the scenarios", "≤", 1.05, miss_ratio(rows))
    for name, row in results.get("writes", {}).items():
        add(f"{WRITES[name]}: addon / plain", "≤", 1.05, row["ratio"])
    memory = results.get("memory")
    if memory:
        grown = round(memory["addon_mb"] - memory["plain_mb"], 1)
        what = f"MB more than plain after {memory['reads']:,} different reads"
        add(what, "≤", 100, grown)
    return targets


def miss_ratio(rows):
    """:return float | None: median over the scenarios, the floor aside."""
    ratios = [row["miss/plain"] for name, row in scenarios_of(rows) if name != FLOOR]
    return round(median(ratios), 3) if ratios else None


def scenarios_of(rows):
    """The rows that are scenarios, not statistics."""
    return [(name, row) for name, row in rows.items() if row and "plain_ms" in row]


def as_markdown(results):
    """:return str: a table per part and the targets."""
    lines = [f"Measured {results['machine']['date']}, {results['machine']['cores']} cores"]
    for part, title in (("http", "Over HTTP"), ("inprocess", "In process")):
        if part in results:
            lines += ["", f"### {title}", "", *_reads_table(results[part])]
    if "writes" in results:
        lines += ["", "### Writes", "", *_writes_table(results["writes"])]
    if "memory" in results:
        lines += ["", "### Memory", "", *_memory_table(results["memory"])]
    lines += ["", "### Targets", "", *_targets_table(results["targets"])]
    return "\n".join(lines)


def _table(header, rows):
    cells = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return ["| " + " | ".join(map(_cell, row)) + " |" for row in cells]


def _cell(value):
    if isinstance(value, float):
        return f"{value:.2f}"
    return "" if value is None else str(value)


def _reads_table(rows):
    header = ["", "plain ms", "miss ms", "hit ms", "plain / hit", "hit / floor", "miss / plain"]
    counted = any("queries" in row for _name, row in scenarios_of(rows))
    if counted:
        header += ["SQL plain", "SQL hit"]
    table = []
    for name, row in scenarios_of(rows):
        cells = [name, *(row.get(column) for column in READ_COLUMNS)]
        if counted:
            cells += [row["queries"]["plain"], row["queries"]["hit"]]
        table.append(cells)
    return _table(header, table)


def _writes_table(rows):
    header = ["", "plain ms", "addon ms", "addon / plain", "pairs", "relations", "unguarded"]
    return _table(
        header,
        [
            [
                WRITES[name],
                row["plain_ms"],
                row["addon_ms"],
                row["ratio"],
                row["pairs"],
                row["relations"],
                len(row["unguarded"]),
            ]
            for name, row in rows.items()
        ],
    )


def _memory_table(row):
    header = ["MB resident", "at the start", f"after {row['reads']:,} different reads"]
    return _table(
        header, [[name, row[f"{name}_start_mb"], row[f"{name}_mb"]] for name in ("plain", "addon")]
    )


def _targets_table(targets):
    return _table(
        ["", "target", "measured", ""],
        [
            [
                one["what"],
                one["target"],
                f"{one['measured']:g}",  # a rounded 1.05 would look like one that is reached
                "reached" if one["reached"] else "MISSED",
            ]
            for one in targets
        ],
    )
