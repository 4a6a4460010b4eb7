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


class Configuration:
    """:param params: rows of ``ir_config_parameter``
    :param rules: active rows of ``cache_rule`` as dictionaries, in order
    """

    def __init__(self, params: dict[str, str], rules):
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
        self.policy = Policy(self.settings, self.rules)

    def __eq__(self, other):
        return (self.uuid, self.secret, self.settings, self.rules) == (
            other.uuid,
            other.secret,
            other.settings,
            other.rules,
        )

    __hash__ = None


def read(cr) -> Configuration:
    """The configuration as a cursor's snapshot shows it."""
    cr.execute(_PARAMETERS)
    params = dict(cr.fetchall())
    cr.execute(_RULES)
    return Configuration(params, cr.dictfetchall())


def _changed(old: Configuration, new: Configuration, *names: str) -> bool:
    return any(getattr(old.settings, n) != getattr(new.settings, n) for n in names)


def build_hierarchy(engine, old: Configuration, new: Configuration) -> Hierarchy:
    """The tiers that the settings ask for; tiers whose options did not change are kept."""
    kept = engine.hierarchy.tiers
    settings = new.settings
    hierarchy = Hierarchy({}, engine.post_entry)
    tiers = hierarchy.tiers
    if "l1" in kept and not _changed(old, new, "l1_max_entries", "l1_max_mb", "l1_policy"):
        tiers["l1"] = kept["l1"]
        tiers["l1"].on_evict = hierarchy.remember_eviction
    elif settings.l1_max_entries and settings.l1_max_mb:
        tiers["l1"] = MemoryTier(
            max_entries=settings.l1_max_entries,
            max_bytes=int(settings.l1_max_mb * 2**20),
            policy=settings.l1_policy,
            on_evict=hierarchy.remember_eviction,
        )
    identity = (old.uuid, old.secret) == (new.uuid, new.secret)
    if settings.redis_url and new.secret:
        unchanged = identity and not _changed(
            old, new, "redis_url", "redis_timeout_ms", "max_entry_kb"
        )
        tiers["l2"] = (
            kept["l2"]
            if "l2" in kept and unchanged
            else RedisTier(
                settings.redis_url,
                prefix=f"tc:{new.uuid}:",
                seal=Seal(seal_secret(new.secret)),
                timeout_ms=settings.redis_timeout_ms,
                breaker=CircuitBreaker(),
                max_entry_bytes=settings.max_entry_kb * 1024 + 65536,
            )
        )
    if settings.l3_enabled:
        for place, before in ((tiers, kept), (hierarchy.writers, engine.hierarchy.writers)):
            place["l3"] = before.get("l3") or DatabaseTier(engine.connect)
    return hierarchy


def seal_secret(database_secret: str) -> bytes:
    """The key of the seals, derived so that it tells nothing about the secret."""
    return hashlib.blake2b(
        database_secret.encode(), digest_size=32, person=b"tiered_cache"
    ).digest()
