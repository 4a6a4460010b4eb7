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


@contextlib.contextmanager
def every(interval_s, action):
    """Within it, ``action()`` happens again and again, in a thread."""
    stop = threading.Event()

    def repeat():
        while not stop.is_set():
            # what the fault itself breaks, the action meets too
            with contextlib.suppress(Exception):
                action()
            stop.wait(interval_s)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
