"""Hearing of changes in other Odoos: one request per interval and remote, by one worker.

The one idea: whoever finds a remote due claims it by writing down the time (one UPDATE, which only
one can win), asks without a transaction, and then removes what has changed and moves the cursor in
one commit.  So a worker that dies in between has lost nothing: the next one asks from the same
cursor.

Asked is ``/cache/1/changes`` of the addon over there (:mod:`.addon`); where there is none, and the
record says so, new ``write_date`` of the models that were read; otherwise values live for
``ttl_s``.

What may go wrong: the other server does not answer.  The cursor stays, and with it everything that
will have to be removed; values live for ``ttl_s`` meanwhile.  A model that was not followed before,
a cursor that the other server does not know any more: everything that is in doubt is removed.
"""

from __future__ import annotations

import datetime
import json
import logging
import threading
import typing

from .. import removal
from . import addon
from .clients import Clients, read_settings
from .errors import RemoteAccessError, RemoteError, RemoteValidationError
from .names import model_tag, remote_tag, remove_changes
from .protocols import Call

_logger = logging.getLogger(__name__)

OVERLAP_S = 60
"""A transaction may be committed so long after the ``write_date`` that it writes."""

MAX_ROWS = 1000
"""Of one question for ``write_date``; more of them are all of the model."""

_CLAIM = """
UPDATE cache_remote_follow f SET polled_at = now() AT TIME ZONE 'UTC'
  FROM cache_remote r
 WHERE r.id = f.remote_id AND f.model = '' AND r.active AND r.follow <> 'ttl'
   AND (f.polled_at IS NULL
        OR f.polled_at <= now() AT TIME ZONE 'UTC' - make_interval(secs => r.interval_s))
RETURNING f.id, r.name, f.cursor
"""
_WANT = """
INSERT INTO cache_remote_follow (remote_id, model, cursor)
SELECT r.id, m.model, '' FROM cache_remote r, (VALUES (''), (%s)) AS m (model)
 WHERE r.id = %s
   FOR KEY SHARE OF r
ON CONFLICT (remote_id, model) DO NOTHING
"""


class _Claim(typing.NamedTuple):
    id: int
    name: str
    cursor: str


class Follower:
    """Of one process and database.

    :ivar clients: of this process
    :ivar polls: requests that were made to hear of changes
    """

    def __init__(self, engine):
        self._engine = engine
        self.clients = Clients()
        self.polls = 0
        self._wanted: set[tuple[int, str]] = set()
        self._thread: threading.Thread | None = None

    def want(self, remote: int, model: str) -> None:
        """Follow what is read of a model from now on."""
        if (remote, model) not in self._wanted:
            self._wanted.add((remote, model))
            self._engine.outbox.post_job(
                f'follow {remote} {model}', lambda: self._write_wanted(remote, model)
            )

    def _write_wanted(self, remote: int, model: str) -> None:
        with self._engine.cursor() as cr:
            cr.execute(_WANT, [model, remote])

    def tick(self) -> None:
        """Periodic; does not wait for other servers."""
        if self._thread is not None and self._thread.is_alive():
            return
        claims = self.claim()
        if claims or self.clients.all():
            self._thread = threading.Thread(
                target=self._work, args=(claims,), name='tiered_cache.remote', daemon=True
            )
            self._thread.start()

    def claim(self) -> list[_Claim]:
        """The remotes that are due, now ours to ask."""
        with self._engine.cursor() as cr:
            cr.execute("SELECT 1 FROM cache_remote_follow LIMIT 1")
            if not cr.fetchone():
                return []
            cr.execute(_CLAIM)
            return [_Claim(*row) for row in cr.fetchall()]

    def close(self) -> None:
        self.clients.close()

    def _work(self, claims: list[_Claim]) -> None:
        try:
            self.poll(claims)
            for client in self.clients.all():
                try:
                    client.tend()
                except RemoteError:
                    continue  # the next call says what is wrong
        except Exception:
            self._engine.log_once(
                'following', "Tiered Cache: following other servers failed.", exc_info=True
            )

    def poll(self, claims: list[_Claim]) -> None:
        """Ask for changes, and remove what has changed."""
        with self._engine.cursor() as cr:
            settings = {one.name: one for one in read_settings(cr)}
        self.clients.keep_only(settings)
        for claim in claims:
            if claim.name in settings:
                self._poll(claim, settings[claim.name])

    def _poll(self, claim: _Claim, settings) -> None:
        models = self._models(claim)
        if not models:
            return
        problem = ''
        try:
            client = self.clients.get(settings)
            self.polls += 1
            found = client.changes(claim.cursor, list(models)[: addon.MAX_MODELS])
            client.has_addon(found is not None)
            if found is not None:
                self._apply(claim, models, found)
            elif settings.follow == 'write_date':
                for model, cursor in models.items():
                    self._poll_dates(claim, client, model, cursor)
            else:
                problem = "The other server has no addon to tell what has changed."
        except (RemoteAccessError, RemoteValidationError) as error:
            if not self._leave_out_refused(claim, client, models):
                problem = f'{type(error).__name__}: {error}'
        except (RemoteError, ValueError) as error:
            problem = f'{type(error).__name__}: {error}'
        with self._engine.cursor() as cr:
            cr.execute(
                "UPDATE cache_remote_follow SET error = %s"
                " WHERE id = %s AND error IS DISTINCT FROM %s",
                [problem, claim.id, problem],
            )

    def _models(self, claim: _Claim) -> dict[str, str]:
        """Models that were read, with the cursor of each; '' for a new one."""
        with self._engine.cursor() as cr:
            cr.execute(
                "SELECT f.model, COALESCE(f.cursor, '') FROM cache_remote_follow f"
                " JOIN cache_remote r ON r.id = f.remote_id WHERE r.name = %s AND f.model <> ''"
                " ORDER BY f.model",
                [claim.name],
            )
            return dict(cr.fetchall())

    def _leave_out_refused(self, claim: _Claim, client, models) -> bool:
        """Follow a model no longer of which the other server tells nothing to this key, so that
        changes of the others are heard of from the next time on; what was kept of it goes."""
        refused = []
        for model in list(models)[: addon.MAX_MODELS]:
            try:
                client.changes('', [model])
            except (RemoteAccessError, RemoteValidationError):
                refused.append(model)
        if not refused:
            return False
        _logger.info(
            "Tiered Cache: %s does not tell this key of changes of %s, which are not followed "
            "any more.",
            claim.name,
            ', '.join(refused),
        )
        with self._engine.cursor() as cr:
            cr.execute(
                "DELETE FROM cache_remote_follow f USING cache_remote r"
                " WHERE r.id = f.remote_id AND r.name = %s AND f.model IN %s",
                [claim.name, tuple(refused)],
            )
            for model in refused:
                removal.remove_tag(self._engine, cr, model_tag(claim.name, model))
        return True

    def _apply(self, claim: _Claim, models: dict[str, str], found) -> None:
        with self._engine.cursor() as cr:
            cr.execute(
                "UPDATE cache_remote_follow SET cursor = %s WHERE id = %s AND cursor = %s",
                [found.cursor, claim.id, claim.cursor],
            )
            if not cr.rowcount:
                return  # another one was faster, and has removed as much
            new = [model for model, cursor in models.items() if not cursor]
            unknown = [*new, *list(models)[addon.MAX_MODELS :]]
            if not claim.cursor or not found.complete:
                removal.remove_tag(self._engine, cr, remote_tag(claim.name))
            else:
                changes = [*found.changes, *((model, None) for model in unknown)]
                remove_changes(self._engine, cr, claim.name, changes)
            if new:
                cr.execute(
                    "UPDATE cache_remote_follow f SET cursor = 'followed' FROM cache_remote r"
                    " WHERE r.id = f.remote_id AND r.name = %s AND f.model IN %s",
                    [claim.name, tuple(new)],
                )

    # -- without the addon over there --------------------------------------------------

    def _poll_dates(self, claim: _Claim, client, model: str, cursor: str) -> None:
        """Records whose ``write_date`` is new; a number of records that differs tells of deletions,
        unless as many were created."""
        known = json.loads(cursor) if cursor.startswith('{') else None
        since = known and known['since']
        rows, count = _ask_dates(client, model, since)
        newest = max((str(row['write_date']) for row in rows), default=since or '')
        before = known['seen'] if known else {}
        seen, changed = {}, []
        for row in rows:
            date = str(row['write_date'])
            last, times = before.get(str(row['id']), ('', 0))
            times = times + 1 if last == date else 1
            seen[row['id']] = (date, times)
            # a date has whole seconds: after the first look it may have been written once more
            if times <= 2:
                changed.append(row['id'])
        new = {'since': _earlier(newest), 'seen': seen if known else {}, 'count': count}
        doubt = not known or count != known['count'] or len(rows) >= MAX_ROWS
        with self._engine.cursor() as cr:
            cr.execute(
                "UPDATE cache_remote_follow f SET cursor = %s FROM cache_remote r"
                " WHERE r.id = f.remote_id AND r.name = %s AND f.model = %s AND f.cursor = %s",
                [json.dumps(new), claim.name, model, cursor],
            )
            if doubt:
                removal.remove_tag(self._engine, cr, model_tag(claim.name, model))
            elif changed:
                remove_changes(self._engine, cr, claim.name, [(model, changed)])


def _ask_dates(client, model: str, since: str | None) -> tuple[list[dict], int]:
    """What was written since, and how many records there are."""
    everyone = {'active_test': False}
    domain = [['write_date', '>=', since]] if since else []
    how = {'order': 'write_date desc', 'limit': MAX_ROWS if since else 1}
    count = client.read(Call(model, 'search_count', ([],), {}, everyone))
    rows = client.read(Call(model, 'search_read', (domain, ['write_date']), how, everyone))
    return [row for row in rows if row.get('write_date')], count


def _earlier(date: str) -> str:
    """A time by which what is still to be committed was not yet begun, most likely."""
    if not date:
        return ''
    moment = datetime.datetime.fromisoformat(date) - datetime.timedelta(seconds=OVERLAP_S)
    return moment.strftime('%Y-%m-%d %H:%M:%S')
