#!/usr/bin/env python3
"""The crawl: open everything that can be opened, and believe no answer.

For every window action of a database: views, lists, kanbans, forms, groupings, pivots,
search panels; for every model: counts, name searches, reads.  Each call is made several
times in a row against a server that caches everything and audits every hit
(``TIERED_CACHE_AUDIT_RATE=1``), and once against a server without the cache.

The one idea: three independent judges.  The repeated answers must be equal, they must equal
those of plain Odoo, and the auditor inside the server (which compares types too, in the same
snapshot) must have found no difference.  A call whose answer plain Odoo itself changes from
one time to the next is counted as unstable, an error that plain Odoo raises too as an error.

What may go wrong: a slow machine.  The important calls of every action come first, and what
the time box left out is counted in the report.

    bench/crawl.py --database demo
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import sys
import threading
import time
import zlib
from pathlib import Path

if not __package__:  # started as a file: make the package known, as PEP 366 has it
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = "bench"

from .common import Rpc, RpcError, Server  # noqa: E402
from .crawl_calls import Call, grouping_calls, main_calls, model_calls  # noqa: E402

# Written out, not imported from services.policy: if a method were dropped there, this notices.
METHODS = (
    "search_read", "web_search_read", "read", "web_read", "search_count", "name_search",
    "web_name_search", "read_group", "formatted_read_group", "formatted_read_grouping_sets",
    "web_read_group", "read_progress_bar", "search_panel_select_range",
    "search_panel_select_multi_range", "get_views", "fields_get",
)  # fmt: skip
ACTION_FIELDS = ["name", "res_model", "views", "domain", "context", "search_view_id"]
# Every hit is audited, nothing is too cheap to be cached, counters arrive quickly.
ADDON_ENV = {
    "TIERED_CACHE_ENABLED": "1",
    "TIERED_CACHE_AUDIT_RATE": "1",
    "TIERED_CACHE_L1_MIN_COST_MS": "0",
    "TIERED_CACHE_L2_MIN_COST_MS": "0",
    "TIERED_CACHE_L3_MIN_COST_MS": "0",
    "TIERED_CACHE_METRICS_FLUSH_S": "1",
}
PLAIN_ENV = {"TIERED_CACHE_ENABLED": "0"}
# Odoo fills archs (of sale.order, account.move) and ids (website.technical.page) from sets of
# strings: two servers answer the same only if their strings hash the same.
COMMON_ENV = {"PYTHONHASHSEED": "0"}
CLOCK_TICK_S = 1.2  # longer than the second that computed dates are rounded to
# What these show depends on the HTTP session: they are visited in a second one as well.
SESSION_MODELS = ("res.device", "res.users", "res.users.identitycheck")
RICH_MODELS = ("sale.order", "stock.warehouse.orderpoint", "account.account")
RARE_CALLS, RARE_ROUNDS = 8, 5
OWN_MODELS = "cache."  # their content changes while the crawl runs, and is never cached
SETTLE_TIMEOUT_S = 30
SHOWN_CHARS = 500
HITS = ("l1", "l2", "l3")


@dataclasses.dataclass(frozen=True)
class Seat:
    """One user in front of both servers.

    :param Rpc addon: a logged-in session on the caching server
    :param Rpc plain: the same session on a server without the cache, or None
    :param bool narrow: visits SESSION_MODELS only
    """

    addon: Rpc
    plain: Rpc = None
    narrow: bool = False

    def clone(self):
        """The same user for another thread."""
        return Seat(self.addon.clone(), self.plain and self.plain.clone(), self.narrow)


class Crawler:
    """Sends calls, compares answers, keeps count.

    :param list seats: a :class:`Seat` per user
    :param int repeats: how often the caching server is asked
    :param float deadline: ``time.monotonic()`` when no new job may start
    :param float overtime_s: that jobs of kind "main" have beyond it
    """

    def __init__(self, seats, *, repeats=3, deadline=float("inf"), overtime_s=0):
        self.seats = seats
        self.examples = collections.defaultdict(list)
        self.repeats = repeats
        # A slow machine shall leave out what is less important, and open every action.
        self.deadlines = deadline, deadline + overtime_s
        self.lock = threading.Lock()
        self.answers = {}
        self.calls = collections.Counter()
        self.errors = []
        self.unstable = []
        self.differences = []
        self.skipped = collections.Counter()

    def run(self, jobs, threads):
        """Run jobs in parallel threads.

        :param jobs: triples of kind (a word), index of a seat, generator of calls
        """
        queue = collections.deque(jobs)
        failures = []
        crew = [
            threading.Thread(
                target=self._work, args=(queue, [seat.clone() for seat in self.seats], failures)
            )
            for _ in range(threads)
        ]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        if failures:
            raise failures[0]

    def _work(self, queue, seats, failures):
        try:
            while not failures:
                kind, index, job = queue.popleft()
                if time.monotonic() > self.deadlines[kind == "main"]:
                    self.skipped[kind] += 1
                else:
                    self._drive(job, seats[index])
        except IndexError:
            pass  # the queue is empty
        except Exception as error:  # carried over to the thread that waits in run()
            failures.append(error)

    def _drive(self, job, seat):
        answer = None
        with contextlib.suppress(StopIteration):
            while True:
                answer = self._visit(job.send(answer), seat)

    def _visit(self, call, seat):
        key = (seat.addon.cookie, call.key)
        with self.lock:
            known = self.answers.get(key)
        if known is None:
            body, answer = self._examine(call, seat)
            with self.lock:
                self.answers[key] = zlib.compress(body, 1)
                self.calls[call.method] += 1
            return answer
        return json.loads(zlib.decompress(known)).get("result")

    def ask_rare_methods_again(self):
        """Methods that few views call: their tables may just have become guarded, so three
        calls in a row need not have been enough for a hit."""
        for examples in self.examples.values():
            if len(examples) < RARE_CALLS:
                for _again in range(RARE_ROUNDS):
                    time.sleep(0.2)
                    for call, seat in examples:
                        self._examine(call, seat)

    def _examine(self, call, seat):
        self._remember(call, seat)
        bodies = [_ask(seat.addon, call) for _ in range(self.repeats)]
        if not call.model.startswith(OWN_MODELS):
            self._compare(call, seat, bodies)
        answer = json.loads(bodies[0])
        if "error" in answer:
            self._report(self.errors, call, seat, bodies[0])
        return bodies[0], answer.get("result")

    def _remember(self, call, seat):
        examples = self.examples[call.method]
        with self.lock:
            if len(examples) < RARE_CALLS and (call, seat) not in examples:
                examples.append((call, seat))

    def _compare(self, call, seat, bodies):
        """Plain Odoo answers twice, a tick apart: what does not change there may not differ."""
        if not seat.plain:
            if not _all_equal(bodies):
                self._report(self.differences, call, seat, bodies[0], bodies[-1])
            return
        before = _ask(seat.plain, call)
        if _all_equal([*bodies, before]):
            return
        time.sleep(CLOCK_TICK_S)
        after = _ask(seat.plain, call)
        if _canonical(before) != _canonical(after):
            self._report(self.unstable, call, seat, before, after)
            return
        wrong = [body for body in bodies if _canonical(body) != _canonical(before)]
        self._report(self.differences, call, seat, wrong[0], before)

    def _report(self, where, call, seat, body, expected=None):
        found = {
            "uid": seat.addon.uid,
            "call": [call.model, call.method, call.args, call.kwargs],
        }
        if expected is None:
            found["got"] = _short(json.loads(body)["error"]["data"])
        else:
            path, got, wanted = first_difference(json.loads(body), json.loads(expected))
            found.update(path=path, got=_short(got), expected=_short(wanted))
        with self.lock:
            where.append(found)


def _ask(rpc, call):
    """:return bytes: the body, also when it holds an error."""
    try:
        return rpc.send(rpc.encode(call.model, call.method, call.args, call.kwargs))[0]
    except RpcError as error:  # an HTTP status such as 404 for a model that is gone
        return json.dumps({"error": {"data": {"name": error.kind}}}).encode()


def _canonical(body):
    """Equal for equal values: order of keys aside, types of numbers included."""
    answer = json.loads(body)
    if "error" in answer:
        return (answer["error"].get("data") or {}).get("name")
    return json.dumps(answer.get("result"), sort_keys=True)


def _all_equal(bodies):
    different = set(bodies)  # most often one: then there is nothing to parse
    return len(different) == 1 or len(set(map(_canonical, different))) == 1


def _short(value):
    if isinstance(value, dict) and "message" in value:  # an error: without its traceback
        value = [value.get("name"), value["message"]]
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…"


def first_difference(left, right, path=""):
    """:return tuple: (path, left value, right value) of the first place that differs."""
    if type(left) is type(right) and isinstance(left, (dict, list)):
        keys = range(max(len(left), len(right)))
        if isinstance(left, dict):
            keys = sorted({*left, *right})
        for key in keys:
            pair = _item(left, key), _item(right, key)
            if json.dumps(pair[0], sort_keys=True) != json.dumps(pair[1], sort_keys=True):
                return first_difference(*pair, f"{path}[{key!r}]")
    return path, left, right


def _item(container, key):
    try:
        return container[key]
    except (KeyError, IndexError):
        return "(missing)"


def list_jobs(seats, limit):
    """Everything to visit, in order of importance.

    Users take turns on each action, so that an answer kept for one of them meets the other.
    What concerns whole models is asked by the first user only.

    :return tuple: (jobs for :meth:`Crawler.run`, number of actions, number of models)
    """
    kwargs = {"domain": [], "fields": ACTION_FIELDS, "order": "id"}
    actions = seats[0].addon.call("ir.actions.act_window", "search_read", [], kwargs)
    models = {action["res_model"] for action in actions}
    model_count = len(models)
    names = [evaluation_names(seat.addon) for seat in seats]
    main = [
        ("main", index, main_calls(action, names[index], limit))
        for action in actions
        for index, seat in enumerate(seats)
        if not seat.narrow or action["res_model"] in SESSION_MODELS
    ]
    first, later = [], []
    for action in actions:
        # One of each rich model comes first: between them they need every method.
        model = action["res_model"]
        where = first if model in RICH_MODELS and model in models else later
        where.append(("grouping", 0, grouping_calls(action, names[0], limit)))
        if model in models:
            where.append(("model", 0, model_calls(model, limit)))
            models.remove(model)
    return first + main + later, len(actions), model_count


def forget_everything(rpc):
    """Start with an empty cache: a server with another hash seed may have filled it."""
    with contextlib.suppress(RpcError):  # plain Odoo, without the addon
        rpc.call("cache.manager", "invalidate_all")


def evaluation_names(rpc):
    """:return dict: what domains and contexts of actions may refer to."""
    return {
        "uid": rpc.uid,
        "allowed_company_ids": rpc.context["allowed_company_ids"],
        "active_id": 1,
        "active_ids": [1],
        "active_model": False,
    }


def read_metrics(rpc):
    """Sum of ``cache.metric`` by method.

    :return dict: ``{method: {'hits': 3, 'computed': 2, 'audited': 3, 'differences': 0}}``,
        empty where the addon is not installed
    """
    kwargs = {
        "domain": [],
        "groupby": ["method", "outcome"],
        "aggregates": ["count:sum", "audited:sum", "differences:sum"],
    }
    try:
        groups = rpc.call("cache.metric", "formatted_read_group", [], kwargs)
    except RpcError:
        return {}
    sums = collections.defaultdict(collections.Counter)
    for group in groups:
        kind = "hits" if group["outcome"] in HITS else "computed"
        sums[group["method"]][kind] += group["count:sum"]
        sums[group["method"]]["audited"] += group["audited:sum"] or 0
        sums[group["method"]]["differences"] += group["differences:sum"] or 0
    return sums


def settled_metrics(rpc):
    """As :func:`read_metrics`, once two readings in a row are equal."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    last = None
    while time.monotonic() < deadline:
        # Workers write their counters when they work: give each something to do.
        for _ in range(4):
            rpc.call("res.users", "has_group", [[rpc.uid], "base.group_user"])
        metrics = read_metrics(rpc)
        if metrics == last:
            break
        last = metrics
        time.sleep(2.5)
    return last or {}


def subtract(after, before):
    """What was counted between two readings of :func:`read_metrics`."""
    return {
        method: {kind: count - before.get(method, {}).get(kind, 0) for kind, count in sums.items()}
        for method, sums in after.items()
    }


def crawl(database, *, time_s=240, threads=2, repeats=3, limit=80, with_plain=True, workers=2):
    """Start the servers, crawl, end the servers.

    :param str database: its name; admin's password must be ``admin``
    :param float time_s: no job starts later than this after the servers are up; opening
        the actions may take twice as long
    :param bool with_plain: compare with a server without the cache too
    :return dict: the report, see :func:`make_report`
    :raise ServerFailed: a server did not start
    """
    with contextlib.ExitStack() as stack:
        servers = start_servers(stack, database, with_plain, workers)
        seats = take_seats(servers, database)
        admin = seats[0].addon
        forget_everything(admin)
        start = time.monotonic()
        before = read_metrics(admin)
        jobs, actions, models = list_jobs(seats, limit)
        crawler = Crawler(seats, repeats=repeats, deadline=start + time_s, overtime_s=time_s)
        crawler.run(jobs, threads)
        crawler.ask_rare_methods_again()
        seconds = time.monotonic() - start
        metrics = subtract(settled_metrics(admin), before)
        report = make_report(crawler, metrics, actions, models)
        report["users"] = len(seats)
        report["seconds"] = round(seconds, 1)
        report["log"] = list(filter(_is_alarm, servers[0].log(10**6).splitlines()))[:50]
        return report


def start_servers(stack, database, with_plain, workers=2):
    """:return list: the caching server and, if wanted, one without; ``stack`` ends them."""
    environments = [ADDON_ENV, PLAIN_ENV] if with_plain else [ADDON_ENV]
    return [
        stack.enter_context(Server(database, workers=workers, env={**COMMON_ENV, **env}))
        for env in environments
    ]


def take_seats(servers, database):
    """:return list: seats of admin, of Odoo's demo user (if any), of admin at another computer."""
    users = [("admin", False), ("demo", False), ("admin", True)]
    seats = []
    for login, narrow in users:
        with contextlib.suppress(RpcError):
            addon = Rpc(servers[0].port, database).login(login, login)
            seats.append(Seat(addon, *(addon.clone(server.port) for server in servers[1:])))
            seats[-1] = dataclasses.replace(seats[-1], narrow=narrow)
    return seats


def _is_alarm(line):
    # the logger's name, not the database's; errors that plain Odoo has too are compared elsewhere
    return "odoo.addons.tiered_cache" in line and (" ERROR " in line or " CRITICAL " in line)


def make_report(crawler, metrics, actions, models):
    """:return dict: counts, differences, hits by method and ``problems`` (empty: passed)."""
    hits = {method: metrics.get(method, {}).get("hits", 0) for method in METHODS}
    audited = sum(sums.get("audited", 0) for sums in metrics.values())
    wrong = sum(sums.get("differences", 0) for sums in metrics.values())
    never = [method for method, count in hits.items() if not count]
    problems = []
    if crawler.differences:
        problems.append(f"{len(crawler.differences)} answers differ")
    if wrong:
        problems.append(f"the auditor found {wrong} differences")
    if never:
        problems.append(f"never a hit: {', '.join(never)}")
    if crawler.skipped["main"]:
        problems.append(f"no time for {crawler.skipped['main']} jobs of opening an action")
    if not crawler.calls:
        problems.append("no call was made")
    return {
        "actions": actions,
        "models": models,
        "calls": dict(crawler.calls),
        "requests": sum(crawler.calls.values()) * crawler.repeats,
        "hits": hits,
        "audited": audited,
        "audit_differences": wrong,
        "differences": crawler.differences,
        "unstable": crawler.unstable,
        "errors": crawler.errors,
        "skipped": dict(crawler.skipped),
        "problems": problems,
    }


def print_report(report):
    """Write the report for a human."""
    print(
        f"{report['actions']} window actions of {report['models']} models, "
        f"{report['users']} sessions, "
        f"{sum(report['calls'].values())} different calls, {report['requests']} requests, "
        f"{report['audited']} hits audited, {report['seconds']} s"
    )
    print(f"\n{'method':34}{'calls':>8}{'hits':>8}")
    for method in METHODS:
        print(f"{method:34}{report['calls'].get(method, 0):8}{report['hits'][method]:8}")
    for title in ("errors", "unstable", "differences"):
        print(f"\n{title}: {len(report[title])}")
        for found in report[title][: None if title == "differences" else 5]:
            print(f"  uid {found['uid']} {json.dumps(found['call'])[:SHOWN_CHARS]}")
            print(f"    {found.get('path', '')} got {found['got']}")
            print(f"    expected {found['expected']}" if "expected" in found else "")
    print(*report["log"], sep="\n")
    if report["skipped"]:
        print(f"left out by the time box: {report['skipped']}")
    verdict = "FAILED: " + "; ".join(report["problems"]) if report["problems"] else "passed"
    print(f"\ncrawl {verdict}")


def replay(path, database):
    """Send the differing calls of an earlier report again.

    :return int: how many still differ
    """
    found = json.loads(Path(path).read_text())["differences"]
    with contextlib.ExitStack() as stack:
        crawler = Crawler(take_seats(start_servers(stack, database, True), database))
        indexes = {seat.addon.uid: index for index, seat in enumerate(crawler.seats)}
        jobs = [("main", indexes.get(one["uid"], 0), iter_calls([one["call"]])) for one in found]
        crawler.run(jobs, 1)
    for difference in crawler.differences:
        print(json.dumps(difference, indent=1))
    print(f"{len(found)} calls replayed, {len(crawler.differences)} differ")
    return len(crawler.differences)


def iter_calls(calls):
    """A job of given calls: lists of model, method, arguments, keyword arguments."""
    for call in calls:
        yield Call(*call)


def main():
    """The command line; exit code 1 when the crawl found something."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("-d", "--database", required=True)
    parser.add_argument("--time", type=float, default=240, metavar="S", help="time box (240)")
    parser.add_argument("--threads", type=int, default=2, help="parallel clients (2)")
    parser.add_argument("--workers", type=int, default=2, help="workers per server (2)")
    parser.add_argument("--repeats", type=int, default=3, help="times each call is made (3)")
    parser.add_argument("--limit", type=int, default=80, help="records per list (80)")
    parser.add_argument("--no-plain", action="store_true", help="no second server to compare")
    parser.add_argument("--output", type=Path, help="write the report as JSON")
    parser.add_argument("--replay", type=Path, help="repeat the differences of such a report")
    options = parser.parse_args()
    if options.replay:
        return 1 if replay(options.replay, options.database) else 0
    report = crawl(
        options.database,
        time_s=options.time,
        threads=options.threads,
        repeats=options.repeats,
        limit=options.limit,
        with_plain=not options.no_plain,
        workers=options.workers,
    )
    if options.output:
        options.output.write_text(json.dumps(report, indent=1))
    print_report(report)
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
