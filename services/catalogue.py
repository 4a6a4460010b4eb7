"""What the names in an SQL text stand for, read from PostgreSQL's own catalogue.

The one idea: a text can only read relations whose names stand in it, so tokenizing the
text and looking every token up yields *at least* the relations it reads.  Views are
replaced by the tables under them (``pg_depend`` of their ``pg_rewrite`` rules); a table
stands for its whole inheritance tree, since a statement may name any member of it.

What may go wrong: a name too many costs hits, a missing name would cost truth.  Hence
whatever cannot be proven harmless makes the text *refused*: its result is computed and
not stored.  A name after FROM or JOIN that the catalogue does not know (a table created
a moment ago, a temporary table) makes the caller read the catalogue again, and refuse if
that does not help.  What a name stands for may change while the server runs: :func:`fingerprint`
tells that it has, and :meth:`Catalogue.contradicts` whether a text was misunderstood meanwhile.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import typing

_TOKEN = re.compile(r"[^\W\d][\w$]*")
_SPACE = r"(?:\s|/\*.*?\*/|--[^\n]*\n)"
_CALL = re.compile(rf'([^\W\d][\w$]*)"?{_SPACE}*\(', re.DOTALL)
# What follows FROM or JOIN, and each comma after it while plain names go on.
_SOURCES = re.compile(rf"\b(?:from|join)\b{_SPACE}*", re.IGNORECASE | re.DOTALL)
_SOURCE = re.compile(
    rf"(?:\({_SPACE}*)*(?:only{_SPACE}+)?(?:lateral{_SPACE}+)?"
    rf'(?:"?[^\W\d][\w$]*"?{_SPACE}*\.{_SPACE}*)?"?([^\W\d][\w$]*)"?(?!\w)({_SPACE}*\()?',
    re.IGNORECASE | re.DOTALL,
)
_NEXT_SOURCE = re.compile(
    rf'{_SPACE}*(?:(?:as{_SPACE}+)?"?[^\W\d][\w$]*"?{_SPACE}*)?,{_SPACE}*',
    re.IGNORECASE | re.DOTALL,
)
_LOCAL_NAME = re.compile(
    r'"?([^\W\d][\w$]*)"?\s*(?:\([^()]*\)\s*)?as\s+(?:not\s+)?(?:materialized\s+)?\(', re.IGNORECASE
)
_EXTRACT = re.compile(
    r"\b(?:extract|trim|substring|overlay|position)\s*\([^()]*\bfrom\b", re.IGNORECASE
)

_FIRST_WORD = re.compile(r"(?:\s+|--[^\n]*\n|/\*.*?\*/|\()*([a-z]+)", re.DOTALL)
_DISTINCT_FROM = re.compile(r"\bdistinct\s+from\b")

# A text that begins with SELECT, WITH, VALUES or TABLE writes or locks only with these.
_WRITES = frozenset(["insert", "update", "delete", "merge", "into"])
_READS = frozenset(["select", "with", "values", "table"])
_CLOCK_WORDS = frozenset(
    ["current_timestamp", "current_time", "localtimestamp", "localtime", "current_date"]
)
_CLOCK_CALLS = frozenset(["now", "transaction_timestamp", "statement_timestamp", "age"])
# What becomes a time or a date when PostgreSQL reads it as one, in the server's time zone.
_CLOCK_TEXT = re.compile(r"'\s*(?:now|today|tomorrow|yesterday)\b")
# Stable built-ins beginning with pg_ look at the server, not at data; these look at
# their arguments only.
_HARMLESS_PG = frozenset(["pg_size_pretty", "pg_column_size", "pg_typeof"])
# Functions of these extensions compute from their arguments and read no table.
_HARMLESS_EXTENSIONS = (
    "unaccent",
    "pg_trgm",
    "fuzzystrmatch",
    "btree_gin",
    "btree_gist",
    "cube",
    "earthdistance",
    "vector",
    "citext",
    "hstore",
    "uuid-ossp",
)
_SESSION = frozenset(
    [
        "current_setting",
        "current_schemas",
        "inet_client_addr",
        "inet_client_port",
        "inet_server_addr",
        "inet_server_port",
        "has_table_privilege",
        "query_to_xml",
        "table_to_xml",
        "schema_to_xml",
        "database_to_xml",
        "cursor_to_xml",
        "query_to_xml_and_xmlschema",
        "table_to_xml_and_xmlschema",
        "schema_to_xml_and_xmlschema",
        "database_to_xml_and_xmlschema",
        "col_description",
        "obj_description",
        "shobj_description",
        "row_security_active",
        "txid_current",
        "txid_current_if_assigned",
        "txid_current_snapshot",
        "txid_status",
    ]
)
_NEUTRAL = frozenset(("savepoint", "release"))

_RELATIONS = """
SELECT c.oid, c.relname, c.relkind, c.relpersistence, c.relrowsecurity,
       c.relnamespace = current_schema()::regnamespace
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname NOT LIKE 'pg\\_%%'
   AND n.nspname <> 'information_schema'
 UNION ALL
SELECT c.oid, c.relname, c.relkind, c.relpersistence, c.relrowsecurity, FALSE
  FROM pg_class c WHERE c.relpersistence = 't' AND c.relkind IN ('r', 'p', 'v')
"""
_VIEW_SOURCES = """
SELECT r.ev_class, d.refclassid::regclass::text, d.refobjid
  FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
 WHERE r.ev_type = '1' AND d.refobjid <> r.ev_class
   AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass)
"""
_INHERITANCE = "SELECT inhrelid, inhparent FROM pg_inherits"
# Of functions that are not PostgreSQL's own: those that may look at data.  An aggregate always
# says IMMUTABLE, whatever the functions do that it is made of.
_FOREIGN = """
SELECT p.oid, lower(p.proname) AS name FROM pg_proc p
 WHERE p.oid >= 16384
   AND (p.provolatile <> 'i' OR p.oid IN (
        SELECT a.aggfnoid FROM pg_aggregate a JOIN pg_proc f
            ON f.oid IN (a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
         WHERE f.oid >= 16384 AND f.provolatile <> 'i'))
   AND NOT EXISTS (
       SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
          AND d.refclassid = 'pg_extension'::regclass AND e.extname = ANY(%s))
"""
_FUNCTIONS = f"""
WITH foreign_function AS ({_FOREIGN})
SELECT 'volatile', lower(proname), 0::bigint FROM pg_proc WHERE oid < 16384 AND provolatile = 'v'
 UNION ALL
SELECT 'function', name, 0 FROM foreign_function
 UNION ALL
SELECT 'operator', lower(o.oprname), o.oid::bigint FROM pg_operator o
  JOIN foreign_function f ON f.oid = o.oprcode
 UNION ALL
SELECT 'cast', lower(t.typname), 0 FROM pg_cast c JOIN foreign_function f ON f.oid = c.castfunc
  JOIN pg_type t ON t.oid IN (c.castsource, c.casttarget) WHERE t.oid >= 16384
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What a text reads.

    :param relations: ordinary tables, or None when its result must not be stored
    :param refusal: why not, as a short word for the statistics; '' when it may
    :param clock: whether the text looks at the time
    """

    relations: frozenset[str] | None
    refusal: str = ""
    clock: bool = False


NOTHING = Reading(frozenset())

MAX_READINGS = 2048

_FINGERPRINT = """
SELECT (SELECT array[count(*), max(oid::bigint), sum(hashtextextended(relname,
                     (oid::bigint + 7 * relnamespace::bigint) * 4 + relrowsecurity::int
                     + 2 * relforcerowsecurity::int) # ascii(relpersistence))]
          FROM pg_class
         WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND relpersistence <> 't' AND oid >= 16384),
       (SELECT array[count(*), sum(oid::bigint + 3 * xmin::text::bigint)] FROM pg_proc
         WHERE oid >= 16384 AND provolatile <> 'i'),
       (SELECT array[count(*), sum(oid::bigint), sum(oprcode::oid::bigint)] FROM pg_operator
         WHERE oid >= 16384),
       (SELECT array[count(*), sum(oid::bigint)] FROM pg_cast WHERE oid >= 16384),
       (SELECT array[count(*), sum(inhrelid::bigint + 3 * inhparent::bigint)] FROM pg_inherits
          JOIN pg_class i ON i.oid = inhrelid WHERE i.relkind IN ('r', 'p', 'f')),
       (SELECT array[count(*), sum(oid::bigint), sum(xmin::text::bigint)] FROM pg_rewrite
         WHERE oid >= 16384 AND ev_type = '1'),
       (SELECT array[count(*), sum(oid::bigint + 3 * xmin::text::bigint)] FROM pg_proc
         WHERE oid >= 16384 AND provolatile = 'i')
"""


class Fingerprint(typing.NamedTuple):
    """Changes with what names stand for.

    :param names: tables and views by name and kind, functions, operators and casts
    :param beneath: what stands under tables and views, and the bodies of IMMUTABLE functions
    """

    names: tuple
    beneath: tuple


def fingerprint(cr) -> Fingerprint:
    """What :class:`Catalogue` reads, in a few numbers.

    CREATE OR REPLACE keeps the oid of a view's rule and of a function, and writes the row anew:
    its xmin tells.
    """
    cr.execute(_FINGERPRINT)
    parts = [tuple(map(int, (x or 0 for x in part))) for part in cr.fetchone()]
    return Fingerprint(tuple(parts[:4]), tuple(parts[4:]))


class Catalogue:
    """One reading of the catalogue; build another one when it has changed.

    :param cr: any cursor on the database
    """

    def __init__(self, cr):
        self._tables: dict[str, frozenset[str]] = {}
        self._refused: dict[str, str] = {}
        self._odd_names: list[str] = []
        self._clock_views: set[str] = set()
        self._volatile: set[str] = set()
        self._foreign_functions: set[str] = set()
        self._foreign_operators: dict[int, str] = {}
        self._foreign_types: set[str] = set()
        self._readings: collections.OrderedDict[str, Reading] = collections.OrderedDict()
        self._load_functions(cr)
        self._load_relations(cr)

    def knows(self, relation: str) -> bool:
        """Whether the name is an ordinary table that can be guarded."""
        return relation in self._tables

    def tree(self, relation: str) -> frozenset[str]:
        """The inheritance tree of a table: itself, its partitions, its parents."""
        return self._tables.get(relation, frozenset((relation,)))

    def reading(self, text: str) -> Reading | None:
        """What an SQL text reads; None when it names something unknown.

        Remembers the last MAX_READINGS texts: Odoo's ORM asks the same ones again and again.
        """
        try:
            return self._readings[text]
        except KeyError:
            reading = self._analyse(text)
        if reading is not None and reading is not NOTHING:  # names of savepoints are unique
            self._readings[text] = reading
            while len(self._readings) > MAX_READINGS:
                self._readings.popitem(last=False)
        return reading

    def contradicts(self, older: Catalogue) -> bool:
        """Whether a text that an older catalogue understood reads something else, or may: what was
        stored meanwhile may lack a dependency."""
        readings = dict(older._readings)
        return len(readings) >= MAX_READINGS or any(
            reading.relations is not None and self.reading(text) != reading
            for text, reading in readings.items()
        )

    # -- reading a text ----------------------------------------------------------------

    def _analyse(self, text: str) -> Reading | None:
        lowered = text.lower().rstrip().rstrip(";")
        match = _FIRST_WORD.match(lowered)
        first = match[1] if match else ""
        if first in _NEUTRAL:
            return NOTHING
        tokens = set(_TOKEN.findall(lowered))
        calls = set(_CALL.findall(lowered))
        if first not in _READS or ";" in lowered:
            return Reading(None, "statement")
        if refusal := (
            self._refuse(lowered, tokens)
            or self._refuse_calls(calls)
            or self._refuse_foreign(lowered, tokens)
        ):
            return Reading(None, refusal)
        if self._unknown_source(lowered):
            return None
        relations: set[str] = set()
        for name in tokens:
            relations |= self._tables.get(name, frozenset())
        for name in self._odd_names:
            if name in lowered:
                relations |= self._tables[name]
        clock = (
            not (_CLOCK_WORDS | self._clock_views).isdisjoint(tokens)
            or not _CLOCK_CALLS.isdisjoint(calls)
            or _CLOCK_TEXT.search(lowered) is not None
        )
        return Reading(frozenset(relations), clock=clock)

    def _refuse(self, lowered: str, tokens: set[str]) -> str:
        if not _WRITES.isdisjoint(tokens):
            return "writes or locks"
        if "share" in tokens and re.search(r"\bfor\s+(?:key\s+)?share\b", lowered):
            return "writes or locks"
        if 'u&"' in lowered:
            return "system catalogue"
        for name in tokens:
            if name in self._refused:
                return self._refused[name]
        return _refuse_system(tokens)

    def _refuse_calls(self, calls: set[str]) -> str:
        for name in calls:
            if name in self._volatile or name in _SESSION:
                return f"volatile {name}"
        return ""

    def _refuse_foreign(self, lowered: str, tokens: set[str]) -> str:
        """Functions that are not PostgreSQL's own need no parenthesis: ``p.f`` calls ``f(p)``."""
        for name in tokens:
            if name in self._foreign_functions:
                return f"function {name}"
            if name in self._foreign_types:
                return f"cast {name}"
        for symbol in self._foreign_operators.values():
            if symbol in lowered:
                return f"operator {symbol}"
        return ""

    def _unknown_source(self, lowered: str) -> bool:
        """Whether FROM or JOIN names something that is neither known nor local."""
        local = None
        for name, call in _sources(_DISTINCT_FROM.sub(" ", _EXTRACT.sub(" ", lowered))):
            if call or name in self._tables or name in ("select", "lateral", "unnest", "values"):
                continue
            if local is None:
                local = set(_LOCAL_NAME.findall(lowered))
            if name not in local:
                return True
        return False

    # -- loading -----------------------------------------------------------------------

    def _load_functions(self, cr) -> None:
        cr.execute(_FUNCTIONS, [list(_HARMLESS_EXTENSIONS)])
        for what, name, oid in cr.fetchall():
            if what == "volatile":
                self._volatile.add(name)
            elif what == "function":
                self._foreign_functions.add(name)
            elif what == "operator":
                self._foreign_operators[oid] = name
            else:
                self._foreign_types.add(name)

    def _load_relations(self, cr) -> None:
        cr.execute(_RELATIONS)
        rows = cr.fetchall()
        names = {oid: name for oid, name, *_ in rows}
        trees = self._inheritance_trees(cr)
        found: dict[str, set[str]] = collections.defaultdict(set)
        views = {}
        for oid, name, kind, persistence, row_security, here in rows:
            if kind == "v" and persistence != "t":
                views[oid] = name
            elif refusal := _refusal(name, kind, persistence, row_security, here):
                self._refused[name.lower()] = refusal
            else:
                found[name].update(names.get(o, name) for o in trees.get(oid, (oid,)))
        for name, tree in found.items():
            # names that differ in case only share an item: a name too many does no harm
            known = self._tables.get(name.lower(), frozenset())
            self._tables[name.lower()] = known | frozenset(tree)
        self._add_views(cr, views, names)
        self._odd_names = [name for name in self._tables if not _TOKEN.fullmatch(name)]

    @staticmethod
    def _inheritance_trees(cr) -> dict[int, set[int]]:
        trees: dict[int, set[int]] = {}
        cr.execute(_INHERITANCE)
        for child, parent in cr.fetchall():
            tree = trees.get(child, {child}) | trees.get(parent, {parent})
            trees.update(dict.fromkeys(tree, tree))
        return trees

    def _add_views(self, cr, views: dict[int, str], names: dict[int, str]) -> None:
        cr.execute(_VIEW_SOURCES)
        sources = collections.defaultdict(set)
        for view, kind, source in cr.fetchall():
            sources[view].add((kind, source))
        definitions = self._view_definitions(cr)
        for oid, name in views.items():
            under: set[int] = set()
            tables, refusal = self._under(oid, sources, views, names, under)
            trees = [definitions.get(view, _NO_TREE) for view in under]
            calls = set().union(*(tree.calls for tree in trees))
            if not refusal and any(tree.system for tree in trees):
                refusal = "system catalogue"
            if refusal := refusal or self._refuse_calls(calls) or _refuse_system(calls):
                self._refused[name.lower()] = refusal
                continue
            self._tables[name.lower()] = frozenset(tables)
            if any(tree.clock for tree in trees) or not _CLOCK_CALLS.isdisjoint(calls):
                self._clock_views.add(name.lower())

    @staticmethod
    def _view_definitions(cr) -> dict[int, _Tree]:
        """What the parse tree of each view holds.

        Not ``pg_get_viewdef``: it locks every table under the view, and would wait for
        whoever alters one.
        """
        cr.execute("SELECT oid, lower(proname) FROM pg_proc WHERE oid < 16384")
        functions = dict(cr.fetchall())
        cr.execute(
            "SELECT r.ev_class, r.ev_action::text FROM pg_rewrite r"
            " JOIN pg_class c ON c.oid = r.ev_class"
            " WHERE r.ev_type = '1' AND c.relkind = 'v' AND c.oid >= 16384"
        )
        return {view: _Tree.parse(text, functions) for view, text in cr.fetchall()}

    def _under(self, oid, sources, views, names, seen) -> tuple[set[str], str]:
        tables: set[str] = set()
        seen.add(oid)
        for kind, source in sources[oid]:
            if source in seen:
                continue
            if kind == "pg_proc" and source >= 16384:
                return tables, "view on a function"
            if kind == "pg_operator" and source in self._foreign_operators:
                return tables, "view on an operator"
            if kind in ("pg_proc", "pg_operator"):
                continue
            if source in views:
                below, refusal = self._under(source, sources, views, names, seen)
                if refusal:
                    return tables, refusal
                tables |= below
            elif source not in names:
                return tables, "system catalogue"
            elif (name := names[source].lower()) in self._refused:
                return tables, self._refused[name]
            else:
                tables |= self._tables.get(name, frozenset((names[source],)))
        return tables, ""


class _Tree(typing.NamedTuple):
    """:param calls: built-in functions that a parse tree calls
    :param clock: whether it names ``CURRENT_DATE`` or the like
    :param system: whether it reads PostgreSQL's own catalogue, on which no dependency is noted
    """

    calls: frozenset[str]
    clock: bool
    system: bool

    @classmethod
    def parse(cls, text: str, functions: dict[int, str]) -> _Tree:
        oids = map(int, _TREE_FUNCTION.findall(text))
        return cls(
            frozenset(functions[oid] for oid in oids if oid in functions),
            "SQLVALUEFUNCTION" in text,
            any(0 < int(oid) < 16384 for oid in _TREE_RELATION.findall(text)),
        )


_NO_TREE = _Tree(frozenset(), False, False)
_TREE_FUNCTION = re.compile(r":(?:funcid|opfuncid|aggfnoid|winfnoid) (\d+)")
_TREE_RELATION = re.compile(r":relid (\d+)")


def _sources(lowered: str):
    """Names after FROM and JOIN, and after the commas of a list of plain names; with each what
    makes it a call."""
    for start in _SOURCES.finditer(lowered):
        source = _SOURCE.match(lowered, start.end())
        while source:
            yield source.groups()
            # after SELECT there are columns between the commas
            is_list = not source[2] and source[1] != "select"
            following = _NEXT_SOURCE.match(lowered, source.end()) if is_list else None
            source = following and _SOURCE.match(lowered, following.end())
            if source and source[0].count('"') % 2:
                break  # a name with blanks: these are looked for by themselves


def _refuse_system(words: set[str]) -> str:
    if "information_schema" in words or any(
        word.startswith("pg_") and word not in _HARMLESS_PG for word in words
    ):
        return "system catalogue"
    return ""


def _refusal(name: str, kind: str, persistence: str, row_security: bool, here: bool) -> str:
    """Why results that read this relation are not stored; '' for ordinary tables."""
    by_kind = {"m": "materialized view", "f": "foreign table", "S": "sequence"}
    if kind in by_kind:
        return by_kind[kind]
    if persistence == "t":
        return "temporary table"
    if persistence == "u":
        return "unlogged table"  # a crash empties it, and no trigger tells
    if not here:
        return "another schema"
    if row_security:
        return "row security"
    if ":" in name or "#" in name:
        return "name of the table"
    return ""
