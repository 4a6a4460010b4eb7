#!/usr/bin/env python3
"""An office that works: reads and a few writes over HTTP, as web clients send them.

The one idea: every user is a thread with a session of its own, who opens one page after the other,
the popular ones more often, and waits between calls. What a page asks for is taken from the views
of the database, by the same code as in ``bench/crawl.py``.

What may go wrong: a user may not open a page. Then it is left out for this user, and counts as
refused, not as failed. ``scripts/traffic`` checks that the database is one that may be changed.
"""

import argparse
import collections
import random
import sys
import threading
import time
from http.client import HTTPException
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.common import Rpc, RpcError  # noqa: E402
from bench.crawl_calls import COUNT_LIMIT, Call, grouping_calls, main_calls  # noqa: E402

MODELS = (
    "sale.order", "product.template", "res.partner", "purchase.order", "stock.picking",
    "product.product", "stock.quant", "sale.report", "account.move", "product.category",
    "product.pricelist", "res.users", "res.country", "res.currency",
)  # fmt: skip
"""By popularity; those that the database does not have are left out."""

SAVED = {
    "sale.order": ("client_order_ref", lambda number: f"PO {number:05d}"),
    "product.template": ("list_price", lambda number: 10 + number % 90),
    "res.partner": ("comment", lambda number: f"<p>Called back, note {number}</p>"),
    "purchase.order": ("partner_ref", lambda number: f"Q{number:05d}"),
}
"""Model: the field that somebody saves, and its value."""

WORDS = ("a", "de", "ch", "desk", "chair", "office", "lamp", "az", "will")
CALLS_PER_PAGE = 9
LIST_LIMIT = 80
REFUSED = ("odoo.exceptions.AccessError", "odoo.exceptions.UserError")
BAR_WIDTH = 24
HEADER = "X-Odoo-Cache"
"""What the cache says about an answer, to users in one of its groups."""


class Counts:
    """What has happened so far, of all users."""

    def __init__(self):
        self._lock = threading.Lock()
        self.numbers = collections.Counter()
        self.failures = collections.Counter()

    def add(self, name, failure=None):
        with self._lock:
            self.numbers[name] += 1
            if failure:
                self.failures[failure] += 1


class Session(Rpc):
    """A session that notes what the cache says about its answers."""

    def __init__(self, port, database, counts):
        super().__init__(port, database)
        self.counts = counts

    def _post(self, path, data):
        answer = super()._post(path, data)
        text = answer.headers.get(HEADER)
        if text:
            self.counts.add("miss" if text.startswith("miss") else "hit")
        return answer


class Office:
    """What all users share: pages, how long, how often.

    :param options: of the command line
    """

    def __init__(self, options):
        self.options = options
        self.counts = Counts()
        self.pause_s = options.users / options.rate
        self.end = float("inf")
        self.pages = []

    @property
    def is_open(self):
        return time.monotonic() < self.end

    def log_in(self, login, password):
        session = Session(self.options.port, self.options.database, self.counts)
        return session.login(login, password)

    def prepare(self):
        """:return list: a session for each user."""
        admin = self.log_in("admin", "admin")
        self.pages = find_pages(admin)
        names = [f"traffic{number}" for number in range(1, self.options.users)]
        make_users(admin, names)
        return [admin, *(self.log_in(name, name) for name in names)]

    def work(self, session, seed):
        """One user, until the office closes."""
        user = User(self, session, random.Random(seed))
        while self.is_open and user.pages:
            try:
                user.open_page()
            except (OSError, HTTPException) as error:
                self.counts.add("failed", f"{type(error).__name__}: {error}")
                session.connection.close()
                time.sleep(1)


class User:
    """One user: the pages that are open to them, and the views that they have loaded."""

    def __init__(self, office, session, chance):
        self.office = office
        self.session = session
        self.chance = chance
        self.names = {"uid": session.uid, **session.context}
        self.pages = list(office.pages)
        self.views = {}

    def open_page(self):
        weights = [1 / rank for rank in range(1, len(self.pages) + 1)]
        page = self.chance.choices(self.pages, weights)[0]
        kind = self.chance.choices(("main", "search", "groups"), (6, 2, 2))[0]
        if kind == "search":
            self.follow(page, search_calls(page["res_model"], self.chance.choice(WORDS)))
        elif kind == "groups":
            self.follow(page, grouping_calls(page, self.names, LIST_LIMIT))
        else:
            self.follow(page, main_calls(page, self.names, LIST_LIMIT))
            if self.chance.random() * 100 < self.office.options.writes:
                self.save(page["res_model"])

    def follow(self, page, calls):
        """Send what a generator of calls asks for, a page full at most."""
        answer = None
        for _ in range(CALLS_PER_PAGE):
            try:
                call = calls.send(answer)
            except StopIteration:
                return
            answer = self.send(call)
            if answer is None and call.method == "get_views" and self.office.is_open:
                self.pages.remove(page)
                return

    def send(self, call):
        """:return: the answer; None where it was refused or failed, or the office has closed."""
        if call.method == "get_views" and call.key in self.views:
            return self.views[call.key]
        time.sleep(self.chance.expovariate(1 / self.office.pause_s))
        if not self.office.is_open:
            return None
        try:
            answer = self.session.call(call.model, call.method, call.args, call.kwargs)
        except RpcError as error:
            if error.kind in REFUSED:
                self.office.counts.add("refused")
            else:
                self.office.counts.add("failed", f"{call.model}.{call.method}: {error}")
            return None
        self.office.counts.add("calls")
        if call.method == "get_views":
            self.views[call.key] = answer
        return answer

    def save(self, model):
        """Change one record as the save button of a form does."""
        if model not in SAVED:
            return
        name, value = SAVED[model]
        listed = {"domain": [], "fields": ["id"], "limit": LIST_LIMIT}
        records = self.send(Call(model, "search_read", [], listed))
        if not records:
            return
        record_id = self.chance.choice(records)["id"]
        values = {name: value(self.chance.randrange(100_000))}
        specification = {"specification": {name: {}, "display_name": {}}}
        if self.send(Call(model, "web_save", [[record_id], values], specification)):
            self.office.counts.add("saved")


def search_calls(model, word):
    """Somebody types into a many2one field, letter by letter, and looks at what was found."""
    for length in range(1, len(word) + 1):
        kwargs = {"name": word[:length], "domain": [], "operator": "ilike", "limit": 8}
        yield Call(model, "name_search", [], kwargs)
    kwargs = {
        "domain": [["display_name", "ilike", word]],
        "specification": {"display_name": {}},
        "limit": LIST_LIMIT,
        "count_limit": COUNT_LIMIT,
    }
    yield Call(model, "web_search_read", [], kwargs)


def find_pages(admin):
    """:return list: the first window action of each model that this database has."""
    pages = []
    for model in MODELS:
        kwargs = {
            "domain": [
                ["res_model", "=", model],
                ["target", "=", "current"],
                ["view_mode", "like", "list"],
            ],
            "fields": ["res_model", "views", "domain", "context", "search_view_id"],
            "order": "id",
            "limit": 1,
        }
        pages += admin.call("ir.actions.act_window", "search_read", [], kwargs)
    return pages


def make_users(admin, names):
    """Users like the one of the demo data, who also see what the cache says about answers."""
    known = admin.call("res.users", "search_read", [[["login", "in", names]], ["login"]])
    missing = sorted(set(names) - {user["login"] for user in known})
    if not missing:
        return
    domain = [["login", "in", ["demo", "admin"]]]
    pattern = admin.call("res.users", "search_read", [domain, ["id"]], {"order": "login desc"})[0]
    domain = [["module", "=", "tiered_cache"], ["name", "=", "group_cache_user"]]
    group = admin.call("ir.model.data", "search_read", [domain, ["res_id"]])[0]
    for name in missing:
        values = {"name": name.title(), "login": name, "password": name}
        ids = admin.call("res.users", "copy", [[pattern["id"]], values])
        ids = ids if isinstance(ids, list) else [ids]
        admin.call("res.users", "write", [ids, {"group_ids": [[4, group["res_id"]]]}])


def progress(numbers, passed, seconds):
    """:return str: a bar, and what has happened."""
    full = round(BAR_WIDTH * passed / seconds)
    known = numbers["hit"] + numbers["miss"]
    share = f"{100 * numbers['hit'] / known:.0f} % from the cache, " if known else ""
    return (
        f"[{'#' * full}{'-' * (BAR_WIDTH - full)}] {passed:.0f} of {seconds} s, "
        f"{numbers['calls']} calls, {share}{numbers['saved']} saved, {numbers['failed']} failed"
    )


def run(office, sessions, seconds):
    """Let everybody work; on a terminal, the bar is written over and over."""
    began = time.monotonic()
    office.end = began + seconds
    threads = [
        threading.Thread(target=office.work, args=(session, seed), daemon=True)
        for seed, session in enumerate(sessions)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if sys.stderr.isatty():
            passed = min(time.monotonic() - began, seconds)
            bar = progress(office.counts.numbers, passed, seconds)
            print(f"\r{bar}", end="", file=sys.stderr, flush=True)
        time.sleep(0.5)
    print(f"\r{progress(office.counts.numbers, seconds, seconds)}", file=sys.stderr)


def parse_arguments():
    """The command line, as ``scripts/traffic`` hands it over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=int)
    parser.add_argument("--database", required=True)
    parser.add_argument("--port", type=int, default=8069)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--rate", type=int, default=20)
    parser.add_argument("--writes", type=int, default=5)
    options = parser.parse_args()
    if min(options.seconds, options.users, options.rate) < 1:
        parser.error("seconds, users and rate are 1 at least")
    return options


def main():
    """:return int: exit code, 0 if there were calls and none failed."""
    options = parse_arguments()
    office = Office(options)
    try:
        sessions = office.prepare()
    except OSError as error:
        print(
            f"traffic: no server answers on port {options.port}: {error}\n"
            f"Start it: scripts/run --port {options.port} --database {options.database}",
            file=sys.stderr,
        )
        return 1
    except RpcError as error:
        print(f"traffic: {options.database} on port {options.port}: {error}", file=sys.stderr)
        return 1
    run(office, sessions, options.seconds)
    for failure, count in office.counts.failures.most_common(5):
        print(f"traffic: {count} times {failure}", file=sys.stderr)
    numbers = office.counts.numbers
    return 1 if numbers["failed"] or not numbers["calls"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
