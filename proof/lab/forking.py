"""A process that has used the cache and forks; its children use it, too.

The one idea: the process does what Odoo's prefork server does before it forks, it closes the
connections of Odoo's own pool, and nothing else: threads, locks and connections of the addon are
left as they are.  Parent and child go on reading, and compare each answer with the same call
without the cache in the same transaction.

What may go wrong: a child waits for a lock that a thread of its parent held.  It is ended by an
alarm, and counts as an anomaly.
"""

import contextlib
import json
import os
import tempfile
import time

from bench.common import Process, ServerFailed

ALARM_S = 30
START_TIMEOUT_S = 120

PROGRAM = """
import json, os, signal, time
from odoo import api, sql_db
from odoo.addons.tiered_cache.services.engine import engine_for
from odoo.addons.tiered_cache.services.reading import plain_reads

env.cr.close()
registry = env.registry
FIELDS = ['x_name', 'x_balance', 'x_version', 'x_log']

def same():
    with registry.cursor() as cr:
        accounts = api.Environment(cr, 2, {})['x_account']
        rows = accounts.search_read([], FIELDS, order='id')
        cr.transaction.clear()
        with plain_reads():
            return rows == accounts.search_read([], FIELDS, order='id')

def tell(**what):
    out.write(json.dumps(what) + '\\n')
    out.flush()

def work(number):
    wrong = sum(not same() for _again in range(20))
    engine = engine_for(registry)
    hits = engine.metrics.snapshot()['hits'] if engine.pid == os.getpid() else {}
    tell(child=number, reads=20, wrong=wrong, hits=sum(hits.values()))

number = 0
with open(PATH, 'w') as out:
    while not os.path.exists(PATH + '.stop'):
        number += 1
        tell(parent=number, reads=1, wrong=int(not same()))
        sql_db.close_all()
        pid = os.fork()
        if not pid:
            try:
                signal.alarm(ALARM_S)
                work(number)
            except BaseException as error:
                tell(child=number, error=repr(error))
            finally:
                os._exit(0)
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            tell(parent=number, reads=1, wrong=int(not same()))
            time.sleep(0.01)
        if ended[1]:
            tell(child=number, error=f'ended with status {ended[1]}')
"""


class Children:
    """What they saw; for a scene, as a load.

    :param list rows: what the program has told
    """

    def __init__(self, rows):
        self.rows = rows
        self.failures = []  # a read of a child that fails is an anomaly

    @property
    def hits(self):
        """How often the cache has answered a child."""
        return sum(row.get("hits", 0) for row in self.rows)

    def checked(self):
        """:return dict: as of a load"""
        return {
            "reads": sum(row.get("reads", 0) for row in self.rows),
            "children": sum("hits" in row for row in self.rows),
            "hits of children": self.hits,
        }

    def anomalies(self):
        """:return list: texts"""
        return [f"fork: {row}" for row in self.rows if row.get("wrong") or "error" in row]


@contextlib.contextmanager
def forking(scene):
    """Within it, a process forks again and again; the value is a function that returns the
    :class:`Children` so far.

    :raise ServerFailed: it has ended
    """
    with tempfile.TemporaryDirectory(prefix="tiered-cache-") as folder:
        path = os.path.join(folder, "told")
        program = f"PATH, ALARM_S = {path!r}, {ALARM_S}\n{PROGRAM}"
        args = ["shell", "-d", scene.stage.database, "--no-http", "--log-level=error"]
        env = {**scene.stage.environment, **scene.env}
        with Process(args, env=env, stdin=program) as process:

            def children():
                process.check_alive()
                with open(path) as file:
                    return Children([json.loads(line) for line in file if line.endswith("\n")])

            until = time.monotonic() + START_TIMEOUT_S
            while not os.path.exists(path) or not children().checked()["children"]:
                process.check_alive()
                if time.monotonic() > until:
                    raise ServerFailed(f"no child has read anything:\n{process.log()}")
                time.sleep(0.2)
            yield children
            with open(f"{path}.stop", "w"):
                pass
