"""The table of ``proof/growth`` in docs/reliability.md, made from the results.

The one idea: numbers in the documentation are written by the program that measured them, between
two markers, so that they cannot be those of another run.
"""

START, END = "<!-- growth:start -->", "<!-- growth:end -->"
TITLES = {
    "journal": "rows in the journal, all counted before",
    "relations": "guarded tables",
    "l1": "entries in L1",
    "l2": "entries in Redis (L2)",
    "l3": "entries in the database (L3)",
    "workers": "worker processes",
    "long-writer": "writes beside one open transaction",
}
KINDS = ("hit", "hit after a write", "write")


def as_markdown(results):
    """:return str: a table of ratios and one of milliseconds"""
    lines = [
        "| what grows | from | to | hit | hit after a write | write |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    grown = []
    for name, rows in groups(results["parts"]):
        first, last = rows[0], rows[-1]
        cells = [ratio(last["flat"].get(kind)) for kind in KINDS]
        ends = f"{first['x']:,} | {last['x']:,}"
        lines.append(f"| {TITLES[name]} | {ends} | {' | '.join(cells)} |")
        grown += linear_rows(name, rows)
    lines += ["", "Cost at the right end in relation to the left one, with its 95 % interval."]
    lines += ["", "| outside of hits and writes | from | to | ms | ms |", "|---|--:|--:|--:|--:|"]
    lines += grown
    if compaction := results["parts"].get("compaction"):
        lines += ["", sentence(compaction)]
    return "\n".join([*lines, "", measured_on(results["parts"])])


def groups(parts):
    """:return list: (name, steps), the tiers of ``entries`` as groups of their own"""
    found = [(name, part["steps"]) for name, part in parts.items() if part.get("steps")]
    if "entries" in parts:
        found += [(tier, parts["entries"][tier]) for tier in ("l1", "l2", "l3")]
    return sorted(found, key=lambda item: list(TITLES).index(item[0]))


def ratio(one):
    return f"{one['ratio']:.2f} ({one['low']:.2f}–{one['high']:.2f})" if one else ""


def linear_rows(name, rows):
    """:return list: a line for all that may grow, from its first step to its last"""
    lines = []
    for what in dict.fromkeys(what for row in rows for what in row["linear"]):
        points = [(row["x"], row["linear"][what]) for row in rows if what in row["linear"]]
        (least, start_ms), (most, end_ms) = points[0], points[-1]
        title = f"{TITLES[name]}: {what}"
        lines.append(f"| {title} | {least:,} | {most:,} | {start_ms:,.1f} | {end_ms:,.1f} |")
    return lines


def sentence(compaction):
    """What ten minutes of writes did to the journal."""
    bound, hits = compaction["bound"], compaction["hits"]
    return (
        f"{compaction['writes']:,} writes in {compaction['seconds']} s"
        f" ({compaction['rate']:,.0f} per second): at most {compaction['max_rows']:,} rows"
        f" (bound {bound['rows']:,}) and {compaction['max_mb']:.1f} MB (bound {bound['mb']:.1f} MB)"
        f" after {compaction['compactions']} compactions. Of {hits['asked']:,} reads meanwhile"
        f" {hits['hit']:,} were hits, median {hits['median_ms']:.2f} ms."
    )


def measured_on(parts):
    machines = [part["machine"] for part in parts.values() if "machine" in part]
    newest = max(machines, key=lambda machine: machine["date"])
    load = max(machine["load"][0] for machine in machines)
    return (
        f"Measured {newest['date']}, {newest['cores']} cores, PostgreSQL {newest['postgresql']},"
        f" load average up to {load}."
    )


def write_into(path, results):
    """Replace what stands between the markers of a page.

    :return bool: whether the page has them
    """
    before, start, rest = path.read_text(encoding="utf-8").partition(START)
    _old, end, after = rest.partition(END)
    if not end:
        return False
    path.write_text(f"{before}{start}\n{as_markdown(results)}\n{end}{after}", encoding="utf-8")
    return True
