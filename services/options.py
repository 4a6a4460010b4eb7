"""The options of Tiered Cache: one table, four places where a value may stand.

The one idea: an option is a row of :data:`OPTIONS`; whoever needs a value, a default, a
unit or a check asks the table.  A value is looked for in this order, and the first good
one counts:

``environment``  ``TIERED_CACHE_L1_TTL_S=60`` in the environment of the server
``file``         ``l1_ttl_s = 60`` in section ``[tiered_cache]`` of odoo.conf
``database``     ``tiered_cache.l1_ttl_s`` in ``ir.config_parameter``, what Settings writes
``default``      the table

What may go wrong: a value is misspelt or out of range.  :func:`load` never raises: the bad
value is skipped, the next place counts, and a sentence goes to ``Settings.problems``.
:func:`check` raises the same sentence, for Settings.  No sentence contains a Redis URL,
since it may hold a password.
"""

from __future__ import annotations

import configparser
import dataclasses
import difflib
import ipaddress
import math
import os
import re
from collections.abc import Mapping

from . import redis_url
from .sentences import _lt

PARAMETER_PREFIX = 'tiered_cache.'
ENVIRONMENT_PREFIX = 'TIERED_CACHE_'
FILE_SECTION = 'tiered_cache'

MAX_TTL_S = 365 * 24 * 3600
_TRUE = frozenset(('1', 'true', 'yes', 'on'))
_FALSE = frozenset(('0', 'false', 'no', 'off'))


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """One option.

    :param kind: 'bool', 'int', 'float', 'choice', 'redis_url', 'names' (of fields, with commas) or
        'networks' (addresses, with commas)
    :param unit: plural noun for sentences and pages, '' if there is none
    :param minimum: smallest number allowed, inclusive
    :param maximum: largest number allowed, inclusive
    :param choices: allowed words of kind 'choice'
    :param help: one sentence, what the option does
    """

    name: str
    kind: str
    default: bool | int | float | str
    help: str
    unit: str = ''
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def parameter(self) -> str:
        """Key in ``ir.config_parameter``."""
        return PARAMETER_PREFIX + self.name

    @property
    def default_text(self) -> str:
        return to_text(self.default)


_TABLE = (
    Option(
        'enabled',
        'bool',
        True,
        "Answer ORM reads from the cache; when off, changes are still journalled for "
        "the servers that cache.",
    ),
    Option(
        'consistency',
        'choice',
        'strong',
        "How fresh a hit is: checked in the transaction's own snapshot (strong), at most "
        "max_staleness_s old (eventual), or as old as its time to live (weak).",
        choices=('strong', 'eventual', 'weak'),
    ),
    Option(
        'max_staleness_s',
        'float',
        1.0,
        "With consistency 'eventual', how old the versions may be that a hit is checked against.",
        unit='seconds',
        minimum=0,
        maximum=3600,
    ),
    Option(
        'time_dependent_ttl_s',
        'int',
        60,
        "Time to live of results with a field whose compute method looks at the clock.",
        unit='seconds',
        minimum=0,
        maximum=MAX_TTL_S,
    ),
    Option(
        'ttl_jitter_percent',
        'float',
        10.0,
        "By how much a life is shortened at most, each by another amount, so that entries which "
        "were written together do not expire together; 0 is not at all.",
        unit='per cent',
        minimum=0,
        maximum=50,
    ),
    Option(
        'max_entry_kb',
        'int',
        1024,
        "Largest packed result that any tier stores; 0 stores nothing.",
        unit='kilobytes',
        minimum=0,
        maximum=65_536,
    ),
    Option(
        'l1_max_entries',
        'int',
        10_000,
        "Entries that one process keeps in memory (L1); 0 turns L1 off.",
        unit='entries',
        minimum=0,
        maximum=10_000_000,
    ),
    Option(
        'l1_max_mb',
        'float',
        64.0,
        "Memory that L1 may take in one process; 0 turns L1 off.",
        unit='megabytes',
        minimum=0,
        maximum=1_048_576,
    ),
    Option(
        'l1_policy',
        'choice',
        'cost',
        "Which entry leaves a full L1: least recently used, least frequently used, first "
        "in, the one that expires first, or the one that saves least time per byte.",
        choices=('lru', 'lfu', 'fifo', 'ttl', 'cost'),
    ),
    Option(
        'memory_limit_mb',
        'int',
        0,
        "Resident memory of one process that L1 gives way to, from 80 % of it on, as it does to "
        "Odoo's limit_memory_soft; 0 is Odoo's limit only.",
        unit='megabytes',
        minimum=0,
        maximum=1_048_576,
    ),
    Option(
        'l1_ttl_s',
        'int',
        3600,
        "Time to live of an entry in L1.",
        unit='seconds',
        minimum=1,
        maximum=MAX_TTL_S,
    ),
    Option(
        'l1_min_cost_ms',
        'float',
        2.0,
        "A result that took less time to compute is not stored in L1.",
        unit='milliseconds',
        minimum=0,
        maximum=3_600_000,
    ),
    Option(
        'redis_url',
        'redis_url',
        '',
        "Where Redis or Valkey answers (L2), for example redis://localhost:6379/0; empty "
        "means no L2.",
    ),
    Option(
        'redis_timeout_ms',
        'int',
        50,
        "Longest wait for Redis, for the connection and for an answer.",
        unit='milliseconds',
        minimum=1,
        maximum=5000,
    ),
    Option(
        'l2_ttl_s',
        'int',
        3600,
        "Time to live of an entry in Redis (L2).",
        unit='seconds',
        minimum=1,
        maximum=MAX_TTL_S,
    ),
    Option(
        'l2_min_cost_ms',
        'float',
        5.0,
        "A result that took less time to compute is not stored in L2.",
        unit='milliseconds',
        minimum=0,
        maximum=3_600_000,
    ),
    Option(
        'l2_max_entries',
        'int',
        100_000,
        "Entries of this database in Redis (L2); those that expire first are removed. 0 is no "
        "limit.",
        unit='entries',
        minimum=0,
        maximum=1_000_000_000,
    ),
    Option(
        'l2_max_mb',
        'int',
        0,
        "Size of the entries of this database in Redis (L2), estimated; those that expire first "
        "are removed. 0 is no limit but Redis's own.",
        unit='megabytes',
        minimum=0,
        maximum=1_048_576,
    ),
    Option('l3_enabled', 'bool', True, "Keep entries in a table of the database (L3)."),
    Option(
        'l3_max_entries',
        'int',
        0,
        "Entries in L3; the oldest are removed. 0 is no limit.",
        unit='entries',
        minimum=0,
        maximum=100_000_000,
    ),
    Option(
        'l3_max_mb',
        'int',
        0,
        "Size of the entries in L3; the oldest are removed. 0 is no limit.",
        unit='megabytes',
        minimum=0,
        maximum=1_048_576,
    ),
    Option(
        'l3_ttl_s',
        'int',
        3600,
        "Time to live of an entry in L3.",
        unit='seconds',
        minimum=1,
        maximum=MAX_TTL_S,
    ),
    Option(
        'l3_min_cost_ms',
        'float',
        20.0,
        "A result that took less time to compute is not stored in L3.",
        unit='milliseconds',
        minimum=0,
        maximum=3_600_000,
    ),
    Option(
        'audit_rate',
        'float',
        0.001,
        "Share of hits that are computed again and compared: 0 is none, 1 is every hit.",
        minimum=0,
        maximum=1,
    ),
    Option(
        'capture',
        'choice',
        'triggers',
        "How changes are seen: by database triggers (everything, raw SQL included) or by "
        "the ORM (only what goes through Odoo).",
        choices=('triggers', 'orm'),
    ),
    Option(
        'guard_lock_timeout_ms',
        'int',
        100,
        "Longest wait for the lock under which a table gets its triggers; retried later.",
        unit='milliseconds',
        minimum=1,
        maximum=60_000,
    ),
    Option(
        'compaction_rows',
        'int',
        10_000,
        "Journal rows after which a worker sums them up without waiting for the scheduled action.",
        unit='rows',
        minimum=100,
        maximum=10_000_000,
    ),
    Option(
        'metrics_flush_s',
        'int',
        10,
        "How often a process writes its figures to the database.",
        unit='seconds',
        minimum=1,
        maximum=3600,
    ),
    Option(
        'metrics_minutes_days',
        'int',
        2,
        "How long figures are kept by the minute; afterwards by the hour.",
        unit='days',
        minimum=1,
        maximum=365,
    ),
    Option(
        'metrics_hours_days',
        'int',
        60,
        "How long figures are kept by the hour; afterwards by the day.",
        unit='days',
        minimum=31,
        maximum=3650,
    ),
    Option(
        'metrics_keep_days',
        'int',
        730,
        "How long figures are kept at all.",
        unit='days',
        minimum=1,
        maximum=3650,
    ),
    Option(
        'schedule_keep_days',
        'int',
        30,
        "How long scheduled removals are listed after they were done, cancelled or failed.",
        unit='days',
        minimum=1,
        maximum=3650,
    ),
    Option(
        'log_keep_days',
        'int',
        90,
        "How long the log of what people did with the cache is kept.",
        unit='days',
        minimum=1,
        maximum=3650,
    ),
    Option(
        'record_calls',
        'bool',
        True,
        "Write down which reads save most time, with their arguments, so that a warm-up can repeat "
        "them.",
    ),
    Option(
        'calls_keep_days',
        'int',
        14,
        "How long a read is remembered for warm-up after it was last answered from the cache.",
        unit='days',
        minimum=1,
        maximum=3650,
    ),
    Option(
        'api_max_body_kb',
        'int',
        1024,
        "Largest body of a request to the batch API; larger ones are refused before they are "
        "parsed.",
        unit='kilobytes',
        minimum=1,
        maximum=65_536,
    ),
    Option(
        'api_time_budget_s',
        'float',
        20.0,
        "Time after which a request to the batch API makes no further call, and the longest time "
        "of one of its queries.",
        unit='seconds',
        minimum=0.001,
        maximum=3600,
    ),
    Option(
        'api_page_size',
        'int',
        80,
        "Rows on a page of the catalogue, unless the request asks for fewer.",
        unit='rows',
        minimum=1,
        maximum=1000,
    ),
    Option(
        'api_supplier_list_fields',
        'names',
        'name,ref,email,phone,city,country_id',
        "Fields of a supplier in the catalogue's list of suppliers; those that do not exist are "
        "left out.",
    ),
    Option(
        'api_supplier_fields',
        'names',
        'name,ref,vat,email,phone,website,street,street2,zip,city,state_id,country_id,'
        'lang,write_date',
        "Fields of one supplier in the catalogue.",
    ),
    Option(
        'api_product_list_fields',
        'names',
        'name,default_code,barcode,list_price,categ_id,uom_id',
        "Fields of a product on the pages of the catalogue.",
    ),
    Option(
        'api_product_fields',
        'names',
        'name,default_code,barcode,list_price,categ_id,uom_id,type,description_sale,'
        'weight,volume,sale_ok,purchase_ok,active,write_date',
        "Fields of one product in the catalogue.",
    ),
    Option(
        'api_order_fields',
        'names',
        'name,state,date_order,partner_id,amount_total,currency_id,invoice_status,'
        'delivery_status,receipt_status,write_date',
        "Fields of the status of an order, for sales and for purchases.",
    ),
    Option(
        'metrics_addresses',
        'networks',
        '',
        "Networks from which /cache/1/metrics answers without a key, for example 10.0.0.0/8,::1; "
        "empty is none.",
    ),
    Option(
        'indicator',
        'bool',
        True,
        "Show Cache Administrators in developer mode where the last view came from.",
    ),
)
OPTIONS: dict[str, Option] = {option.name: option for option in _TABLE}


class Settings:
    """The values that are in force, one attribute per option; read-only.

    :ivar problems: one sentence per value that was skipped
    """

    enabled: bool
    consistency: str
    max_staleness_s: float
    time_dependent_ttl_s: int
    ttl_jitter_percent: float
    max_entry_kb: int
    l1_max_entries: int
    l1_max_mb: float
    l1_policy: str
    memory_limit_mb: int
    l1_ttl_s: int
    l1_min_cost_ms: float
    redis_url: str
    redis_timeout_ms: int
    l2_ttl_s: int
    l2_min_cost_ms: float
    l2_max_entries: int
    l2_max_mb: int
    l3_enabled: bool
    l3_max_entries: int
    l3_max_mb: int
    l3_ttl_s: int
    l3_min_cost_ms: float
    audit_rate: float
    capture: str
    guard_lock_timeout_ms: int
    compaction_rows: int
    metrics_flush_s: int
    metrics_minutes_days: int
    metrics_hours_days: int
    metrics_keep_days: int
    schedule_keep_days: int
    log_keep_days: int
    api_max_body_kb: int
    api_time_budget_s: float
    api_page_size: int
    api_supplier_list_fields: str
    api_supplier_fields: str
    api_product_list_fields: str
    api_product_fields: str
    api_order_fields: str
    metrics_addresses: str
    indicator: bool
    record_calls: bool
    calls_keep_days: int

    problems: list[str]

    def __init__(self, values: Mapping, sources: Mapping[str, str], problems: list[str]):
        self.__dict__.update(values)
        self.__dict__.update(_sources=dict(sources), problems=list(problems))

    def __setattr__(self, name, value):
        raise AttributeError(f"settings are read-only: {name}")

    def __eq__(self, other):
        return isinstance(other, Settings) and self.__dict__ == other.__dict__

    __hash__ = None

    def __repr__(self):
        values = {**self.as_dict(), 'redis_url': redis_url.mask(self.redis_url)}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def source(self, name: str) -> str:
        """Where the value comes from: 'default', 'database', 'file' or 'environment'.

        :raise KeyError: there is no such option
        """
        return self._sources[name]

    def is_overridden(self, name: str) -> bool:
        """Whether the value comes from outside the database, where Settings cannot write."""
        return self.source(name) in ('file', 'environment')

    def as_dict(self) -> dict:
        return {name: getattr(self, name) for name in OPTIONS}


def load(
    params: Mapping[str, str],
    *,
    environ: Mapping[str, str] | None = None,
    config_path: str | None = None,
) -> Settings:
    """The settings in force.  Never raises for a bad value or an unreadable file.

    :param params: values of ``ir.config_parameter``, keys without the prefix
    :param environ: ``os.environ`` unless told
    :param config_path: the running server's odoo.conf unless told; '' for none
    """
    problems: list[str] = []
    environ = os.environ if environ is None else environ
    path = _server_config_path() if config_path is None else config_path
    in_file = _read_file(path, problems)
    layers = (
        ('environment', {n: environ.get(o.variable) for n, o in OPTIONS.items()}),
        ('file', in_file),
        ('database', params),
    )
    values, sources = {}, {}
    for name, option in OPTIONS.items():
        values[name], sources[name] = _pick(option, layers, problems)
    return Settings(values, sources, problems)


def check(name: str, text: str) -> bool | int | float | str:
    """The value that ``text`` stands for.

    :raise ValueError: with a sentence for the person who typed it
    :raise KeyError: there is no such option
    """
    option = OPTIONS[name]
    return _PARSERS[option.kind](option, text.strip())


def to_text(value: bool | int | float | str) -> str:
    """The text that :func:`check` turns into ``value``; 0.00001 does not become 1e-05."""
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, float):
        return f'{value:.10f}'.rstrip('0').rstrip('.')
    return str(value)


def describe_source(name: str, source: str) -> str:
    """Name of the place to look at, for 'set by …'."""
    option = OPTIONS[name]
    return {
        'environment': _lt("environment variable %(name)s", name=option.variable),
        'file': _lt("%(name)s in section [tiered_cache] of odoo.conf", name=option.name),
        'database': _lt("system parameter %(name)s", name=option.parameter),
        'default': _lt("default"),
    }[source]


def _pick(option: Option, layers, problems: list[str]):
    for source, texts in layers:
        text = texts.get(option.name)
        if text is None or (not text.strip() and not _empty_counts(option, source)):
            continue
        try:
            return check(option.name, text), source
        except ValueError as error:
            place = describe_source(option.name, source)
            problems.append(
                _lt("The %(place)s is ignored: %(error)s", place=place, error=error.args[0])
            )
    return option.default, 'default'


def _empty_counts(option: Option, source: str) -> bool:
    """TIERED_CACHE_REDIS_URL= keeps one server off the Redis that the database names."""
    return option.kind == 'redis_url' and source != 'database'


def _server_config_path() -> str:
    from odoo.tools import config  # noqa: PLC0415  usable without Odoo until here

    return config['config'] or ''


def _read_file(path: str, problems: list[str]) -> dict[str, str]:
    """The section of odoo.conf, or nothing."""
    parser = configparser.RawConfigParser(default_section='')  # [DEFAULT] is not for us
    try:
        parser.read([path] if path else [], encoding='utf-8')
    except (OSError, configparser.Error, UnicodeDecodeError) as error:
        problems.append(
            _lt(
                "%(path)s cannot be read (%(error)s), so its section [tiered_cache] does not "
                "count. Check its permissions and syntax.",
                path=path,
                error=type(error).__name__,
            )
        )
        return {}
    if not parser.has_section(FILE_SECTION):
        return {}
    section = dict(parser.items(FILE_SECTION))
    for name in sorted(section.keys() - OPTIONS.keys()):
        problems.append(
            _lt(
                "odoo.conf names an unknown option %(name)s in section [tiered_cache]. %(hint)s",
                name=repr(name),
                hint=_suggest(name),
            )
        )
    return section


def _suggest(name: str) -> str:
    if close := difflib.get_close_matches(name, OPTIONS, n=1):
        return _lt("Did you mean %(name)s?", name=close[0])
    return _lt("The options are: %(names)s.", names=', '.join(OPTIONS))


def _parse_bool(option: Option, text: str) -> bool:
    word = text.lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError(
        _lt("%(name)s must be true or false, not %(text)s.", name=option.name, text=_quote(text))
    )


def _parse_int(option: Option, text: str) -> int:
    if not re.fullmatch(r'[+-]?[0-9]{1,18}', text):
        raise ValueError(
            _lt("%(name)s must be a whole number %(range)s, not %(text)s.", **_parts(option, text))
        )
    return _in_range(option, int(text), text)


def _parse_float(option: Option, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            _lt("%(name)s must be a number %(range)s, not %(text)s.", **_parts(option, text))
        )
    return _in_range(option, value, text)


def _in_range(option: Option, value, text: str):
    if not option.minimum <= value <= option.maximum:
        raise ValueError(_lt("%(name)s must be %(range)s, not %(text)s.", **_parts(option, text)))
    return value


def _parts(option: Option, text: str) -> dict:
    limits = {'least': to_text(option.minimum), 'most': to_text(option.maximum)}
    if option.unit:
        limits['unit'] = option.unit
        limits = _lt("between %(least)s and %(most)s %(unit)s", **limits)
    else:
        limits = _lt("between %(least)s and %(most)s", **limits)
    return {'name': option.name, 'range': limits, 'text': _quote(text)}


def _parse_choice(option: Option, text: str) -> str:
    word = text.lower()
    if word not in option.choices:
        raise ValueError(
            _lt(
                "%(name)s must be one of %(choices)s, not %(text)s.",
                name=option.name,
                choices=', '.join(option.choices),
                text=_quote(text),
            )
        )
    return word


def _quote(text: str) -> str:
    return repr(text if len(text) <= 40 else f'{text[:40]}…')


def _parse_redis_url(_option: Option, text: str) -> str:
    return redis_url.check(text)


def _parse_names(option: Option, text: str) -> str:
    """Names of fields, without blanks and doubles."""
    names = [name.strip() for name in text.split(',') if name.strip()]
    for name in names:
        if not re.fullmatch(r'[a-z][a-z0-9_]*', name):
            raise ValueError(
                _lt(
                    "%(name)s must be names of fields, and %(text)s is none.",
                    name=option.name,
                    text=_quote(name),
                )
            )
    return ','.join(dict.fromkeys(names))


def _parse_networks(option: Option, text: str) -> str:
    names = [name.strip() for name in text.split(',') if name.strip()]
    for name in names:
        try:
            ipaddress.ip_network(name)
        except ValueError:
            raise ValueError(
                _lt(
                    "%(name)s must be networks such as 10.0.0.0/8, and %(text)s is none.",
                    name=option.name,
                    text=_quote(name),
                )
            ) from None
    return ','.join(names)


_PARSERS = {
    'bool': _parse_bool,
    'int': _parse_int,
    'float': _parse_float,
    'choice': _parse_choice,
    'redis_url': _parse_redis_url,
    'names': _parse_names,
    'networks': _parse_networks,
}
