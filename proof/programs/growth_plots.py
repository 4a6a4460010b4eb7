"""Plots of ``proof/growth`` for the documentation, as SVG.

The one idea: one picture per part.  Left what must be flat, as a ratio with its interval and a
line at 1; right, where there is any, what grows by its nature, in milliseconds.

What may go wrong: matplotlib is missing.  It is no dependency of the addon, so ``load`` puts it
into the environment that runs this program.
"""

import importlib.util
import subprocess
import sys

COLOURS = ("#714B67", "#017E84", "#E46E78", "#5C80BC", "#A67C00", "#444444")
MARKS = "osD^vP"


def load():
    """:return: ``matplotlib.pyplot``, installed with pip if it is missing"""
    if importlib.util.find_spec("matplotlib") is None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--quiet", "matplotlib"]
        subprocess.run(command, check=True)
        importlib.invalidate_caches()
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {
            # the same numbers give the same file; text stays text, which is smaller
            "svg.hashsalt": "growth",
            "svg.fonttype": "none",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "lines.markersize": 4,
        }
    )
    import matplotlib.pyplot as plt

    return plt


def draw(results, folder):
    """Write ``growth-<part>.svg`` for every part that was measured.

    :return list: names of the files
    """
    plt = load()
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, result in results["parts"].items():
        if name == "compaction":
            figure = draw_compaction(plt, result)
        elif name == "entries":
            figure = draw_entries(plt, result)
        else:
            figure = draw_steps(plt, result)
        path = folder / f"growth-{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        # matplotlib leaves spaces at the ends of lines
        lines = path.read_text().splitlines()
        path.write_text("".join(f"{line.rstrip()}\n" for line in lines))
        names.append(path.name)
    return names


def draw_steps(plt, result):
    rows = result["steps"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    flat(left, rows, result["quantity"])
    if not linear(right, {"": rows}, result["quantity"]):
        extras(right, rows, result["quantity"])
    return figure


def flat(axes, rows, quantity, label=""):
    """Ratios with their intervals."""
    for name in rows[0]["flat"]:
        points = [row["flat"][name] for row in rows]
        ratios = [point["ratio"] for point in points]
        below = [max(point["ratio"] - point["low"], 0) for point in points]
        above = [max(point["high"] - point["ratio"], 0) for point in points]
        index = len(axes.containers)
        axes.errorbar(
            [row["x"] for row in rows],
            ratios,
            (below, above),
            label=f"{name}{label}",
            color=COLOURS[index % len(COLOURS)],
            marker=MARKS[index % len(MARKS)],
            capsize=2,
            linewidth=1.2,
        )
    axes.axhline(1, color="black", linewidth=0.8, linestyle="--")
    axes.set(xscale="log", xlabel=quantity, ylabel="cost / cost of the smallest", ylim=(0, 2))
    axes.set_title("What must be flat", fontsize=10, loc="left")
    axes.legend(frameon=False, loc="lower left")


def linear(axes, groups, quantity):
    """Milliseconds of what grows by its nature; :return bool: whether there is any."""
    number = 0
    for label, rows in groups.items():
        names = dict.fromkeys(name for row in rows for name in row["linear"])
        for name in names:
            points = [(row["x"], row["linear"].get(name)) for row in rows]
            points = [(x, y) for x, y in points if y]
            axes.plot(
                *zip(*points, strict=True),
                label=f"{label}{name}",
                color=COLOURS[number % len(COLOURS)],
                marker=MARKS[number % len(MARKS)],
                linewidth=1.2,
            )
            number += 1
    if number:
        axes.set(xscale="log", yscale="log", xlabel=quantity, ylabel="milliseconds")
        axes.set_title("What may grow: not in every hit", fontsize=10, loc="left")
        axes.legend(frameon=False, loc="upper left", fontsize=8)
        axes.set_ylim(top=axes.get_ylim()[1] * 30)
    return bool(number)


def extras(axes, rows, quantity):
    """Counts of the part about workers."""
    names = {
        "looks_per_write": "looks at the journal per write,\nif each worker reads once after it",
        "connections": "connections to PostgreSQL",
        "idle_transactions_per_s": "transactions per second while idle",
    }
    for number, (key, label) in enumerate(names.items()):
        points = [(row["x"], row[key]) for row in rows if key in row]
        axes.plot(
            *zip(*points, strict=True),
            label=label,
            color=COLOURS[number],
            marker=MARKS[number],
            linewidth=1.2,
        )
    axes.set(xscale="log", yscale="log", xlabel=quantity, ylabel="count")
    axes.set_title("All workers together", fontsize=10, loc="left")
    axes.legend(frameon=False, loc="upper left", fontsize=8)
    axes.set_ylim(top=axes.get_ylim()[1] * 10)


def draw_entries(plt, result):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name in ("l1", "l2", "l3"):
        flat(left, result[name], result["quantity"], f", {name.upper()}")
    linear(right, {"L3: ": result["l3"]}, result["quantity"])
    return figure


def draw_compaction(plt, result):
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    seconds = [one["s"] for one in result["series"]]
    for axis, key, title, unit in (
        (axes[0], "rows", "Rows in the journal", "rows"),
        (axes[1], "mb", "On disk, with indexes and dead rows", "MB"),
    ):
        values = [one[key] for one in result["series"]]
        axis.plot(seconds, values, color=COLOURS[0], linewidth=1)
        bound = result["bound"][key]
        axis.axhline(bound, color=COLOURS[2], linestyle="--", linewidth=1)
        axis.annotate(f"bound: {bound:,}", (0, bound), (2, -11), textcoords="offset points")
        axis.set(xlabel="seconds", ylabel=unit, ylim=(0, bound * 1.1))
        axis.set_title(title, fontsize=10, loc="left")
    figure.suptitle(
        f"{result['rate']:,.0f} writes per second for {result['seconds']} s", fontsize=10
    )
    return figure
