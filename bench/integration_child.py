"""The shop of bench/integration.py: threads that read one catalogue; runs inside ``odoo shell``.

The one idea: all ways of reading run in this one process, by the same threads, with products drawn
from the same seeded Zipf distribution, so that nothing but the way differs.  ``cache.remote`` is
that of this process's own Odoo; the other ways are what a program without Odoo would do.

What may go wrong: a read fails.  It is counted by the name of its exception, never swallowed.
"""

import collections
import http.client
import itertools
import json
import random
import threading
import time

from odoo import api

from . import child

ADMIN_UID = 2  # base.user_admin
HOST = "127.0.0.1"
TIMEOUT_S = 60
REMOTE = "headquarters"
MODEL = "product.template"
FIELDS = ["name", "default_code", "barcode", "list_price", "categ_id", "uom_id"]
OUTAGE = {"bench": "outage"}
"""Context of the reads of the outage: what was read before lives longer."""

PAGE = 50
"""Reads of one batch, and of one transaction of the shop."""


def serve(env, path):
    """Answer as ``child.serve`` does."""
    child.serve(env, path, Shop)


class Zipf:
    """Products by popularity: the n-th is read 1/n times as often as the first.

    :param list ids: of the products
    :param int seed: which of them are popular, and what is drawn
    """

    def __init__(self, ids, seed):
        self.chance = random.Random(seed)  # noqa: S311 reproducible, not secret
        # the same ones are popular for every thread
        self.ids = random.Random(0).sample(ids, len(ids))  # noqa: S311
        self.weights = list(itertools.accumulate(1 / rank for rank in range(1, len(ids) + 1)))

    def draw(self, count):
        """:return list: ids of products"""
        return self.chance.choices(self.ids, cum_weights=self.weights, k=count)


class Shop:
    """The operations; a public method is one.

    :param env: the environment of ``odoo shell``, whose cursor stays unused
    """

    def __init__(self, env):
        env.cr.rollback()
        self.registry = env.registry
        self.known = {}
        self.tags = {}

    def open(self, known):
        """:param dict known: ``ports`` ('plain', 'addon'), ``database``, ``key``, ``ids``"""
        self.known = known
        values = {
            "name": REMOTE,
            "url": f"http://{HOST}:{known['ports']['addon']}",
            "database": known["database"],
            "api_key": known["key"],
            "login": "admin",
            "allowed_hosts": HOST,
            "interval_s": 5,
        }
        with self.registry.cursor() as cr:
            remotes = api.Environment(cr, 1, {})["cache.remote"]
            remotes.search([("name", "=", REMOTE)]).unlink()
            remotes.create(values)
        self._remote_page([known["ids"][0]], lambda *_: None)

    def is_followed(self):
        """:return bool: changes over there are heard of from now on"""
        with self.registry.cursor() as cr:
            cr.execute("SELECT cursor FROM cache_remote_follow WHERE model = %s", [MODEL])
            return any(cursor for (cursor,) in cr.fetchall())

    def warm(self, **how):
        """Read the whole catalogue once.

        :param how: of the reads of cache.remote
        :return float: seconds
        """
        started = time.perf_counter()
        with self.registry.cursor() as cr:
            remote = api.Environment(cr, 1, {})["cache.remote"]._get(REMOTE)
            rows = remote.read_batch(MODEL, self.known["ids"], FIELDS, **how)
        if len(rows) < len(self.known["ids"]):
            raise ValueError(f"only {len(rows)} products")
        return time.perf_counter() - started

    def compare(self, ids):
        """All ways give the same.

        :raise ValueError: they do not
        """
        for id_ in ids:
            values = {way: self._shown(way, id_) for way in WAYS}
            if any(value != values["plain"] for value in values.values()):
                raise ValueError(f"product {id_}: {values}")

    def _shown(self, way, id_):
        rows = []
        getattr(self, f"_{way}_page")([id_], lambda _ms, _origin, row: rows.append(row))
        return [rows[0][name] for name in ("name", "default_code", "list_price")]

    # -- measuring ---------------------------------------------------------------------

    def run(self, way, seconds, threads, seed, writes_per_s=0):
        """Let threads read.

        :param str way: one of WAYS
        :param float writes_per_s: prices that change over there meanwhile
        :return dict: ``reads``, ``failed`` by exception, ``seconds``, ``p50_ms``, ``p95_ms`` and
            ``max_ms`` of one call, ``origins``
        """
        notes = _Notes()
        stop = threading.Event()
        writer = threading.Thread(target=self._change_prices, args=(writes_per_s, stop))
        if writes_per_s:
            writer.start()
        started = time.perf_counter()
        self._threads(way, threads, seed, started + seconds, notes)
        took_s = time.perf_counter() - started
        stop.set()
        if writes_per_s:
            writer.join()
        return {**notes.summary(), "seconds": took_s}

    def alone(self, count, seed):
        """One thread, everything in turns.

        :return dict: lists of milliseconds: ``plain`` and ``addon`` JSON-RPC, ``etag``, ``network``
            (a call of cache.remote that is made) and ``remote`` (one that the cache answers)
        """
        zipf = Zipf(self.known["ids"], seed)
        found = {name: [] for name in ("plain", "addon", "etag", "network", "remote")}

        def note(name):
            return lambda ms, *_: found[name].append(ms)

        for id_ in zipf.draw(count):
            for name in random.sample(list(found), len(found)):
                if name in ("etag", "remote"):  # warm
                    getattr(self, f"_{name}_page")([id_], lambda *_: None)
                if name == "network":
                    self._remote_page([id_], note(name), ttl_s=0)
                else:
                    getattr(self, f"_{name}_page")([id_], note(name))
        return found

    def warm_briefly(self, ttl_s):
        """As :meth:`warm`, with values of their own that live for ``ttl_s`` only."""
        return self.warm(ttl_s=ttl_s, context=OUTAGE)

    def timeline(self, seconds, threads, seed, ttl_s):
        """Read through cache.remote, and tell what happened in each second.

        :return list: dicts with ``reads``, ``failed``, ``origins``, ``max_ms``
        """
        started = time.perf_counter()
        buckets = collections.defaultdict(_Notes)

        class Notes:
            @staticmethod
            def add(*what):
                buckets[int(time.perf_counter() - started)].add(*what)

            @staticmethod
            def fail(error):
                buckets[int(time.perf_counter() - started)].fail(error)

        how = {"ttl_s": ttl_s, "context": OUTAGE}
        self._threads("remote", threads, seed, started + seconds, Notes, **how)
        return [buckets[second].summary() for second in range(int(seconds))]

    def faults(self):
        """:return dict: by tier, what it could not do"""
        from odoo.addons.tiered_cache.services.engine import engine_for

        tiers = engine_for(self.registry).hierarchy.tiers
        return {name: dict(tier.faults) for name, tier in tiers.items()}

    def _threads(self, way, threads, seed, ends, notes, **how):
        page = getattr(self, f"_{way}_page")

        def work(number):
            zipf = Zipf(self.known["ids"], seed * 1000 + number)
            while time.perf_counter() < ends:
                try:
                    page(zipf.draw(PAGE), notes.add, ends=ends, **how)
                except Exception as error:  # noqa: BLE001 a failed read is what is counted
                    notes.fail(error)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _change_prices(self, per_s, stop):
        chance = random.Random(1)  # noqa: S311
        while not stop.wait(1 / per_s):
            id_ = chance.choice(self.known["ids"])
            price = round(chance.uniform(1, 2000), 2)
            self._execute("addon", "write", [[id_], {"list_price": price}])

    # -- ways --------------------------------------------------------------------------
    # each reads products one by one and tells note(milliseconds, origin, row) of each

    def _plain_page(self, ids, note, ends=None):
        self._jsonrpc("plain", ids, note, ends)

    def _addon_page(self, ids, note, ends=None):
        self._jsonrpc("addon", ids, note, ends)

    def _jsonrpc(self, server, ids, note, ends):
        for id_ in _until(ends, ids):
            started = time.perf_counter()
            (row,) = self._execute(server, "read", [[id_], FIELDS])
            note((time.perf_counter() - started) * 1000, "computed", row)

    def _batch_page(self, ids, note, ends=None):
        calls = [
            {"model": MODEL, "method": "read", "ids": [id_], "arguments": {"fields": FIELDS}}
            for id_ in ids
        ]
        started = time.perf_counter()
        _status, _headers, body = self._http(
            "addon", "POST", "/cache/1/batch", {"calls": calls}, self._bearer()
        )
        took_ms = (time.perf_counter() - started) * 1000
        for answer in json.loads(body)["results"]:
            note(took_ms, "batch", answer["result"][0])

    def _etag_page(self, ids, note, ends=None):
        for id_ in _until(ends, ids):
            tag, row = self.tags.get(id_, ("", None))
            headers = {**self._bearer(), **({"If-None-Match": tag} if tag else {})}
            started = time.perf_counter()
            path = f"/cache/1/products/{id_}"
            status, answered, body = self._http("addon", "GET", path, None, headers)
            if status != 304:
                row = json.loads(body)
                self.tags[id_] = answered.get("ETag") or "", row
            note((time.perf_counter() - started) * 1000, str(status), row)

    def _remote_page(self, ids, note, ends=None, **how):
        with self.registry.cursor() as cr:
            remote = api.Environment(cr, 1, {})["cache.remote"]._get(REMOTE)
            for id_ in _until(ends, ids):
                started = time.perf_counter()
                (answer,) = remote.answer_batch(MODEL, [id_], FIELDS, **how)
                took_ms = (time.perf_counter() - started) * 1000
                note(took_ms, answer.origin, answer.value)

    def _execute(self, server, method, args):
        known = self.known
        params = [known["database"], ADMIN_UID, known["key"], MODEL, method, args]
        call = {"service": "object", "method": "execute_kw", "args": params}
        body = {"jsonrpc": "2.0", "method": "call", "params": call}
        answer = json.loads(self._http(server, "POST", "/jsonrpc", body, {})[2])
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["result"]

    def _bearer(self):
        return {"Authorization": f"Bearer {self.known['key']}"}

    def _http(self, server, method, path, body, headers):
        port = self.known["ports"][server]
        connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status not in (200, 304):
            raise ValueError(f"{answer.status}: {content[:200]}")
        return answer.status, answer.headers, content


WAYS = ("plain", "addon", "batch", "etag", "remote")


def _until(ends, ids):
    for id_ in ids:
        if ends is not None and time.perf_counter() >= ends:
            return
        yield id_


class _Notes:
    """What happened; thread-safe, since each operation is one of CPython's own."""

    def __init__(self):
        self.ms = collections.defaultdict(list)
        self.failed = collections.deque()

    def add(self, ms, origin, _row):
        self.ms[origin].append(ms)

    def fail(self, error):
        self.failed.append(f"{type(error).__name__}: {error}"[:200])

    def summary(self):
        every = sorted(itertools.chain.from_iterable(self.ms.values()))
        return {
            "reads": len(every),
            "failed": dict(collections.Counter(self.failed)),
            "origins": {name: len(values) for name, values in sorted(self.ms.items())},
            "p50_ms": _at(every, 0.5),
            "p95_ms": _at(every, 0.95),
            "max_ms": _at(every, 1.0),
            "p50_ms_by_origin": {
                name: _at(sorted(values), 0.5) for name, values in sorted(self.ms.items())
            },
        }


def _at(ordered, part):
    return round(ordered[int(part * (len(ordered) - 1))], 4) if ordered else None
