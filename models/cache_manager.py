"""``env['cache.manager']``: what modules, buttons and RPC clients may ask of the cache.

The one idea: a façade.  Every method checks who is calling and what was passed, hands over
to :mod:`services`, and returns plain values.

What may go wrong: the caller may not (AccessError), or asked for something that does not
exist or cannot be read (UserError, with what to do); nothing has changed then.
"""

import logging
from datetime import timedelta

from odoo import api, fields, models
from odoo.exceptions import AccessError, UserError

from ..services import answering, configuration, keys, named, preview, redis_probe, removal
from ..services.engine import engine_for, prepare_fork
from ..services.miss import MISS
from . import plain_words, replay

_logger = logging.getLogger(__name__)

GROUP_USER = 'tiered_cache.group_cache_user'
GROUP_ADMIN = 'tiered_cache.group_cache_admin'

REMOVALS = {
    'key': 'invalidate_key',
    'pattern': 'invalidate_pattern',
    'tag': 'invalidate_tag',
    'model': 'invalidate_model',
    'relation': 'invalidate_relation',
    'user': 'invalidate_user',
    'all': 'invalidate_all',
}
"""What can be removed later, and by which method."""

MAX_DELAY_S = 10 * 366 * 24 * 3600
"""As a number that is a mistake most likely is."""

MAX_KEYS = 1000
"""In one call: what people select in a list.  More of them are a pattern, or several calls."""

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

    def _register_hook(self):
        super()._register_hook()
        prepare_fork(self.env.cr, replay.warm_process)

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
        """Remove one entry from all tiers of all workers; a named one with all its variants.

        :param str key: e.g. 'v1:supplier:detail:42', or 'v1:orm:res.partner:read:0f…'
        :return: how many entries went at once, by tier; what takes longer than
            :data:`services.removal.WAIT_MS` goes on in the background, see ``removals`` in
            :meth:`get_stats`.  Other workers' L1 follow with their next transaction after this
            one is committed.
        :rtype: dict[str, int]
        """
        self._check_group(GROUP_ADMIN)
        self._check_key(keys.validate_key, key)
        return self._removing(
            'key', key, lambda engine: removal.remove_key(engine, self.env.cr, key)
        )

    @api.model
    def invalidate_keys(self, names):
        """Remove several entries, as :meth:`invalidate_key` does.

        :param list[str] names: keys, at most :data:`MAX_KEYS`
        """
        self._check_group(GROUP_ADMIN)
        if not isinstance(names, list | tuple | set | frozenset) or len(names) > MAX_KEYS:
            raise UserError(
                self.env._(
                    "Give the keys as a list of at most %s texts, or use a pattern.", MAX_KEYS
                )
            )
        for key in names:
            self._check_key(keys.validate_key, key)
        return self._removing(
            'keys', str(len(names)), lambda engine: removal.remove_keys(engine, self.env.cr, names)
        )

    @api.model
    def invalidate_pattern(self, pattern):
        """Remove every entry whose key matches, with or without its variant, as
        :meth:`invalidate_key` does.

        :param str pattern: a key with the wildcards ``*``, ``?`` and ``[abc]``
        """
        self._check_group(GROUP_ADMIN)
        self._check_key(keys.validate_pattern, pattern)
        return self._removing(
            'pattern', pattern, lambda engine: removal.remove_pattern(engine, self.env.cr, pattern)
        )

    @api.model
    def invalidate_tag(self, tag):
        """Remove every entry with a tag, as :meth:`invalidate_key` does.

        L2 and L3 keep them, invalid, until they expire: only L1 is counted.

        :param str tag: e.g. 'prices'
        """
        self._check_group(GROUP_ADMIN)
        self._check_key(removal.validate_tag, tag)
        return self._removing(
            'tag', tag, lambda engine: removal.remove_tag(engine, self.env.cr, tag)
        )

    @api.model
    def invalidate_user(self, uid):
        """Remove every entry that was computed for a user, as :meth:`invalidate_key` does.

        L2 keeps them, invalid, until they expire: only L1 and L3 are counted.

        :param int uid: id of a user, who need not exist any more
        """
        self._check_group(GROUP_ADMIN)
        self._check_uid(uid)
        return self._removing(
            'user', str(uid), lambda engine: removal.remove_user(engine, self.env.cr, uid)
        )

    @api.model
    def invalidate_relation(self, relation):
        """Remove what was read from a table, by whatever model, as :meth:`invalidate_key` does.

        L2 and L3 keep them, invalid, until they expire: only L1 is counted.

        :param str relation: name of a table, e.g. 'res_partner'
        """
        self._check_group(GROUP_ADMIN)
        found = self._engine()
        self._check_key(lambda name: removal.validate_relation(found, name), relation)
        return self._removing(
            'relation',
            relation,
            lambda engine: removal.remove_relation(engine, self.env.cr, relation),
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
        records = self._cached_model(model)
        return self._removing(
            'model', model, lambda engine: removal.remove_model(engine, self.env.cr, records)
        )

    @api.model
    def _cached_model(self, model):
        """The model of this name.

        :raise UserError: there is none, or nothing of it is ever cached
        """
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
        return records

    @api.model
    def invalidate_all(self):
        """Remove every entry of this database from all tiers of all workers."""
        self._check_group(GROUP_ADMIN)
        return self._removing('all', '', lambda engine: removal.remove_all(engine, self.env.cr))

    @api.model
    def schedule_removal(self, kind, target=None, delay_s=None, at=None):
        """Remove something later; listed, and cancelled, in *Operations ▸ Scheduled Removals*.

        :param str kind: 'key', 'pattern', 'tag', 'model', 'relation', 'user' or 'all'
        :param target: what to remove, as the methods above take it; nothing for 'all'
        :param float delay_s: in so many seconds, 0 to 10 years
        :param at: or at this time, a datetime in UTC without time zone, or a text of one such as
            '2026-12-31 23:00:00'
        :return: id of the ``cache.schedule``
        :rtype: int
        """
        self._check_group(GROUP_ADMIN)
        target = '' if target in (None, False) else str(target)
        self._check_removal(kind, target)
        vals = {'kind': kind, 'target': target, 'at': self._time_of(delay_s, at)}
        return self.env['cache.schedule'].create(vals).id

    @api.model
    def _time_of(self, delay_s, at):
        try:
            if (delay_s is None) == (not at):
                raise ValueError("one of both")
            if delay_s is None:
                return fields.Datetime.to_datetime(at)
            if not 0 <= delay_s <= MAX_DELAY_S:
                raise ValueError("out of range")
            return fields.Datetime.now() + timedelta(seconds=delay_s)
        except (TypeError, ValueError, OverflowError):
            raise UserError(
                self.env._(
                    "Say when: either delay_s, a number of seconds up to 10 years, or at, a time "
                    "in UTC such as 2026-12-31 23:00:00."
                )
            ) from None

    @api.model
    def _check_removal(self, kind, target):
        """Whether something of this kind can be removed.

        :raise UserError: with what to do
        """
        if kind not in REMOVALS:
            raise UserError(
                self.env._("There is no removal by %(kind)s, only by: %(kinds)s.",
                           kind=repr(kind)[:100], kinds=", ".join(REMOVALS))
            )  # fmt: skip
        if kind == 'all':
            return
        if kind == 'user':
            self._check_uid(int(target) if (target or '').isdecimal() else None)
        elif kind == 'model':
            self._cached_model(target)
        elif kind == 'pattern':
            self._check_key(keys.validate_pattern, target)
        else:
            self._check_key(keys.validate_key, target)
        engine = engine_for(self.env.registry)
        if kind == 'relation' and engine is not None and engine.available:
            self._check_key(lambda name: removal.validate_relation(engine, name), target)

    @api.model
    def _remove(self, kind, target):
        """Do a removal whose kind and target stand in a record."""
        self._check_removal(kind, target)
        if kind == 'all':
            return self.invalidate_all()
        return getattr(self, REMOVALS[kind])(int(target) if kind == 'user' else target)

    @api.model
    def _check_uid(self, uid):
        if type(uid) is not int or not 0 < uid < 2**31:
            raise UserError(self.env._("Give the id of a user, which is a number above 0."))

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
            raise UserError(plain_words.error(self.env, error)) from None

    # -- named entries: for the code of modules, never by RPC ---------------------------

    @api.private
    def get(self, key, default=MISS, **options):
        """What is kept under a name.

        :param str key: e.g. 'supplier:detail:42', see :class:`services.key_families`
        :param options: see ``docs/named-entries.md``
        :return: a fresh copy; ``default`` where nothing is, by default the sentinel ``MISS``, since
            None and False are values
        """
        found = answering.look(*self._call(key, options))
        return default if found is None else found.value

    @api.private
    def get_many(self, keys, **options):
        """What is kept under several names; L2 and L3 are asked once for all of them.

        :return: values by name; names under which nothing is are missing
        :rtype: dict[str, object]
        """
        names = list(dict.fromkeys(keys))
        engine, calls = self._calls(names, options)
        if engine is None:
            return {}
        found = zip(names, answering.look_many(engine, calls), strict=True)
        return {name: answer.value for name, answer in found if answer is not None}

    @api.private
    def contains(self, key, **options):
        """Whether something is kept under a name.

        :rtype: bool
        """
        return self.get(key, **options) is not MISS

    @api.private
    def set(self, key, value, *, depends=(), **options):
        """Keep a value under a name.

        :param depends: models or tables that it was made from, as this transaction sees them
        :return: whether it was kept; a transaction that has written keeps nothing, since nobody
            else can see yet what the value was made from
        :rtype: bool
        :raise services.codec.Unserializable: it cannot be kept; the path in it is named
        """
        return self.set_many({key: value}, depends=depends, **options) == 1

    @api.private
    def set_many(self, values, *, depends=(), **options):
        """Keep several values, by name; L2 or L3 is written to once for all of them.

        :return: how many were kept
        :rtype: int
        :raise services.codec.Unserializable: one cannot be kept; none is then
        """
        engine, calls = self._calls(values, options, depends)
        return 0 if engine is None else answering.bring(engine, calls, list(values.values()))

    @api.private
    def get_or_compute(self, key, compute, *, depends=(), **options):
        """What is kept under a name, computed and kept if nothing is.

        :param compute: ``compute()``, ``compute(env)`` or ``compute(env, previous)``, see
            ``docs/named-entries.md``; what it reads is recorded
        :param depends: models or tables that the value depends on besides
        :raise services.codec.Unserializable: the value cannot be kept; the path in it is named
        """
        return self.answer(key, compute, depends=depends, **options).value

    @api.private
    def answer(self, key, compute, *, depends=(), **options):
        """As :meth:`get_or_compute`, with where the value comes from and how old it is.

        :rtype: services.named.Answer
        """
        engine, call = self._call(key, options, depends)
        if engine is None:
            return answering.plain(self.env, compute)
        return answering.answer(engine, call, compute)

    @api.private
    def delete(self, key):
        """Remove what is kept under a name, for all users, in all workers; effective with the
        commit of this transaction.

        :return: how many entries went at once, by tier
        :rtype: dict[str, int]
        """
        engine = engine_for(self.env.registry)
        if engine is None or not engine.available:
            return {}
        return removal.remove_key(engine, self.env.cr, named.base_key(key))

    def _call(self, key, options, depends=()):
        """The engine, or None, and a call for a named entry."""
        engine = engine_for(self.env.registry)
        if engine is None:
            return None, None
        relations = named.relations_of(engine, self.env.registry, depends)
        return engine, self._call_of(engine, key, options, relations)

    def _calls(self, names, options, depends=()):
        """As :meth:`_call`, for several."""
        engine = engine_for(self.env.registry)
        if engine is None:
            return None, []
        relations = named.relations_of(engine, self.env.registry, depends)
        return engine, [self._call_of(engine, name, options, relations) for name in names]

    def _call_of(self, engine, name, options, relations):
        label = ('', name.partition(':')[0])
        plan = engine.config.named_plan(name, options)
        return named.Call(self.env, named.Name(name, (), label), plan, relations)

    @api.model
    def _cron_maintain(self):
        """Scheduled action: compact the journal, keep L3 within its limits, drop old figures."""
        engine = engine_for(self.env.registry)
        if engine is None or not engine.available:
            return
        done = engine.maintain()
        days = engine.settings.calls_keep_days
        done['calls'] = self.env['cache.call']._remove_older_than(days)
        days = engine.settings.schedule_keep_days
        done['schedules'] = self.env['cache.schedule']._remove_older_than(days)
        days = engine.settings.log_keep_days
        done['log'] = self.env['cache.log']._remove_older_than(days)
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
            raise UserError(plain_words.error(self.env, error)) from None

    @api.model
    def _removing(self, kind, target, remove):
        """Do a removal, and say who did it: in the log of the server, and where a person did it in
        ``cache.log``; the code of modules may do it a thousand times a minute.

        :param remove: ``remove(engine)`` returns how many entries went at once, by tier
        """
        engine = self._engine()
        if self.env.su and not self.env.context.get('tiered_cache_log'):
            counts = remove(engine)
        else:
            summary = self._removal_summary(kind, target)
            counts = self.env['cache.log']._removing(kind, target, summary, remove)
        _logger.info(
            "Tiered Cache: %s (id %s) invalidated %s; entries removed at once: %s",
            self.env.user.login,
            self.env.uid,
            f"{kind} {target}".strip(),
            counts,
        )
        return counts

    @api.model
    def _removal_summary(self, kind, target):
        """A removal in one line, as people say it."""
        if kind == 'all':
            return self.env._("Everything")
        if kind == 'user':
            user = self.env['res.users'].sudo().browse(int(target)).exists()
            target = user.display_name or target
        pattern = {
            'key': self.env._("Key %s"),
            'keys': self.env._("%s selected entries"),
            'pattern': self.env._("Pattern %s"),
            'tag': self.env._("Tag %s"),
            'model': self.env._("Model %s"),
            'relation': self.env._("Table %s"),
            'user': self.env._("What was computed for %s"),
        }[kind]
        return pattern % target

    @api.model
    def _preview(self, kind, target):
        """About how many entries a removal would take out of the tiers.

        :return: see :func:`services.preview.of_removal`; {} while the cache does not run
        :raise UserError: there is no such thing to remove
        """
        self._check_removal(kind, target)
        engine = engine_for(self.env.registry)
        if engine is None or not engine.available:
            return {}
        if kind == 'model':
            target = self._cached_model(target)
        elif kind == 'user':
            target = int(target)
        return preview.of_removal(engine, self.env.cr, kind, target)
