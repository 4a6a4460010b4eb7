"""Sessions that read and write a stage over HTTP, and remember what they saw.

The one idea: everything a checker needs is taken down at the client: when a request began,
when its answer was there, what the answer said.  Whoever wrote tells the others only after
the acknowledgement, so what they must see from then on is known.

What may go wrong: a request fails and nobody knows whether it was committed.  Its outcome is
then "unknown": it sets no floor, and the checkers allow both.  When a fault may undo
commits (a restored or promoted server), :meth:`Load.pause` forgets what was promised.  And an
answer that a session cannot make sense of: that is an anomaly, or the session would end unheard.
"""

import contextlib
import http.client
import itertools
import json
import random
import threading
import time
import traceback
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
EVERYTHING = {"domain": [], "specification": WEB_FIELDS}
SERVER_DOWN = 0.1
"""Seconds to wait after a failure, so that a server that is down is not flooded."""

FINAL_READS = 6
"""How often each user reads everything at the end: by chance, each of four workers answers."""
FINAL_WAIT_S = 10
"""Until then a server that may lag behind must show what was written last."""

FAILURES = (
    *(OSError, http.client.HTTPException, json.JSONDecodeError, RpcError),
    *(psycopg2.Error, xmlrpc.client.Error),
)


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
    :param lab.postgres.Cluster replica: what answers reads if not ``recent``: they must show what
        it shows at that time, neither less nor more
    """

    def __init__(
        self,
        stage,
        port,
        *,
        seed=1,
        readers=READERS,
        writers=WRITERS,
        read_port=None,
        recent=True,
        replica=None,
    ):
        self.stage, self.port, self.read_port = stage, port, read_port or port
        self.recent, self.replica = recent, replica
        self.values = itertools.count(1)
        self.history_lock = threading.Lock()
        self.failures = []  # (epoch seconds, "read" or "write", what)
        self.broken = []  # what no session could make sense of, as text
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

    def __exit__(self, kind, *_exc):
        self._go.set()
        self._stop.set()
        for thread in self._threads:
            thread.join(REQUEST_TIMEOUT_S * 2)
            if thread.is_alive():
                self.broken.append("a session does not come to an end")
        if kind is None:
            self._read_all_at_the_end()

    # --- epochs ---------------------------------------------------------------------------------

    def _begin_epoch(self):
        self.bank = checks.Bank(self.stage.accounts, ACCOUNTS * START_BALANCE)
        self.recency, self.monotone = checks.Recency(), checks.Monotone()
        self.history = []
        self.epochs.append((self.bank, self.recency, self.monotone, self.history, self.recent))

    @contextlib.contextmanager
    def pause(self, *, forget=False, recent=None):
        """Within it no request is under way.

        :param bool forget: commits may be undone meanwhile: afterwards nothing is expected of
            what was seen before
        :param bool recent: given: whether reads must be recent from then on
        """
        self._go.clear()
        with self._idle:
            if not self._idle.wait_for(lambda: not self._busy, REQUEST_TIMEOUT_S * 2):
                raise TimeoutError("a session does not come to an end")
        yield
        if recent is not None:
            self.recent = recent
        if forget:
            self._begin_epoch()
            self._remember_start()
        self._go.set()

    def touch(self):
        """Nothing to do: see :class:`.scene.Nobody`."""

    def _remember_start(self):
        """The lists as they are now, as one transaction: its appends are nobody's otherwise."""
        lists = {key: _numbers(row[-1]) for key, row in self._in_database().items()}
        appends = [["append", key, value] for key, values in lists.items() for value in values]
        self.remember(-1, time.monotonic(), "ok", appends)

    def _in_database(self):
        """:return dict: by id, what PostgreSQL has, empty texts as Odoo shows them."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cr:
            cr.execute(f"SELECT id, x_name, x_balance, x_version, x_log FROM {MODEL} ORDER BY id")
            return {
                key: tuple(False if value is None else value for value in row)
                for key, *row in cr.fetchall()
            }

    def connect(self, where=None):
        """:return: a connection to the database, past Odoo.

        :param dict where: variables, by default those that Odoo has
        """
        where = where or self.stage.environment
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
            except Exception:
                self.broken.append(f"{kind} {number}: {traceback.format_exc()}")
                session.reset()
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

    def _read_all_at_the_end(self):
        """When nobody writes any more, every worker must say what the database says: a value that
        nobody read between the last write and the end would be wrong unseen."""
        try:
            wanted = self._in_database()
            for login in USERS:
                for _again in range(FINAL_READS):
                    self._read_all(login, wanted)
        except Exception as error:  # also an answer of another shape
            self.broken.append(f"at the end: {type(error).__name__}: {error}"[:300])

    def _read_all(self, login, wanted):
        until = time.monotonic() + (0 if self.recent else FINAL_WAIT_S)
        while True:
            session = _Reader(self, -2, random.Random(0))
            rpc = session.connect(self.read_port, login)
            start = time.monotonic()
            rows = rpc.call(MODEL, "web_search_read", [], {**EVERYTHING})["records"]
            found = {row.pop("id"): tuple(row[name] for name in WEB_FIELDS) for row in rows}
            session.reset()
            if found == wanted or time.monotonic() > until:
                break
            time.sleep(0.1)
        self.counts["final reads"] += 1
        if found != wanted:
            self.broken.append(f"at the end: {login} reads {found}, the database has {wanted}")
            return
        reads = [["read", key, _numbers(row[-1])] for key, row in found.items()]
        self.remember(f"final {login}", start, "ok", reads)

    # --- verdict --------------------------------------------------------------------------------

    def anomalies(self):
        """:return list: what no correct server would have answered, as readable text."""
        found = [f"not understood: {one}" for one in self.broken]
        for bank, recency, monotone, history, recent in self.epochs:
            found += [f"bank: {one}" for one in bank.anomalies]
            found += [f"monotone: {one}" for one in monotone.anomalies]
            found += [f"recency: {one}" for one in recency.anomalies]
            found += [
                f"list-append: {one}"
                for one in list_append.check(history, realtime=recent, per_session=recent)
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
            "final reads": self.counts["final reads"],
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
            try:
                self.rpc = rpc.login(login, login)
            except (KeyError, TypeError) as error:  # no session, since the server is half there
                raise RpcError("login", repr(error)) from error
        return self.rpc


class _Reader(_Session):
    def __init__(self, load, number, rng):
        super().__init__(load, number, rng)
        self.replica = None

    def reset(self):
        super().reset()
        if self.replica is not None:
            self.replica.close()
            self.replica = None

    def step(self):
        shape = self.rng.choice(("search", "search", "group", "read", "count"))
        login = USERS[self.number % len(USERS)]
        getattr(self, shape)(self.connect(self.load.read_port, login))

    def search(self, rpc):
        rows = self._rows(
            self.load.stage.accounts,
            lambda: rpc.call(MODEL, "web_search_read", [], EVERYTHING)["records"],
        )
        self.load.bank.answer({row["id"]: row["x_balance"] for row in rows})

    def read(self, rpc):
        first = LISTS_OF_A_READ * self.rng.randrange(SUBSETS)
        ids = self.load.stage.accounts[first : first + LISTS_OF_A_READ]
        self._rows(ids, lambda: rpc.call(MODEL, "read", [ids, ["x_version", "x_log"]]))

    def group(self, rpc):
        arguments = {"domain": [], "groupby": [], "aggregates": ["x_balance:sum", "__count"]}
        (row,) = rpc.call(MODEL, "formatted_read_group", [], arguments)
        self.load.bank.answer_sum(row["x_balance:sum"], row["__count"])

    def count(self, rpc):
        many = rpc.call(MODEL, "search_count", [[]])
        self.load.bank.answer_sum(ACCOUNTS * START_BALANCE, many)

    def _rows(self, expected, ask):
        """Take the floors down, ask, compare, and remember some of the lists.

        :param expected: ids of the rows; one that is missing in the answer shows nothing
        """
        load = self.load
        floors = self._floors()
        start = time.monotonic()
        rows = ask()
        ceilings = {} if load.recent else self._on_replica()
        versions = {row["id"]: row["x_version"] for row in rows}
        for key in expected:
            version = versions.get(key)
            load.recency.answer(key, version, floors.get(key), ceilings.get(key))
            load.monotone.answer(self.number, key, version)
        chosen = self.rng.sample(rows, min(len(rows), LISTS_OF_A_READ))
        reads = [["read", row["id"], _numbers(row["x_log"])] for row in chosen]
        load.remember(self.number, start, "ok", reads)
        return rows

    def _floors(self):
        load = self.load
        if not load.recent:
            return self._on_replica()
        return {key: load.recency.floor(key) for key in load.stage.accounts}

    def _on_replica(self):
        """:return dict: the versions that the replica shows at this moment."""
        load = self.load
        if load.replica is None:
            return {}
        if self.replica is None:
            self.replica = load.connect(load.replica.environment)
            self.replica.autocommit = True
        with self.replica.cursor() as cr:
            cr.execute(f"SELECT id, x_version FROM {MODEL}")
            return dict(cr.fetchall())


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
