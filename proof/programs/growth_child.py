"""The measured side of ``proof/growth``; runs inside ``odoo shell``.

The one idea: each operation times one thing that could grow, next to the call, in a transaction
of its own; who is asked when is the measuring process's business (``growth_parts``).  See
``bench/child.py`` for the protocol.

What may go wrong: a measured hit that was none.  :meth:`GrowthChild.hit` says how many queries
the call sent, and the other side refuses more than the one of a hit.
"""

import contextlib
import json
import os
import statistics
import time
import traceback

from odoo import sql_db
from odoo.addons.tiered_cache.services import journal
from odoo.addons.tiered_cache.services.catalogue import Catalogue
from odoo.addons.tiered_cache.services.entry import Entry
from odoo.addons.tiered_cache.services.tiers.memory import MemoryTier

from bench import child

LONG_S = 24 * 3600.0
FIELDS = ("display_name", "name", "email", "phone", "city", "function", "is_company", "write_date")
READ = (
    "res.partner",
    "web_search_read",
    [],
    {"domain": [], "specification": {name: {} for name in FIELDS}, "limit": 40, "order": "id"},
)


def serve(env, path):
    """See ``bench.child.serve``."""
    child.serve(env, path, GrowthChild)


class GrowthChild(child.Child):
    """The operations; a public method is one."""

    def __init__(self, env):
        super().__init__(env)
        self.workers = []
        self.early = None

    def ready(self):
        """Read until the answer comes from the cache: guarded, stored, and found.

        :raise RuntimeError: it never does
        """
        # However slow a tier is just now, it is to be asked: this is not about choosing tiers.
        self._engine().suspender.expected_cost_ms = lambda _name: None
        for _attempt in range(40):
            self.hit()
            self.flush()
            if self.hit()["queries"] <= 1 and self.hit()["queries"] <= 1:
                return
            time.sleep(0.3)
        raise RuntimeError(f"no hit: {self.stats()}")

    def hit(self):
        """:return dict: ``ms`` and ``queries`` of the read that is always the same."""
        return self.call(*READ)

    # -- the journal -----------------------------------------------------------------

    @contextlib.contextmanager
    def _looking(self):
        with self.registry.cursor() as cr:
            cr.execute("SELECT 1")
            yield self._engine().book(cr), cr

    def look(self):
        """:return float: milliseconds of one look at the journal."""
        with self._looking() as (book, cr):
            return _timed(book.look, cr)

    def first_look(self):
        """:return float: milliseconds of the look that a new process begins with."""
        with self._looking() as (book, cr):
            book.forget()
            return _timed(book.look, cr)

    def remember(self):
        """Keep what the process has counted now, for :meth:`late_look`."""
        with self._looking() as (book, cr):
            self.early = book.look(cr)

    def late_look(self):
        """:return float: milliseconds of a look by a process that was idle since ``remember``."""
        with self._looking() as (book, cr):
            book.state = self.early
            return _timed(book.look, cr)

    def compact(self, keep=True):
        """:return dict: ``ms`` of the compaction without its commit, ``rows`` that went.

        :param bool keep: False rolls it back
        """
        with contextlib.closing(self._engine().cursor()) as cr:
            start = time.perf_counter()
            rows = journal.compact(cr, LONG_S)
            elapsed_ms = (time.perf_counter() - start) * 1000
            if keep:
                cr.commit()
            return {"ms": elapsed_ms, "rows": rows}

    def is_long(self):
        """:return float: milliseconds of the question that every tick asks."""
        return _timed(self._engine()._journal_is_long)

    # -- guards ----------------------------------------------------------------------

    def guard_tables(self, relations):
        """:return float: milliseconds per relation, commit included."""
        engine = self._engine()
        engine.read_catalogue()
        times = []
        for relation in relations:
            done = False
            while not done:  # another one may be guarding or compacting just now
                start = time.perf_counter()
                with engine.cursor() as cr:
                    cr.execute("SET LOCAL synchronous_commit = off")
                    done = journal.guard(cr, relation)
            times.append((time.perf_counter() - start) * 1000)
        return statistics.median(times)

    def catalogue(self):
        """:return float: milliseconds of reading the catalogue of the database."""
        with self._engine().cursor() as cr:
            return _timed(Catalogue, cr)

    def broken(self):
        """:return float: milliseconds of the search for broken guards."""
        with self._engine().cursor() as cr:
            return _timed(journal.broken_guards, cr)

    # -- entries ---------------------------------------------------------------------

    def fill_l1(self, count):
        """Bring L1 to so many entries.

        :return dict: ``us`` per entry that was added, ``rss_mb`` of the process
        """
        tier = self._engine().hierarchy.tiers["l1"]
        have = tier.stats()["entries"]
        start = time.perf_counter()
        for number in range(have, count):
            tier.set(_entry(number))
        elapsed_us = (time.perf_counter() - start) * 1e6
        return {
            "us": elapsed_us / max(count - have, 1),
            "entries": tier.stats()["entries"],
            "rss_mb": self.resident() / 2**20,
        }

    def put_full(self, policy, limit, count=2000):
        """:return float: microseconds (median) of storing into a memory tier that is full."""
        tier = MemoryTier(limit, 1 << 40, policy)
        for number in range(limit):
            tier.set(_entry(number))
        times = []
        for number in range(limit, limit + count):
            entry = _entry(number)
            start = time.perf_counter()
            tier.set(entry)
            times.append((time.perf_counter() - start) * 1e6)
        return statistics.median(times)

    def purge(self, max_entries=None):
        """:return dict: ``ms`` and ``rows`` of what the scheduled action does with L3."""
        tier = self._engine().hierarchy.writers["l3"]
        faults = sum(tier.faults.values())
        start = time.perf_counter()
        rows = tier.purge(max_entries=max_entries)
        elapsed_ms = (time.perf_counter() - start) * 1000
        return {"ms": elapsed_ms, "rows": rows, "faults": sum(tier.faults.values()) - faults}

    def l3_stats(self):
        """:return dict: ``ms`` of the figures for administrators, and these."""
        tier = self._engine().hierarchy.writers["l3"]
        start = time.perf_counter()
        stats = tier.stats()
        return {"ms": (time.perf_counter() - start) * 1000, **stats}

    def tier_hits(self):
        """:return dict: hits by tier since the process began, as the addon counts them."""
        return self.stats().get("hits", {})

    # -- workers ---------------------------------------------------------------------

    def fork(self, count):
        """Add processes as Odoo's prefork server does: forked after the registry was loaded,
        without connections; each has looked and hit once.

        :return int: how many there are, this one included
        """
        while len(self.workers) + 1 < count:
            self.workers.append(_Worker(self))
        return len(self.workers) + 1

    def all_hit(self):
        """:return list: milliseconds of one hit in every forked process."""
        return [worker.ask("hit")["ms"] for worker in self.workers]

    def all_looks(self):
        """:return int: looks at the journal by all processes together."""
        everyone = [self.stats(), *(worker.ask("stats") for worker in self.workers)]
        return sum(one["versions"]["deltas"] + one["versions"]["reloads"] for one in everyone)


class _Worker:
    """A forked process that answers over two pipes, and ends when its parent hangs up."""

    def __init__(self, child_):
        questions, self._ask = os.pipe()
        self._answers, answers = os.pipe()
        # the tick of this process must not hold the pool's lock while the process is copied
        with sql_db._Pool._lock:
            self.pid = os.fork()
        if self.pid == 0:
            # two processes must not talk on one connection
            self.inherited = list(sql_db._Pool._connections)
            sql_db._Pool._connections.clear()
            for other in child_.workers:
                os.close(other._ask)
            os.close(self._ask)
            _work(child_, questions, answers)
        os.close(questions)
        os.close(answers)
        self._lines = os.fdopen(self._answers)
        self.ask("ready")

    def ask(self, operation):
        os.write(self._ask, (operation + "\n").encode())
        answer = json.loads(self._lines.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["ok"]


def _work(child_, questions, answers):
    child_.workers = []
    try:
        with os.fdopen(questions) as lines:
            for line in lines:
                try:
                    answer = {"ok": getattr(child_, line.strip())()}
                except Exception:  # whatever it was, the parent raises it
                    answer = {"error": traceback.format_exc()}
                os.write(answers, (json.dumps(answer) + "\n").encode())
    finally:
        os._exit(0)  # not the parent's way out


def _timed(function, *args):
    start = time.perf_counter()
    function(*args)
    return (time.perf_counter() - start) * 1000


_DEPENDENCIES = tuple((f"relation_{number}", 1 << 60, None) for number in range(12))


def _entry(number):
    """An entry like those of small reads: 300 bytes, twelve dependencies."""
    now = time.time()
    return Entry(
        key=f"v1:orm:res.partner:read:{number:032x}",
        model="res.partner",
        method="read",
        uid=2,
        dependencies=_DEPENDENCIES,
        removal_version=0,
        created=now,
        expires=now + LONG_S,
        cost_ms=5.0,
        queries=3,
        flags=0,
        payload=number.to_bytes(8, "big") * 38,
    )
