"""``env['cache.manager']``: what modules, buttons and RPC clients may ask of the cache.

The one idea: a façade.  Every method checks who is calling and what was passed, hands over
to :mod:`services`, and returns plain values.

What may go wrong: the caller may not (AccessError), or asked for something that does not
exist or cannot be read (UserError, with what to do); nothing has changed then.
"""

import logging

from odoo import api, models
from odoo.exceptions import AccessError, UserError

from ..services import configuration, keys, redis_probe, removal
from ..services.engine import engine_for

_logger = logging.getLogger(__name__)

GROUP_USER = 'tiered_cache.group_cache_user'
GROUP_ADMIN = 'tiered_cache.group_cache_admin'

SHOWN_TO_USERS = (
    'database',
    'started_at',
    'enabled',
    'available',
    'capture',
    'since',
    'calls',
    'hits',
    'misses',
    'hit_rate',
    'audited',
    'differences',
)
"""What sums over everybody's reads, without sizes, times, tables and models: who looks before
and after somebody else's read would learn how large its answer was."""


def _without_none(value):
    """XML-RPC cannot carry None; Odoo says False."""
    if isinstance(value, dict):
        return {str(key): _without_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return False if value is None else value


class CacheManager(models.AbstractModel):
    _name = 'cache.manager'
    _description = "Cache Manager"

    @api.model
    def get_stats(self):
        """Figures of the process that answers.

        :return: see :meth:`services.engine.Engine.stats`; for Cache Users who are no Cache
            Administrators only :data:`SHOWN_TO_USERS` of it
        """
        self._check_group(GROUP_USER)
        stats = self._engine().stats()
        if not self._may(GROUP_ADMIN):
            stats = {name: stats[name] for name in SHOWN_TO_USERS}
        return _without_none(stats)

    @api.model
    def invalidate_key(self, key):
        """Remove one entry from all tiers of all workers.

        :param str key: e.g. 'v1:orm:res.partner:read:0f…'
        :return: how many entries went at once, by tier; other workers' L1 follow with their
            next transaction after this one is committed
        :rtype: dict[str, int]
        """
        self._check_group(GROUP_ADMIN)
        self._check_key(keys.validate_key, key)
        return self._removed(f"key {key}", removal.remove_key(self._engine(), self.env.cr, key))

    @api.model
    def invalidate_pattern(self, pattern):
        """Remove every entry whose key matches, as :meth:`invalidate_key` does.

        :param str pattern: a key with the wildcards ``*``, ``?`` and ``[abc]``
        """
        self._check_group(GROUP_ADMIN)
        self._check_key(keys.validate_pattern, pattern)
        return self._removed(
            f"pattern {pattern}", removal.remove_pattern(self._engine(), self.env.cr, pattern)
        )

    @api.model
    def invalidate_model(self, model=None, flush=True):
        """Remove what was read by calling a model, or from its table.

        Odoo itself calls the method of this name on any model, with names of fields or with
        nothing, to drop its own in-memory values; that still means what it means elsewhere.
        ``patches.py`` lets RPC in.

        :param str model: technical name, e.g. 'res.partner'
        """
        if model is None or isinstance(model, (list, tuple, set, frozenset)):
            return super().invalidate_model(model, flush)
        self._check_group(GROUP_ADMIN)
        records = self.env.get(model) if isinstance(model, str) else None
        if records is None:
            raise UserError(
                self.env._(
                    "There is no model %s in this database. Give its technical name, for example "
                    "res.partner.",
                    repr(model)[:100],
                )
            )
        if records._abstract or records._transient:
            raise UserError(
                self.env._(
                    "%s is never cached: it is an abstract or a transient model. Give the model "
                    "whose records you mean.",
                    model,
                )
            )
        return self._removed(
            f"model {model}", removal.remove_model(self._engine(), self.env.cr, records)
        )

    @api.model
    def invalidate_all(self):
        """Remove every entry of this database from all tiers of all workers."""
        self._check_group(GROUP_ADMIN)
        return self._removed("everything", removal.remove_all(self._engine(), self.env.cr))

    @api.model
    def test_redis(self, url=False):
        """Look at a Redis.

        :param str url: the one in force if not given
        :return: see :func:`services.redis_probe.probe`
        :raise UserError: what is wrong and what to do
        """
        self._check_group(GROUP_ADMIN)
        if url and not isinstance(url, str):
            raise UserError(
                self.env._("The Redis URL must be a text, for example redis://localhost:6379/0.")
            )
        settings = self.env['res.config.settings']._tiered_cache_settings()
        uuid = self.env['ir.config_parameter'].sudo().get_param('database.uuid')
        try:
            return redis_probe.probe(
                url or settings.redis_url,
                prefix=configuration.redis_prefix(uuid),
                timeout_ms=settings.redis_timeout_ms,
            )
        except redis_probe.ProbeError as error:
            raise UserError(str(error)) from None

    @api.model
    def _cron_maintain(self):
        """Scheduled action: compact the journal, keep L3 within its limits, drop old figures."""
        engine = engine_for(self.env.registry)
        if engine is None or not engine.available:
            return
        done = engine.maintain()
        days = engine.settings.metrics_keep_days
        done['figures'] = self.env['cache.metric']._remove_older_than(days)
        _logger.info("Tiered Cache maintenance: %s", done)

    @api.model
    def _engine(self):
        engine = engine_for(self.env.registry)
        if engine is None or not engine.available:
            raise UserError(
                self.env._(
                    "The cache is not running in this process. If apps are being installed or "
                    "upgraded, try again when that is done; otherwise look for \"Tiered Cache\" in "
                    "the server's log."
                )
            )
        return engine

    @api.model
    def _check_group(self, group):
        if self._may(group):
            return
        raise AccessError(
            self.env._(
                "This is for users with the access right \"%s\". An administrator can grant it in "
                "Settings, Users.",
                self.env.ref(group).sudo().full_name,
            )
        )

    @api.model
    def _may(self, group):
        """Code in superuser mode may; otherwise the user needs the group."""
        return self.env.su or self.env.user.has_group(group)

    @api.model
    def _check_key(self, validate, text):
        if not isinstance(text, str):
            raise UserError(self.env._("A cache key is a text, such as v1:orm:res.partner:*."))
        try:
            validate(text)
        except keys.InvalidKey as error:
            raise UserError(str(error)) from None

    @api.model
    def _removed(self, what, counts):
        _logger.info(
            "Tiered Cache: %s (id %s) invalidated %s; entries removed at once: %s",
            self.env.user.login,
            self.env.uid,
            what,
            counts,
        )
        return counts
