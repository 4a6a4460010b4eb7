"""The measured side of the in-process parts; runs inside ``odoo shell``.

The one idea: a process that does what it is told over a UNIX socket, so that two of them (one
plain, one with the addon) can be alternated call by call and any noise hits both.  Time is taken
here, next to the call.  Each line is a JSON list ``[operation, argument…]``, answered by
``{"ok": value}`` or ``{"error": traceback}``.
"""

import gc
import json
import socket
import time
import traceback

import psutil

from odoo import api
from odoo.service.model import call_kw

from . import memory, writes

ADMIN_UID = 2  # base.user_admin


class Child:
    """The operations; a public method is one.

    :param env: the environment of ``odoo shell``, whose cursor stays unused
    """

    def __init__(self, env):
        env.cr.rollback()
        self.registry = env.registry
        self.payloads = {}
        self.writes = None

    def call(self, model, method, args, kwargs):
        """Make one call in a transaction of its own.

        :return dict: ``ms`` from the environment's birth to the result (opening and closing the
            cursor aside), ``queries`` that the call sent
        """
        with self.registry.cursor() as cr:
            before = cr.sql_log_count
            start = time.perf_counter()
            env = api.Environment(cr, ADMIN_UID, {})
            call_kw(env[model], method, args, kwargs)
            elapsed_ms = (time.perf_counter() - start) * 1000
            return {"ms": elapsed_ms, "queries": cr.sql_log_count - before}

    def floor(self, model, method, args, kwargs):
        """What a hit cannot beat: ``SELECT 1`` and one decode of the same answer's payload.

        :return float: milliseconds, None without the addon
        """
        unpack = _unpack()
        if unpack is None:
            return None
        key = json.dumps([model, method, args, kwargs])
        if key not in self.payloads:
            self.payloads[key] = self._payload(model, method, args, kwargs)
        payload = self.payloads[key]
        with self.registry.cursor() as cr:
            start = time.perf_counter()
            cr.execute("SELECT 1")
            cr.fetchone()
            unpack(payload)
            return (time.perf_counter() - start) * 1000

    def _payload(self, model, method, args, kwargs):
        from odoo.addons.tiered_cache.services import codec

        with self.registry.cursor() as cr:
            env = api.Environment(cr, ADMIN_UID, {})
            return codec.pack(call_kw(env[model], method, args, kwargs))

    def flush(self):
        """Let the addon finish what it does in the background: guards, writes to L3."""
        engine = self._engine()
        if engine:
            engine.flush()

    def stats(self):
        """:return dict | None: the addon's own counters, as JSON can carry them."""
        engine = self._engine()
        return json.loads(json.dumps(engine.stats(), default=str)) if engine else None

    def _engine(self):
        if "cache.manager" not in self.registry.models:
            return None
        from odoo.addons.tiered_cache.services.engine import engine_for

        return engine_for(self.registry)

    def prepare_writes(self, repeats):
        """Find and create what the timed writes need, see ``writes``."""
        self.writes = writes.Writes(self.registry, repeats)

    def write(self, name, index):
        """:return float: milliseconds of one write with its commit."""
        return getattr(self.writes, name)(index)

    def touched(self, name, index):
        """:return list: relations that the write touches, see ``writes``."""
        return self.writes.touched(name, index)

    def guard(self, relations):
        """:return list: those of the relations that carry no trigger of the addon."""
        unguarded = writes.read_relations(self.registry, relations)
        self.flush()
        return unguarded and writes.unguarded(self.registry, relations)

    def read_many(self, start, count):
        """:return int: resident bytes after that many different reads, see ``memory``."""
        memory.read_many(self.registry, start, count)
        return self.resident()

    def resident(self):
        """:return int: resident bytes of this process, garbage collected."""
        gc.collect()
        return psutil.Process().memory_info().rss


def _unpack():
    try:
        from odoo.addons.tiered_cache.services import codec
    except ImportError:
        return None
    return codec.unpack


def serve(env, path, operations=Child):
    """Answer until the other side closes the socket.

    :param str path: of the UNIX socket that the measuring process listens on
    :param operations: class whose public methods may be asked for
    """
    child = operations(env)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        with connection.makefile("rw") as stream:
            for line in stream:
                operation, *arguments = json.loads(line)
                try:
                    answer = {"ok": getattr(child, operation)(*arguments)}
                except Exception:  # whatever it was, the measuring process reports it
                    answer = {"error": traceback.format_exc()}
                stream.write(json.dumps(answer) + "\n")
                stream.flush()
