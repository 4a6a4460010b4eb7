"""The table of faults in docs/reliability.md, from the results of ``proof/faults``."""

from bench.common import ROOT

PAGE = ROOT / "docs" / "reliability.md"
START, END = "<!-- faults:start -->", "<!-- faults:end -->"
COLUMNS = (
    "fault",
    "lasted",
    "answers checked",
    "wrong",
    "failed",
    "plain Odoo failed",
    "hits before",
    "hits again after",
    "added: worst read, then",
)
HEADER = f"\n| {' | '.join(COLUMNS)} |\n|---{'|--:' * (len(COLUMNS) - 1)}|\n"


def write(results):
    """Put the table where the page wants it.

    :param dict results: as in ``results/faults.json``
    """
    page = PAGE.read_text(encoding="utf-8")
    before, _start, rest = page.partition(START)
    after = rest.partition(END)[2]
    table = HEADER + "".join(f"{row}\n" for row in map(_row, results.values()))
    PAGE.write_text(f"{before}{START}{table}{END}{after}", encoding="utf-8")


def _row(result):
    load, latency = result.get("with"), result.get("latency")
    cells = [f"{result['layer']}: {result['title']}"]
    cells.append(f"{result['seconds']:.0f} s" if load else "")
    cells += _load(load, result.get("plain")) if load else ["", "", "", "", "", ""]
    cells.append(f"{latency['once']} ms, {latency['then']} ms" if latency else "")
    return f"| {' | '.join(cells)} |"


def _load(load, plain):
    checked, recovery_s = load["checked"], load["recovery_s"]
    return [
        f"{checked['reads']:,} reads, {checked['writes']:,} writes",
        str(load["wrong"]),
        str(load["failures"]),
        str(plain["failures"]) if plain else "",
        f"{load['hit_share']:.0%}",
        "over 60 s" if recovery_s is None else f"≤ {max(recovery_s, 0) + 6} s",
    ]
