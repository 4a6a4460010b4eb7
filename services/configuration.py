"""Settings, rules and identity of a database, and the tiers that follow from them.

The one idea: configuration is data of the database, so it is read with the same cursor and
re-read when the version of its relations changes; every worker follows a change with its
next transaction, without a message.

What may go wrong: a bad value.  :mod:`options` skips it and says so; it never stops Odoo.
"""

from __future__ import annotations

import hashlib

from . import options
from .breaker import CircuitBreaker
from .entry import Seal
from .hierarchy import Hierarchy
from .named_plan import NAMESPACE_COLUMNS, NamedPlan, longest_of, plan_for
from .policy import RULE_COLUMNS, Policy
from .tiers.database import DatabaseTier
from .tiers.memory import MemoryTier
from .tiers.redis import RedisTier

_PARAMETERS = """
SELECT key, value FROM ir_config_parameter
 WHERE key LIKE 'tiered\\_cache.%' OR key IN ('database.uuid', 'database.secret')
"""
_RULES = f"""
SELECT {", ".join(RULE_COLUMNS)} FROM cache_rule WHERE active ORDER BY sequence, id
"""
_NAMESPACES = f"SELECT {', '.join(NAMESPACE_COLUMNS)} FROM cache_namespace WHERE active"

_SUSPEND = """
INSERT INTO cache_rule (model_id, model, methods, enabled, active, sequence, use_l1, use_l2,
                        use_l3, min_cost_ms, note, state)
SELECT m.id, m.model, %(method)s, FALSE, TRUE, -1, TRUE, TRUE, TRUE, -1, %(note)s, 'off'
  FROM ir_model m
 WHERE m.model = %(model)s AND NOT EXISTS (
       SELECT FROM cache_rule r WHERE r.model = m.model AND r.methods = %(method)s
          AND r.active AND NOT r.enabled)
"""

NAMED_TTL_S = 24 * 3600
"""A named entry lives no longer, whatever its code says, unless a namespace says so."""

MAX_NAMED_PLANS = 1000
"""Combinations of namespace and options that are remembered."""

REMOVAL_TTL_S = 366 * 24 * 3600
"""Longer than any entry may live; see :data:`.options.MAX_TTL_S`."""


def write_suspension(cr, model: str, method: str) -> None:
    """A rule that switches a method off, since the auditor found a difference."""
    cr.execute(
        _SUSPEND,
        {
            'model': model,
            'method': method,
            'note': "Written by the auditor: a cached answer was not what the database said. The "
            "server's log says where they differ. Delete this rule when the cause is found.",
        },
    )


class Configuration:
    """:param params: rows of ``ir_config_parameter``
    :param rules: active rows of ``cache_rule`` as dictionaries, in order
    :param namespaces: active rows of ``cache_namespace`` by name
    """

    def __init__(self, params: dict[str, str], rules, namespaces=()):
        self.uuid = params.get("database.uuid") or ""
        self.secret = params.get("database.secret") or ""
        prefix = options.PARAMETER_PREFIX
        self.settings = options.load(
            {
                name.removeprefix(prefix): value
                for name, value in params.items()
                if name.startswith(prefix)
            }
        )
        self.rules = list(rules)
        self.namespaces = dict(namespaces)
        self.policy = Policy(self.settings, self.rules)
        self._longest_ttl_s = self._longest()
        self._named_plans: dict[tuple, NamedPlan] = {}

    def __eq__(self, other):
        return (self.uuid, self.secret, self.settings, self.rules, self.namespaces) == (
            other.uuid,
            other.secret,
            other.settings,
            other.rules,
            other.namespaces,
        )

    __hash__ = None

    @property
    def longest_ttl_s(self) -> float:
        """No entry is served that is older, so a removal need not be known for longer."""
        return self._longest_ttl_s

    def _longest(self) -> float:
        settings = self.settings
        ttls = [settings.l1_ttl_s, settings.l2_ttl_s, settings.l3_ttl_s, NAMED_TTL_S]
        ttls.append(self.policy.longest_ttl_s)
        ttls += [longest_of(namespace) for namespace in self.namespaces.values()]
        return max(ttls)

    def named_plan(self, name: str, options: dict) -> NamedPlan:
        """How a named entry is cached.

        :param options: of the call; see :mod:`.named_plan`
        :raise BadOption: with a sentence
        """
        namespace = self._namespace(name)
        key = (namespace, repr(options))
        plan = self._named_plans.get(key)
        if plan is None:
            plan = plan_for(options, self.namespaces.get(namespace), self.longest_ttl_s)
            if len(self._named_plans) < MAX_NAMED_PLANS:
                self._named_plans[key] = plan
        return plan

    def _namespace(self, name: str) -> str:
        """The longest namespace that a name begins with, or ''."""
        while name and self.namespaces:
            if name in self.namespaces:
                return name
            name = name.rpartition(':')[0]
        return ''


def read(cr) -> Configuration:
    """The configuration as a cursor's snapshot shows it."""
    cr.execute(_PARAMETERS)
    params = dict(cr.fetchall())
    cr.execute(_RULES)
    rules = cr.dictfetchall()
    return Configuration(params, rules, _read_namespaces(cr))


def _read_namespaces(cr) -> dict[str, dict]:
    cr.execute(_NAMESPACES)
    return {row['name']: row for row in cr.dictfetchall()}


def build_hierarchy(engine, old: Configuration, new: Configuration) -> Hierarchy:
    """The tiers that the settings ask for; tiers whose options did not change are kept."""
    before = engine.hierarchy
    hierarchy = Hierarchy({}, engine.post_entry, jitter_percent=new.settings.ttl_jitter_percent)
    if new.settings.l1_max_entries and new.settings.l1_max_mb:
        unchanged = not _changed(old, new, 'l1_max_entries', 'l1_max_mb', 'l1_policy')
        l1 = hierarchy.tiers['l1'] = _kept(before.tiers, 'l1', unchanged) or _memory(new)
        l1.on_evict, l1.on_expire = hierarchy.evicted, hierarchy.expired
    if new.settings.redis_url and new.secret:
        unchanged = (old.uuid, old.secret) == (new.uuid, new.secret) and not _changed(
            old,
            new,
            'redis_url',
            'redis_timeout_ms',
            'max_entry_kb',
            'l2_max_entries',
            'l2_max_mb',
        )
        hierarchy.tiers['l2'] = _kept(before.tiers, 'l2', unchanged) or redis_tier(new)
    if new.settings.l3_enabled:
        unchanged = not _changed(old, new, 'l3_max_entries', 'l3_max_mb')
        for place, place_before in (
            (hierarchy.tiers, before.tiers),
            (hierarchy.writers, before.writers),
        ):
            place['l3'] = _kept(place_before, 'l3', unchanged) or DatabaseTier(
                engine.connect,
                max_entries=new.settings.l3_max_entries or None,
                max_mb=new.settings.l3_max_mb or None,
            )
    for tier in hierarchy.all():
        tier.on_fault = engine.metrics.fault
    return hierarchy


def _changed(old: Configuration, new: Configuration, *names: str) -> bool:
    return any(getattr(old.settings, name) != getattr(new.settings, name) for name in names)


def _kept(tiers: dict, name: str, unchanged: bool):
    return tiers.get(name) if unchanged else None


def _memory(config: Configuration) -> MemoryTier:
    settings = config.settings
    return MemoryTier(
        max_entries=settings.l1_max_entries,
        max_bytes=int(settings.l1_max_mb * 2**20),
        policy=settings.l1_policy,
    )


def redis_tier(config: Configuration, least_timeout_ms: int = 0) -> RedisTier:
    """L2 as configured.

    :param least_timeout_ms: for who has more time than a request
    """
    settings = config.settings
    return RedisTier(
        settings.redis_url,
        prefix=redis_prefix(config.uuid),
        seal=Seal(seal_secret(config.secret)),
        timeout_ms=max(settings.redis_timeout_ms, least_timeout_ms),
        breaker=CircuitBreaker(),
        # the payload is limited; dependencies and names come on top
        max_entry_bytes=settings.max_entry_kb * 1024 + 65536,
        max_entries=settings.l2_max_entries or None,
        max_bytes=settings.l2_max_mb * 2**20 or None,
    )


def redis_prefix(uuid: str) -> str:
    """What the keys of a database begin with in Redis."""
    return f'tc:{uuid}:'


def seal_secret(database_secret: str) -> bytes:
    """The key of the seals, derived so that it tells nothing about the secret."""
    return hashlib.blake2b(
        database_secret.encode(), digest_size=32, person=b"tiered_cache"
    ).digest()
