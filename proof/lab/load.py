"""Sessions that read and write a stage over HTTP, and remember what they saw.

The one idea: everything a checker needs is taken down at the client: when a request began,
when its answer was there, what the answer said.  Whoever wrote tells the others only after
the acknowledgement, so what they must see from then on is known.

What may go wrong: a request fails and nobody knows whether it was committed.  Its outcome is
then "unknown": it sets no floor, and the checkers allow both.  When a fault may undo
commits (a restored or promoted server), :meth:`Load.new_epoch` forgets what was promised.
"""

import contextlib
import http.client
import itertools
import random
import threading
import time
import xmlrpc.client
from collections import Counter

import psycopg2

from bench.common import HOST, Rpc, RpcError

from . import checks, list_append
from .stage import ACCOUNTS, MODEL, START_BALANCE, USERS

REQUEST_TIMEOUT_S = 30
READERS = 4
WRITERS = 3
THINK_S = 0.02
BURST_S = 1.0
"""Writers work for so long and rest for as long: reads then find something to hit."""
LISTS_OF_A_READ = 3
SUBSETS = 4
"""How many different sets of accounts are read by id."""
ADMIN_UID = 2
WEB_FIELDS = {"x_name": {}, "x_balance": {}, "x_version": {}, "x_log": {}}
SERVER_DOWN = 0.1
"""Seconds to wait after a failure, so that a server that is down is not flooded."""

FAILURES = (OSError, http.client.HTTPException, RpcError, psycopg2.Error, xmlrpc.client.Error)


class _Once(xmlrpc.client.Transport):
    """Bounded in time, and never sent twice: a repeated append would look like an anomaly."""

    def make_connection(self, host):
        connection = super().make_connection(host)
        connection.timeout = REQUEST_TIMEOUT_S
        return connection

    def request(self, host, handler, request_body, verbose=False):
        return self.single_request(host, handler, request_body, verbose)


class Load:
    """A context manager: the sessions work from its beginning to its end.

    :param lab.stage.Stage stage: what to read and write
    :param int port: of the server that is written to, and read from unless ``read_port``
    :param bool recent: reads must see every acknowledged write (not so on a delayed standby)
    """

    def __init__(
        self, stage, port, *, seed=1, readers=READERS, writers=WRITERS, read_port=None, recent=True
    ):
        self.stage, self.port, self.read_port = stage, port, read_port or port
        self.recent = recent
        self.values = itertools.count(1)
        self.history_lock = threading.Lock()
        self.failures = []  # (epoch seconds, "read" or "write", what)
        self.latencies = []  # (monotonic seconds at the end, milliseconds, kind)
        self.counts = Counter()
        self.epochs = []
        self._begin_epoch()
        self._go, self._stop = threading.Event(), threading.Event()
        self._busy, self._idle = 0, threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, args=(kind, number, seed), daemon=True)
            for kind, many in (("read", readers), ("write", writers))
            for number in range(many)
        ]

    def __enter__(self):
        self._go.set()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc):
        self._go.set()
        self._stop.set()
        for thread in self._threads:
            thread.join(REQUEST_TIMEOUT_S * 2)

    # --- epochs ---------------------------------------------------------------------------------

    def _begin_epoch(self):
        self.bank = checks.Bank(self.stage.accounts, ACCOUNTS * START_BALANCE)
        self.recency, self.monotone = checks.Recency(), checks.Monotone()
        self.history = []
        self.epochs.append((self.bank, self.recency, self.monotone, self.history))

    @contextlib.contextmanager
    def pause(self, *, forget=False):
        """Within it no request is under way.

        :param bool forget: commits may be undone meanwhile: afterwards nothing is expected of
            what was seen before
        """
        self._go.clear()
        with self._idle:
            if not self._idle.wait_for(lambda: not self._busy, REQUEST_TIMEOUT_S * 2):
                raise TimeoutError("a session does not come to an end")
        yield
        if forget:
            self._begin_epoch()
            self._remember_start()
        self._go.set()

    def _remember_start(self):
        """The lists as they are now, as one transaction: its appends are nobody's otherwise."""
        query = f"SELECT id, x_log FROM {MODEL} ORDER BY id"
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cr:
            cr.execute(query)
            lists = {key: _numbers(text) for key, text in cr.fetchall()}
        appends = [["append", key, value] for key, values in lists.items() for value in values]
        self.remember(-1, time.monotonic(), "ok", appends)

    def connect(self):
        """:return: a connection to the database, past Odoo."""
        where = self.stage.environment
        return psycopg2.connect(
            host=where["PGHOST"],
            port=where["PGPORT"],
            user=where["PGUSER"],
            dbname=self.stage.database,
            application_name="psql",
            options="-c lock_timeout=10s",
        )

    # --- sessions -------------------------------------------------------------------------------

    def _run(self, kind, number, seed):
        rng = random.Random(f"{seed} {kind} {number}")
        session = _Reader(self, number, rng) if kind == "read" else _Writer(self, number, rng)
        while not self._stop.is_set():
            self._go.wait()
            with self._idle:
                self._busy += 1
            started = time.monotonic()
            try:
                session.step()
                now = time.monotonic()
                self.latencies.append((now, (now - started) * 1000, kind))
                self.counts[kind] += 1
            except FAILURES as error:
                self.failures.append((time.time(), kind, f"{type(error).__name__}: {error}"[:300]))
                session.reset()
                time.sleep(SERVER_DOWN)
            finally:
                with self._idle:
                    self._busy -= 1
                    self._idle.notify_all()
            time.sleep(rng.uniform(0, 2 * THINK_S))

    def remember(self, session, start, outcome, operations):
        """Add a transaction to the history that :mod:`.list_append` checks."""
        entry = {
            "session": session,
            "start": start,
            "end": time.monotonic(),
            "outcome": outcome,
            "ops": operations,
        }
        with self.history_lock:
            self.history.append(entry)

    # --- verdict --------------------------------------------------------------------------------

    def anomalies(self):
        """:return list: what no correct server would have answered, as readable text."""
        found = []
        for bank, recency, monotone, history in self.epochs:
            found += [f"bank: {one}" for one in bank.anomalies]
            found += [f"monotone: {one}" for one in monotone.anomalies]
            if self.recent:
                found += [f"recency: {one}" for one in recency.anomalies]
            found += [
                f"list-append: {one}"
                for one in list_append.check(history, realtime=self.recent, per_session=self.recent)
            ]
        return found

    def checked(self):
        """:return dict: how much was checked."""
        return {
            "reads": self.counts["read"],
            "writes": self.counts["write"],
            "sums": sum(epoch[0].checked for epoch in self.epochs),
            "floors": sum(epoch[1].checked for epoch in self.epochs),
            "transactions": sum(len(epoch[3]) for epoch in self.epochs),
            "failures": len(self.failures),
        }


def _numbers(text):
    return [int(part) for part in (text or "").split(",") if part]


class _Session:
    """One client; its ``step`` is one transaction."""

    def __init__(self, load, number, rng):
        self.load, self.number, self.rng = load, number, rng
        self.rpc = None

    def reset(self):
        """After a failure: connect anew, log in anew if that was what failed."""
        if self.rpc is not None:
            self.rpc.connection.close()

    def connect(self, port, login):
        """:return Rpc: logged in, bounded in time."""
        if self.rpc is None:
            rpc = Rpc(port, self.load.stage.database)
            rpc.connection.timeout = REQUEST_TIMEOUT_S
            self.rpc = rpc.login(login, login)
        return self.rpc


class _Reader(_Session):
    def step(self):
        shape = self.rng.choice(("search", "search", "group", "read", "count"))
        login = USERS[self.number % len(USERS)]
        getattr(self, shape)(self.connect(self.load.read_port, login))

    def search(self, rpc):
        arguments = {"domain": [], "specification": WEB_FIELDS}
        rows = self._rows(lambda: rpc.call(MODEL, "web_search_read", [], arguments)["records"])
        self.load.bank.answer({row["id"]: row["x_balance"] for row in rows})

    def read(self, rpc):
        first = LISTS_OF_A_READ * self.rng.randrange(SUBSETS)
        ids = self.load.stage.accounts[first : first + LISTS_OF_A_READ]
        self._rows(lambda: rpc.call(MODEL, "read", [ids, ["x_version", "x_log"]]))

    def group(self, rpc):
        arguments = {"domain": [], "groupby": [], "aggregates": ["x_balance:sum", "__count"]}
        (row,) = rpc.call(MODEL, "formatted_read_group", [], arguments)
        self.load.bank.answer_sum(row["x_balance:sum"], row["__count"])

    def count(self, rpc):
        many = rpc.call(MODEL, "search_count", [[]])
        self.load.bank.answer_sum(ACCOUNTS * START_BALANCE, many)

    def _rows(self, ask):
        """Take the floors down, ask, compare, and remember some of the lists."""
        load = self.load
        floors = {key: load.recency.floor(key) for key in load.stage.accounts}
        start = time.monotonic()
        rows = ask()
        for row in rows:
            load.recency.answer(row["id"], row["x_version"], floors[row["id"]])
            load.monotone.answer(self.number, row["id"], row["x_version"])
        chosen = self.rng.sample(rows, min(len(rows), LISTS_OF_A_READ))
        reads = [["read", row["id"], _numbers(row["x_log"])] for row in chosen]
        load.remember(self.number, start, "ok", reads)
        return rows


class _Writer(_Session):
    """Writes as the web client, as an XML-RPC client and as psql, in turns."""

    def __init__(self, load, number, rng):
        super().__init__(load, 1000 + number, rng)
        self.proxy = None
        self.connection = None

    def reset(self):
        super().reset()
        self.proxy = None
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def step(self):
        rest_s = BURST_S - time.monotonic() % (2 * BURST_S)
        if rest_s < 0:
            time.sleep(BURST_S + rest_s)
        way = self.rng.choice(("web", "xmlrpc", "sql"))
        getattr(self, self.rng.choice(("transfer", "append")))(way)

    def run_action(self, way, name, context):
        """:return dict: what the server action returned."""
        stage, ids = self.load.stage, [self.load.stage.actions[name]]
        if way == "web":
            rpc = self.connect(self.load.port, "admin")
            return rpc.call("ir.actions.server", "run", [ids], {"context": context})
        if self.proxy is None:
            address = f"http://{HOST}:{self.load.port}/xmlrpc/2/object"
            self.proxy = xmlrpc.client.ServerProxy(address, _Once(), allow_none=True)
        model = "ir.actions.server"
        who = stage.database, ADMIN_UID, "admin"
        return self.proxy.execute_kw(*who, model, "run", [ids], {"context": context})

    def transfer(self, way):
        pair = sorted(self.rng.sample(self.load.stage.accounts, 2))  # else they would deadlock
        amount = self.rng.choice((-1, 1)) * self.rng.randint(1, 9)
        if way == "sql":
            versions = self._sql_transfer(pair, amount)
        else:
            context = {"accounts": pair, "amount": amount}
            versions = self.run_action(way, "transfer", context)["versions"]
        for key, version in versions.items():
            self.load.recency.acknowledged(int(key), version)

    def append(self, way):
        keys = sorted(self.rng.sample(self.load.stage.accounts, self.rng.randint(1, 2)))
        operations = []
        for key in keys:
            operations.append(["append", key, next(self.load.values)])
            if self.rng.random() < 0.5:
                operations.insert(self.rng.randint(0, len(operations)), ["read", key, None])
        start, outcome, seen = time.monotonic(), "unknown", []
        try:
            if way == "sql":
                operations = [one for one in operations if one[0] == "append"]
                self._sql_append(operations)
            else:
                asked = {"operations": [[kind, key, value or 0] for kind, key, value in operations]}
                seen = self.run_action(way, "append", asked)["seen"]
            outcome = "ok"
        finally:
            texts = iter(seen)
            for operation in operations:
                if operation[0] == "read":
                    operation[2] = _numbers(next(texts)) if outcome == "ok" else None
            self.load.remember(self.number, start, outcome, operations)

    def _cursor(self):
        if self.connection is None:
            self.connection = self.load.connect()
        return self.connection.cursor()

    def _sql_transfer(self, pair, amount):
        with self._cursor() as cr:
            versions = {}
            for key, change in zip(pair, (-amount, amount), strict=True):
                cr.execute(
                    "UPDATE x_account SET x_balance = x_balance + %s, x_version = x_version + 1"
                    " WHERE id = %s RETURNING x_version",
                    [change, key],
                )
                versions[key] = cr.fetchone()[0]
        self.connection.commit()
        return versions

    def _sql_append(self, operations):
        with self._cursor() as cr:
            for _kind, key, value in operations:
                cr.execute(
                    "UPDATE x_account SET x_log = coalesce(x_log, '') || %s WHERE id = %s",
                    [f"{value},", key],
                )
        self.connection.commit()
