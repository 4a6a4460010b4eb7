"""Emptying the tiers of what was removed: a little at once, the rest in the background.

The one idea: a tier removes in *steps* of at most some hundred entries, so neither it nor
whoever waits for it is held up; a removal takes steps until its caller has waited long enough,
and what is left is taken up by the outbox, a few steps at a time between its other work.
By then there may be newer entries, which stay where a tier can tell their age (L1 and L3).
Nothing depends on it: what was removed is invalid from the commit on (:mod:`.removal`), and
this only frees the space.

What may go wrong: a tier fails, or the process ends, before a removal is through.  What it
has not reached stays there, invalid, until it is replaced or expires.  The same happens beyond
:data:`MAX_WAITING` removals that wait, which are counted as skipped.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from . import keys
from .tiers.base import Step, Tier, slices

ROUND_S = 0.05
"""How long the outbox empties before it does something else; it then pauses for 20 ms."""

MAX_WAITING = 100
"""Removals that wait for the outbox."""

MAX_NAMES = 10_000
"""Keys that wait together; more are skipped."""

NAMES = 500
"""Keys that a tier removes in one step."""

REMEMBERED = 20
"""Finished removals that :meth:`Emptying.stats` still shows."""


@dataclasses.dataclass(slots=True)
class _Progress:
    """How far a removal has come in one tier."""

    steps: Iterator[Step]
    total: int | None = None
    estimated: bool = False
    looked_at: int = 0
    removed: int = 0
    done: bool = False

    def advance(self) -> None:
        step = next(self.steps, None)
        if step is None:
            self.done = True
        else:
            self.looked_at += step[0]
            self.removed += step[1]

    def as_dict(self) -> dict:
        return {
            'looked_at': self.looked_at,
            'removed': self.removed,
            'estimated_total': self.total,
            'done': self.done,
        }


@dataclasses.dataclass(slots=True)
class _Removal:
    """:param steps: ``steps(removal, tier)`` returns those of a tier
    :param size: ``size(tier)`` estimates how many keys a tier has to look at, None is unknown
    :param names: what it removes, if that is a list of keys
    :param asked_at: in seconds since 1970; what was created later is none of its business
    :param tell: ``tell(progress)`` is called after each round in the background
    """

    what: str
    steps: Callable[[_Removal, Tier], Iterator[Step]]
    size: Callable[[Tier], int | None] = lambda _tier: None
    names: tuple[str, ...] = ()
    asked_at: float = dataclasses.field(default_factory=time.time)
    started_at: float = 0.0
    finished_at: float | None = None
    tiers: dict[str, _Progress] = dataclasses.field(default_factory=dict)
    tell: Callable[[dict], object] | None = None

    def begin(self, tiers: dict[str, Tier]) -> None:
        if not self.tiers:
            self.started_at = self.started_at or time.time()
            self.tiers = {name: _Progress(self.steps(self, tier)) for name, tier in tiers.items()}

    def advance(self, until: float) -> None:
        """Take steps, of one tier after the other, until a time of ``time.monotonic()``."""
        while left := [progress for progress in self.tiers.values() if not progress.done]:
            for progress in left:
                progress.advance()
            if time.monotonic() >= until:
                break
        if all(progress.done for progress in self.tiers.values()):
            self.finished_at = time.time()

    def estimate(self, tiers: dict[str, Tier]) -> None:
        """Ask once how much there is to do where something is left."""
        for name, progress in self.tiers.items():
            if not (progress.done or progress.estimated) and name in tiers:
                left, progress.estimated = self.size(tiers[name]), True
                progress.total = None if left is None else left + progress.removed

    def as_dict(self) -> dict:
        return {
            'what': self.what,
            'started_at': self.started_at or None,
            'finished_at': self.finished_at,
            'tiers': {name: progress.as_dict() for name, progress in self.tiers.items()},
        }


class Emptying:
    """The removals of one engine.

    :param tiers: ``tiers()`` returns the tiers by name, those of the background where these
        are others
    :param post: ``post(job)`` runs a job in the background, soon
    """

    def __init__(self, tiers: Callable[[], dict], post: Callable[[Callable], object]):
        self._tiers = tiers
        self._post = post
        self._lock = threading.Lock()
        self._waiting: collections.deque[_Removal] = collections.deque()
        self._finished: collections.deque[_Removal] = collections.deque(maxlen=REMEMBERED)
        self._caller = threading.local()
        self.skipped = 0

    @contextlib.contextmanager
    def telling(self, tell: Callable[[dict], object]):
        """Have the progress of removals told that are asked for within it.

        :param tell: ``tell(progress)`` is called after each round in the background, in whatever
            thread, with what :meth:`stats` says of a removal
        :return: a list of what is left to the background, for the caller to look at
        """
        self._caller.tell, self._caller.left = tell, []
        try:
            yield self._caller.left
        finally:
            self._caller.tell = None

    # -- what to remove: each waits for wait_s at most and returns how many went, by tier -----

    def names(self, names: Iterable[str], wait_s: float) -> dict[str, int]:
        """These keys, and all variants of those that may have some."""
        names = tuple(names)
        what = f'key {names[0]}' if len(names) == 1 else f'{len(names)} keys'
        return self._run(_Removal(what, _steps_of_names, _size_of_names, names), wait_s)

    def pattern(self, pattern: str, wait_s: float) -> dict[str, int]:
        """All keys that match, with or without their variant."""
        return self._run(_of_target(f'pattern {pattern}', keys.pattern_target(pattern)), wait_s)

    def everything(self, wait_s: float) -> dict[str, int]:
        """All keys of this database."""
        return self._run(_of_target('everything', keys.EVERYTHING), wait_s)

    def user(self, uid: int, wait_s: float) -> dict[str, int]:
        """What was computed for a user, in the tiers that can tell."""
        removal = _Removal(f'user {uid}', _steps_of_user(uid))
        return self._run(removal, wait_s)

    def matching(self, what: str, wants: Callable[..., object]) -> dict[str, int]:
        """The entries that are ``wants(entry)``, in the tiers that can tell at once."""
        removal = _Removal(what, _steps_of_entries(wants))
        return self._run(removal, float('inf'))

    # -- doing it ------------------------------------------------------------------------------

    def _run(self, removal: _Removal, wait_s: float) -> dict[str, int]:
        counts = dict.fromkeys(self._tiers(), 0)
        removal.tell = getattr(self._caller, 'tell', None)
        if wait_s > 0:
            removal.begin(self._tiers())
            removal.advance(time.monotonic() + wait_s)
            counts |= {name: progress.removed for name, progress in removal.tiers.items()}
        if not removal.finished_at:
            if removal.tell is not None:
                self._caller.left.append(removal.what)
            self._wait_for_outbox(removal)
        return counts

    def _wait_for_outbox(self, removal: _Removal) -> None:
        with self._lock:
            if not self._is_part_of_another(removal):
                if len(self._waiting) >= MAX_WAITING:
                    self.skipped += 1
                    return
                self._waiting.append(removal)
        self._post(self.work)

    def _is_part_of_another(self, removal: _Removal) -> bool:
        """Many keys are removed one by one where many records change; the tiers are gone
        through once for all of them."""
        if removal.started_at:
            return False
        for other in self._waiting:
            if other.started_at:
                continue
            if other.what == removal.what and not removal.names:
                other.asked_at = removal.asked_at
                return True
            if other.names and removal.names:
                if len(other.names) >= MAX_NAMES:
                    self.skipped += 1
                    return True
                other.names = tuple(dict.fromkeys([*other.names, *removal.names]))
                other.what = f'{len(other.names)} keys'
                other.asked_at = removal.asked_at
                return True
        return False

    def work(self) -> None:
        """One round of the outbox."""
        with self._lock:
            if not self._waiting:
                return
            removal = self._waiting[0]
            removal.started_at = removal.started_at or time.time()  # takes no more keys
        try:
            removal.begin(self._tiers())
            removal.estimate(self._tiers())
            removal.advance(time.monotonic() + ROUND_S)
        except BaseException:
            removal.finished_at = time.time()  # it would fail again, and hold up the others
            raise
        finally:
            if removal.finished_at:
                with self._lock:
                    self._waiting.popleft()
                    self._finished.append(removal)
            if removal.tell is not None:
                removal.tell(removal.as_dict())
            if self._waiting:
                self._post(self.work)

    @property
    def is_working(self) -> bool:
        """Whether something waits for the background."""
        return bool(self._waiting)

    def stats(self) -> dict:
        """What goes on in the background.

        :return: ``waiting`` and ``finished`` (the last ones): what, since when, and by tier how
            many keys were looked at, of about how many, and how many removed; ``skipped``
        """
        with self._lock:
            return {
                'waiting': [removal.as_dict() for removal in self._waiting],
                'finished': [removal.as_dict() for removal in self._finished],
                'skipped': self.skipped,
            }


def _of_target(what: str, target: keys.Target) -> _Removal:
    return _Removal(
        what,
        lambda removal, tier: tier.removing(target, removal.asked_at),
        lambda tier: tier.count(target.candidates),
    )


def _steps_of_user(uid: int):
    return lambda removal, tier: tier.removing_user(uid, removal.asked_at)


def _steps_of_entries(wants: Callable[..., object]):
    def steps(removal: _Removal, tier: Tier) -> Iterator[Step]:
        until = removal.asked_at
        return tier.removing_entries(lambda entry: entry.created <= until and wants(entry))

    return steps


def _steps_of_names(removal: _Removal, tier: Tier) -> Iterator[Step]:
    for part in slices(removal.names, NAMES):
        yield len(part), tier.delete(part, removal.asked_at)
    wide = tuple(filter(keys.may_have_variants, removal.names))
    if not tier.finds_prefixes and wide:
        # it goes through all its keys each time, so one time for all
        yield from tier.removing(keys.names_target(wide), removal.asked_at)
        return
    for name in wide:
        yield from tier.removing(keys.names_target([name]), removal.asked_at)


def _size_of_names(tier: Tier) -> int | None:
    return None if tier.finds_prefixes else tier.count('*')
