"""Figures in the text format of Prometheus.

The one idea: a *family* is a name, a type, a line of help and its samples; whoever has figures
registers a function that yields families (:func:`source`), and :func:`render` writes them down.

    @source
    def pool_figures(engine, env):
        yield Family('tiered_cache_pool_open', 'gauge', "Open connections.", [({'pool': 'x'}, 3)])

Names begin with ``tiered_cache_``, counters end in ``_total``, units are seconds and bytes.  Labels
must come from a short list that is known beforehand, never from what somebody has asked for.

What may go wrong: a source raises.  Its families are missing, ``tiered_cache_source_up`` says so,
and the rest is there.

Source of the format: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

from __future__ import annotations

import logging
import typing
from collections.abc import Callable, Iterable

_logger = logging.getLogger(__name__)

CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

TYPES = ('counter', 'gauge', 'histogram')


class Family(typing.NamedTuple):
    """:param samples: labels and value each.  For a histogram the value is a pair: how many by
    upper bound (a list of (bound in seconds, count), not cumulated; the last bound is infinity)
    and the sum in seconds
    :param for_users: whether Cache Users are told it, too: no sizes, times, tables or models, for
        who looks before and after somebody else's read would learn how large its answer was
    """

    name: str
    type: str
    help: str
    samples: list
    for_users: bool = False


SOURCES: list[Callable] = []
"""Functions that are called with the engine and the environment, and yield families."""


def source(function: Callable) -> Callable:
    """Register a function; once for each name, so that a module may be loaded again."""
    SOURCES[:] = [known for known in SOURCES if _name(known) != _name(function)]
    SOURCES.append(function)
    return function


def _name(function: Callable) -> str:
    return f'{function.__module__.rpartition(".")[2]}.{function.__name__}'


def render(engine, env, everything: bool = True) -> str:
    """All figures.

    :param everything: False leaves out what is not for Cache Users
    """
    lines, up = [], []
    for function in SOURCES:
        try:
            # all of it or nothing: half a family could not be parsed
            families = list(function(engine, env))
            told = [family for family in families if everything or family.for_users]
            text = [line for family in told for line in _lines(family)]
        except Exception as error:  # noqa: BLE001 the other figures are as good without these
            _logger.info("Figures of %s are missing", _name(function), exc_info=error)
            families, text = [], []
        lines += text
        up.append(({'source': _name(function)}, int(bool(families))))
    help_ = "Whether the figures of a part could be read."
    lines += _lines(Family('tiered_cache_source_up', 'gauge', help_, up))
    return '\n'.join(lines) + '\n'


def _lines(family: Family) -> Iterable[str]:
    yield f'# HELP {family.name} {_escape(family.help)}'
    yield f'# TYPE {family.name} {family.type}'
    for labels, value in family.samples:
        if family.type == 'histogram':
            yield from _histogram(family.name, labels, *value)
        else:
            yield f'{family.name}{_labels(labels)} {_number(value)}'


def _histogram(name: str, labels: dict, bins, total_s: float) -> Iterable[str]:
    below = 0
    for bound_s, count in bins:
        below += count
        yield f'{name}_bucket{_labels({**labels, "le": _number(bound_s)})} {below}'
    yield f'{name}_sum{_labels(labels)} {_number(total_s)}'
    yield f'{name}_count{_labels(labels)} {below}'


def _labels(labels: dict) -> str:
    if not labels:
        return ''
    pairs = (f'{name}="{_escape(str(value), quotes=True)}"' for name, value in labels.items())
    return f'{{{",".join(pairs)}}}'


def _escape(text: str, quotes: bool = False) -> str:
    text = text.replace('\\', '\\\\').replace('\n', '\\n')
    return text.replace('"', '\\"') if quotes else text


def _number(value) -> str:
    if value == float('inf'):
        return '+Inf'
    return str(value) if isinstance(value, int) else repr(float(value))
