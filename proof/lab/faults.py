"""What a fault is, and how faults of all kinds are registered.

The one idea: a fault is a context manager on a running scene: entering it breaks something,
leaving it heals it.  What has to be there before the server starts (a standby, a small disk)
is another one, ``prepare``.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable

SECONDS = 15
FAULTS = {}


@dataclasses.dataclass(frozen=True)
class Fault:
    """:param str name: what the command line calls it
    :param str layer: redis, workers, postgres or clock
    :param str title: what happens, for the table
    :param strike: a context manager on a scene
    :param prepare: likewise, entered before the server starts
    :param seconds: how long it lasts
    :param plain: whether Odoo itself fails in it, so that it is compared with plain Odoo
    :param recent: whether reads must still see every acknowledged write
    :param quiet: whether one read after the other tells what it adds to each
    :param shows: kinds of faults ("l2: forged"), or their beginnings, of which the addon must count
        one at least: else it was not there
    :param options: of the scene
    """

    name: str
    layer: str
    title: str
    strike: Callable
    prepare: Callable | None = None
    seconds: float = SECONDS
    plain: bool = False
    recent: bool = True
    quiet: bool = False
    shows: tuple = ()
    options: dict = dataclasses.field(default_factory=dict)


def fault(layer, title, prepare=None, **options):
    """Register a generator function that yields once as a fault named after it."""

    def register(function):
        name = function.__name__.replace("_", "-")
        before = prepare and contextlib.contextmanager(prepare)
        strike = contextlib.contextmanager(function)
        FAULTS[name] = Fault(name, layer, title, strike, before, **options)
        return function

    return register


class NotThere(RuntimeError):
    """A fault that never happened: what was seen says nothing about it."""


@contextlib.contextmanager
def every(interval_s, action):
    """Within it, ``action()`` happens again and again, in a thread.

    :param action: returns how often it did what it is for, or whether; anything else, a reply
        of the server for example, is once
    :raise NotThere: at the end, if it never did
    """
    stop, errors, done = threading.Event(), [], 0

    def repeat():
        nonlocal done
        while not stop.is_set():
            try:
                did = action()
                done += did if isinstance(did, int) else 1
            except Exception as error:  # what the fault itself breaks, the action meets too
                errors[:] = [repr(error)]
            stop.wait(interval_s)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    if not done:
        raise NotThere(f"nothing was broken in all the time: {errors or 'no reason known'}")
