"""One worker of the leak hunt; runs inside ``odoo shell`` and does what it is told.

The one idea: every read happens twice in one transaction, through the cache and without it, and
the two are compared by value, by type and by exception.  The transaction is new for each read, as
for a request, with Odoo's signals looked at before.

What may go wrong: plain Odoo itself answers in two ways in one transaction (an order that nothing
decides).  So a difference counts only where two plain answers agree.
"""

import contextlib
import hashlib
import json
import random
import traceback

import psycopg2

from odoo import api
from odoo.addons.tiered_cache.services import auditor, reading, shapes
from odoo.addons.tiered_cache.services.engine import engine_for
from odoo.addons.tiered_cache.services.metrics import Metrics
from odoo.exceptions import UserError
from odoo.modules.registry import Registry
from odoo.service.model import call_kw
from odoo.sql_db import db_connect
from odoo.tools import SQL

from bench import child as bench_child
from bench import viewspec
from proof.lab.comparing import same

from . import leaks_changes, leaks_plants, leaks_world

IDS = 6
LIMIT = 40
FIELDS = 14
NO_TABLE = "no table"


class Seen(Metrics):
    """Figures that remember what the last read met."""

    def __init__(self):
        super().__init__()
        self.events = []
        self.wrong = []
        self.audits = 0

    def hit(self, tier, model, method, *args, **kwargs):
        self.events.append(("hit", tier, ""))
        return super().hit(tier, model, method, *args, **kwargs)

    def miss(self, reason, model, method, duration_ms=0.0, relation=None):
        self.events.append(("miss", reason, relation or ""))
        return super().miss(reason, model, method, duration_ms, relation)

    def audit(self, model, method, ok):
        self.audits += 1
        if not ok:
            self.wrong.append((model, method))
        return super().audit(model, method, ok)


class Child:
    """The operations; a public method is one.

    :param env: the environment of ``odoo shell``, whose cursor stays unused
    """

    def __init__(self, env):
        env.cr.rollback()
        env.cr.close()
        self.metrics = {}

    # -- making the world -------------------------------------------------------------------

    def build(self, database, full):
        """See :func:`leaks_world.build`."""
        with self._superuser(database) as env:
            return leaks_world.build(env, full)

    def seats(self, database):
        """See :func:`leaks_world.seats`."""
        with self._superuser(database) as env:
            return leaks_world.seats(env)

    def diverge(self, database, mark):
        """See :func:`leaks_world.diverge`."""
        with self._superuser(database) as env:
            leaks_world.diverge(env, mark)

    def plant(self, name):
        """Make the cache of this process wrong on purpose; see :mod:`leaks_plants`."""
        leaks_plants.plant(name)

    def unplant(self):
        """Make it right again."""
        leaks_plants.unplant()

    def restart(self, database):
        """Forget what a new worker would not know: the values of ``tools.ormcache``."""
        for cache in Registry(database)._Registry__caches.values():
            cache.clear()

    # -- reading ----------------------------------------------------------------------------

    def start(self, database, uids):
        """Open a database and guard all its tables, so that no read waits for that.

        :return dict: models to read: all with records of their own, those with record rules; who
            of the users may read each
        """
        engine = self._engine(database)
        with self._superuser(database) as env:
            tables = {
                model._table for model in env.values() if not model._abstract and model._auto
            } | {
                field.relation
                for model in env.values()
                for field in model._fields.values()
                if field.type == "many2many" and field.store
            }
            found = engine.catalogue
            names = [name for name in tables if found.tree(name)]
            engine.guards.want(sorted(names))
            for _attempt in range(20):
                engine.guards.work()
                if not engine.guards.stats()["waiting"]:
                    break
            models = [
                name
                for name, model in env.items()
                if not (model._abstract or model._transient or name.startswith("cache."))
            ]
            ruled = env["ir.rule"].search([]).mapped("model_id.model")
            return {
                "models": sorted(models),
                "ruled": sorted(set(ruled) & set(models)),
                "rules": env["ir.rule"].search_count([]),
                "readers": {
                    name: [uid for uid in uids if env(user=uid)[name].has_access("read")]
                    for name in models
                },
                "errors": {k: str(v) for k, v in engine.guards.stats()["errors"].items()},
            }

    def calls(self, database, model, uid):
        """Reads of a model as a client makes them: what its list and form show, and more.

        :param int uid: who looks at the views
        :return list: method, arguments and keyword arguments
        """
        with self._superuser(database) as env, reading.plain_reads():
            return list(self._calls(env(user=uid)[model], env))

    def _calls(self, model, sudo):
        every = sudo[model._name].fields_get()
        names = [name for name in plain_names(every) if not model._fields[name].groups]
        ids = self._ids(sudo[model._name])
        yield "fields_get", [], {}
        yield "search_count", [[]], {}
        yield "search_read", [[], names], {"limit": LIMIT, "order": "id"}
        yield "name_search", [], {"name": "", "domain": [], "limit": LIMIT}
        yield "web_name_search", ["", {"display_name": {}}], {"limit": LIMIT}
        if ids:
            yield "read", [ids, names], {}
            yield "read", [ids[:1], names], {}
            yield "read", [ids[-1:], [*names, "display_name"]], {}
        groups = groupable(every)
        if groups:
            aggregates = ["__count"]
            yield "formatted_read_group", [[], groups[:1], aggregates], {}
            yield "web_read_group", [[], groups[:1]], {"aggregates": aggregates, "limit": LIMIT}
        yield from self._progress_bar(every, groups)
        secret = leaks_world.SECRET
        if secret in every:
            yield "search_read", [[], ["display_name", secret]], {"limit": LIMIT}
            yield "search_count", [[[secret, "like", "secret 1"]]], {}
        yield from self._views(sudo[model._name], ids)

    @staticmethod
    def _progress_bar(every, groups):
        for name in groups:
            if every[name]["type"] == "selection":
                colors = {str(key): "success" for key, _label in every[name]["selection"]}
                bar = {"field": name, "colors": colors}
                yield "read_progress_bar", [[], groups[0], bar], {}
                return

    @staticmethod
    def _views(model, ids):
        kinds = [[False, "list"], [False, "form"], [False, "search"]]
        yield "get_views", [kinds], {}
        try:
            views = model.get_views(kinds)
        except Exception:  # a model without a working view has only the other calls
            return
        names = {"uid": model.env.uid, "allowed_company_ids": [1], "active_id": 1}
        for kind, method in (("list", "web_search_read"), ("form", "web_read")):
            arch = viewspec.Arch(views["views"][kind]["arch"], model._name, views["models"], names)
            # what a group hides is asked for by name elsewhere: a refusal is never a hit
            specification = {
                name: value
                for name, value in arch.specification().items()
                if not model._fields[name].groups
            }
            if method == "web_search_read":
                yield method, [[], specification], {"limit": LIMIT, "count_limit": 1000}
            elif ids:
                yield method, [ids[:2], specification], {}
                yield method, [ids[-2:], {"display_name": {}, **specification}], {}

    @staticmethod
    def _ids(model):
        """Ids all over a table, whoever may see them."""
        if model._table_query is not None or not model._auto:
            try:
                return model.search([], limit=IDS).ids
            except UserError:  # it is made for a field of another model only
                return []
        model.env.cr.execute(SQL("SELECT id FROM %s ORDER BY id", SQL.identifier(model._table)))
        ids = [id_ for (id_,) in model.env.cr.fetchall()]
        step = max(1, len(ids) // IDS)
        return ids[::step][:IDS]

    def read(self, database, reads):
        """Make reads, each as a request.

        :param list reads: uid, context, model, method, arguments, keyword arguments
        :return list: per read: outcome ('hit' or 'miss'), tier or reason, detail, a digest of
            the answer, the name of its exception or '', and what is wrong or ''
        """
        return [self._read_one(database, *one) for one in reads]

    def _read_one(self, database, uid, context, model, method, args, kwargs):
        registry = Registry(database).check_signaling()
        engine = self._engine(database)
        engine.suspender.resume()  # answers that are stale on purpose are no reason to stop
        metrics = self.metrics[database]
        metrics.events, metrics.wrong, metrics.audits = [], [], 0
        with contextlib.closing(db_connect(database).cursor()) as cr:
            env = api.Environment(cr, uid, context)
            kwargs = {**kwargs, "context": context}

            def ask():
                return attempt(lambda: call_kw(env[model], method, args, kwargs), cr)

            def plain():
                env.invalidate_all(flush=False)
                with reading.plain_reads():
                    return ask()

            served = ask()
            hits = [event for event in metrics.events if event[0] == "hit"]
            event = (hits or metrics.events[-1:] or [("miss", "not asked", "")])[0]
            computed = plain()
            wrong = ""
            if metrics.wrong:
                wrong = f"the auditor found {metrics.wrong}"
            elif not equal(method, served, computed) and equal(method, computed, plain()):
                wrong = describe(served, computed)
            cr.rollback()
            registry.reset_changes()
        return [*event, digest(served), served[1], wrong, metrics.audits]

    def flush(self, database):
        """Write to the shared tiers what waits for it."""
        self._engine(database).outbox.flush()

    def forget(self, database, tiers):
        """Empty some tiers, so that others must answer."""
        hierarchy = self._engine(database).hierarchy
        for name in tiers:
            if name in hierarchy.tiers:
                hierarchy.tiers[name].clear()

    def tiers(self, database):
        """:return list: names of the tiers that work here, faults by tier."""
        tiers = self._engine(database).hierarchy.tiers
        return [list(tiers), {name: dict(tier.faults) for name, tier in tiers.items()}]

    # -- changing ---------------------------------------------------------------------------

    def change(self, database, kind, seed, models, uid):
        """Make a change and commit it.

        :return list: what was done in words (None: it does not apply), how to undo it
        """
        with self._superuser(database) as env:
            change = leaks_changes.Change(
                env, random.Random(seed), models, env["res.users"].browse(uid)
            )
            what = getattr(change, kind)()
            if what is None:
                env.cr.rollback()
                return [None, []]
            env.cr.commit()
            env.registry.signal_changes()
            return [what, json.loads(json.dumps(change.undo_list, default=str))]

    def undo(self, database, steps):
        """Take a change back and commit."""
        with self._superuser(database) as env:
            leaks_changes.undo(env, steps)
            env.cr.commit()
            env.registry.signal_changes()

    # -- how --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _superuser(self, database):
        registry = Registry(database).check_signaling()
        with contextlib.closing(db_connect(database).cursor()) as cr:
            try:
                yield api.Environment(cr, api.SUPERUSER_ID, {"lang": "en_US"})
            finally:
                cr.rollback()
                registry.reset_changes()

    def _engine(self, database):
        engine = engine_for(Registry(database))
        if not isinstance(engine.metrics, Seen):
            engine.metrics = self.metrics[database] = Seen()
        return engine


def attempt(call, cr):
    """:return tuple: (value or None, name of the exception or '', its text)"""
    try:
        return call(), "", ""
    except psycopg2.Error as error:
        cr.rollback()
        return None, type(error).__name__, type(error).__name__
    except Exception as error:
        return None, type(error).__name__, str(error)


def equal(method, left, right):
    """Whether two attempts ended the same way."""
    if left[1:] != right[1:]:
        return False
    return same(shapes.comparable(method, left[0]), shapes.comparable(method, right[0]))


def describe(served, computed):
    """What differs, for the report; the databases hold demo data only."""
    if served[1] or computed[1]:
        return f"served {served[1:] or 'a value'!r}, computed {computed[1:] or 'a value'!r}"
    found = auditor.difference(served[0], computed[0])
    return f"{found}: served {str(served[0])[:300]}, computed {str(computed[0])[:300]}"


def digest(attempted):
    """Equal for equal answers."""
    text = json.dumps(attempted[:2], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def plain_names(every):
    """Stored fields of every kind, binary ones aside; owners first: rules are about them."""
    names = [
        name
        for name, values in sorted(every.items())
        if values.get("store")
        and values["type"] not in ("binary", "properties", "properties_definition", "json")
    ]
    first = [n for n in ("name", "user_id", "company_id", "partner_id", "state") if n in names]
    relational = [n for n in names if every[n]["type"] in ("many2one", "many2many", "one2many")]
    return list(dict.fromkeys([*first, *relational[:6], *names]))[:FIELDS]


def groupable(every):
    """Fields to group by; owners and states first."""
    names = [
        name
        for name in viewspec.groupable_fields(every)
        if every[name]["type"] in ("many2one", "selection", "boolean", "char")
    ]
    first = [name for name in ("user_id", "company_id", "state", "partner_id") if name in names]
    return list(dict.fromkeys([*first, *names]))


def serve(env, path):
    """Answer until the other side closes the socket."""
    try:
        bench_child.serve(env, path, Child)
    except Exception:
        traceback.print_exc()
        raise
