"""Everything that a fault can happen to: PostgreSQL, Redis, a server with workers, sessions.

The one idea: PostgreSQL and Redis are reached through proxies, so that another server can
take their place while Odoo runs.  The cluster comes from a prepared copy, made once for each
state of the addon's code.

What may go wrong: a copy that was half made.  It gets its name only when it is finished.  And
another run, of another state of the code, that still needs its copy: those of a day are kept.
"""

import contextlib
import email.utils
import hashlib
import http.client
import importlib.util
import json
import os
import random
import shutil
import tempfile
import time
from pathlib import Path

import psutil

from bench.common import HOST, ROOT
from bench.databases import code_digest

from .load import Load
from .postgres import Cluster
from .proxy import Proxy
from .stage import Stage

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tiered-cache" / "proof"
KEPT_S = 24 * 3600
WARM_UP_S = 12
TICK_S = 5.5
"""A little longer than the addon takes to write its figures."""


def _redis_servers():
    # Loaded by its path: the package "tests" imports Odoo's test framework.
    path = ROOT / "tests" / "redis_server.py"
    spec = importlib.util.spec_from_file_location("redis_server", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REDIS = _redis_servers()
RedisServer = REDIS.RedisServer


def prepared(say=print):
    """:return Path: files of a stopped cluster with a stage in database ``proof`` (with the
    addon) and one in ``plain`` (without), and ``stages.json``."""
    lab = Path(__file__).parent
    state = f"{code_digest()}-{hash_of(lab / 'stage.py', lab / 'postgres.py')}"
    folder = CACHE / state
    if not (folder / "stages.json").exists():
        say("preparing a cluster (a minute, once for each state of the code)")
        CACHE.mkdir(parents=True, exist_ok=True)
        _forget_old()
        with tempfile.TemporaryDirectory(dir=CACHE) as place:
            _prepare(Path(place) / "made")
            shutil.rmtree(folder, ignore_errors=True)  # by an older version, half made
            os.rename(Path(place) / "made", folder)
    os.utime(folder)
    return folder


def _prepare(folder):
    with Cluster({"fsync": "off"}) as cluster:
        stages = {
            name: Stage(cluster, name, addon=addon).prepare()
            for name, addon in (("proof", True), ("plain", False))
        }
        cluster.stop()
        folder.mkdir()
        cluster.copy_files(folder / "data")
    found = {n: {"accounts": s.accounts, "actions": s.actions} for n, s in stages.items()}
    (folder / "stages.json").write_text(json.dumps(found))


def _forget_old():
    """Remove copies that nobody has taken for a day."""
    for folder in CACHE.iterdir():
        if time.time() - folder.stat().st_mtime > KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)


def hash_of(*paths):
    """:return str: changes with any of the files."""
    digest = hashlib.blake2b(digest_size=6)
    for path in paths:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


class Nobody:
    """Stands for the sessions where there are none."""

    def __init__(self, scene):
        self._scene = scene

    @contextlib.contextmanager
    def pause(self, **_expected):
        yield

    def touch(self):
        """Write, for a fault that needs values that get old; sessions do so all the time."""
        self._scene.cluster.sql(
            "UPDATE x_account SET x_version = x_version", self._scene.stage.database
        )


class Scene:
    """A context manager; one fault at a time happens to it.

    :param bool addon: whether the server has the addon; without it, it is what to compare with
    :param dict env: variables of the server
    :param dict redis: options of redis-server
    :ivar odoo_time: returns the time that Odoo's processes have, epoch seconds
    """

    def __init__(self, *, addon=True, seed=1, env=None, redis=None, say=print):
        self.addon, self.seed, self.say = addon, seed, say
        self.rng = random.Random(seed)
        self.env, self.redis_options = dict(env or {}), redis or {}
        self.load = Nobody(self)
        self.odoo_time = self._time_of_server
        self.replica = None
        self.killed = 0
        self.others = []  # loads on other databases, to be checked too
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            files = prepared(self.say)
            self.cluster = stack.enter_context(Cluster(files=files / "data"))
            self.database_proxy = stack.enter_context(Proxy(self.cluster.port))
            self.redis = stack.enter_context(RedisServer(**self.redis_options))
            self.redis_proxy = stack.enter_context(Proxy(self.redis.port))
            name = "proof" if self.addon else "plain"
            self.stage = Stage(self.cluster, name, addon=self.addon)
            known = json.loads((files / "stages.json").read_text())[name]
            self.stage.accounts, self.stage.actions = known["accounts"], known["actions"]
            self.stage.env["TIERED_CACHE_REDIS_URL"] = self.redis_url
            # Odoo goes through the proxy, the sessions' own SQL too.
            self.stage.port = self.database_proxy.port
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info):
        self.stack.__exit__(*exc_info)

    @property
    def redis_url(self):
        password = self.redis_options.get("requirepass")
        secret = f":{password}@" if password else ""
        return f"redis://{secret}127.0.0.1:{self.redis_proxy.port}/0"

    @contextlib.contextmanager
    def serving(self, **load_options):
        """Within it the server runs, and sessions work on it.

        :return Load: they have warmed the cache up
        """
        with self.stage.server(env=self.env) as self.server:
            load = Load(
                self.stage, self.server.port, seed=self.seed, replica=self.replica, **load_options
            )
            with load:
                time.sleep(WARM_UP_S)
                self.load = load
                yield load

    def move_to(self, cluster):
        """Another cluster takes the place of ours: Odoo and the sessions are led there."""
        self.cluster = self.stage.cluster = cluster
        self.database_proxy.switch(cluster.port)

    def _time_of_server(self):
        connection = http.client.HTTPConnection(HOST, self.server.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("HEAD", "/web/login")
            said = connection.getresponse().headers["Date"]
        return email.utils.parsedate_to_datetime(said).timestamp()

    def workers(self):
        """:return list: the processes that answer HTTP."""
        found = []
        for child in psutil.Process(self.server.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                command = child.cmdline()
                if "gevent" not in command and any("odoo" in part for part in command):
                    found.append(child)
        return found

    def kill_worker(self):
        """SIGKILL for one of the workers.

        :return bool: whether there was one
        """
        with contextlib.suppress(psutil.Error, IndexError):
            self.rng.choice(self.workers()).kill()
            self.killed += 1
            return True
        return False

    def figures(self):
        """:return tuple: calls answered from a tier, and all calls, so far."""
        if not self.addon:
            return 0, 0
        rows = self.cluster.sql(
            "SELECT coalesce(sum(hits), 0), coalesce(sum(calls), 0) FROM cache_metric",
            self.stage.database,
        )
        return tuple(int(value) for value in rows[0])

    def faults(self):
        """:return dict: how often the addon has counted each kind of fault so far."""
        if not self.addon:
            return {}
        rows = self.cluster.sql(
            "SELECT relation, sum(count) FROM cache_metric WHERE outcome = 'fault' GROUP BY 1",
            self.stage.database,
        )
        return {kind: int(count) for kind, count in rows}

    def hit_share(self, since):
        """:return float: the share of hits since :meth:`figures` returned ``since``."""
        hits, calls = (now - then for now, then in zip(self.figures(), since, strict=True))
        return hits / calls if calls > 0 else 0.0
