"""The calls that the web client makes when a user opens a window action.

The one idea: each job is a generator that yields a :class:`Call` and is sent the answer
(None when the call failed), so that what is asked next can depend on what came back,
while who sends, repeats and compares stays elsewhere.
"""

import json
from dataclasses import dataclass, field

from .viewspec import DATES, X2MANY, Arch, SearchView, evaluate_or, groupable_fields

COUNT_LIMIT = 10001  # the client asks for one more than DEFAULT_COUNT_LIMIT
FIELD_ATTRIBUTES = ["string", "type", "relation", "required", "readonly", "selection", "store"]
FILTERS = 5
FORM_RECORDS = 2
GROUPED_LIMIT = 10
GROUPINGS = 3
PANEL_LIMIT = 200
READ_FIELDS = 12


@dataclass(frozen=True)
class Call:
    """A remote call; equal calls are recognized by :attr:`key`."""

    model: str
    method: str
    args: list = field(default_factory=list)
    kwargs: dict = field(default_factory=dict)

    @property
    def key(self):
        return json.dumps([self.model, self.method, self.args, self.kwargs], sort_keys=True)


class Window:
    """What one window action shows: its views, domain and context as the client has them.

    :param dict action: values of ``ir.actions.act_window``
    :param dict views: the answer of ``get_views``
    :param dict names: identifiers that domains and contexts may use, see ``viewspec``
    :param int limit: records per list at most
    """

    def __init__(self, action, views, names, limit):
        self.model = action["res_model"]
        self.names = names
        self.limit = limit
        self.models = views["models"]
        self.fields = self.models[self.model]["fields"]
        context = action_context(action, names)
        self.context = {
            key: value
            for key, value in context.items()
            if not key.startswith(("search_default_", "searchpanel_default_")) and key != "group_by"
        }
        search = views["views"].get("search", {}).get("arch")
        self.search = SearchView(search, self.fields, names)
        self.domain = evaluate_or([], action["domain"], names)
        self.domain = self.domain + self.search.default_domain(context)
        self.archs = {
            kind: Arch(view["arch"], self.model, self.models, names)
            for kind, view in views["views"].items()
            if kind in ("list", "kanban", "form", "pivot", "graph")
        }

    def call(self, method, kwargs, args=(), **context):
        """A call in the context of this action."""
        kwargs = {**kwargs, "context": {**self.context, **context}}
        return Call(self.model, method, list(args), kwargs)

    def groupings(self):
        """:return list: group-by specifications, those of the search view first."""
        found = self.search.groupings()
        found += [
            self.search.normalize(name)
            for name in groupable_fields(self.fields)
            if name not in ("create_uid", "write_uid")
        ]
        return list(dict.fromkeys(found))[:GROUPINGS]

    def search_read(self, kind):
        """The first page of a list or kanban."""
        arch = self.archs[kind]
        kwargs = {
            "domain": self.domain,
            "specification": arch.specification(),
            "offset": 0,
            "order": arch.order(),
            "limit": min(arch.limit(80), self.limit),
            "count_limit": COUNT_LIMIT,
        }
        return self.call("web_search_read", kwargs, bin_size=True)

    def read_group(self, kind, grouping):
        """A grouped list (folded) or kanban (its columns unfolded)."""
        arch = self.archs[kind]
        kwargs = {
            "domain": self.domain,
            "groupby": [grouping],
            "aggregates": arch.aggregates(),
            "limit": 80,
            "offset": 0,
            "order": arch.order(),
            "auto_unfold": kind == "kanban",
            "opening_info": [],
            "unfold_read_specification": arch.specification(),
            "unfold_read_default_limit": GROUPED_LIMIT,
            "groupby_read_specification": {},
        }
        return self.call("web_read_group", kwargs, read_group_expand=True)

    def progress_bar(self, grouping):
        """The counts over the columns of a kanban, or None without a progress bar."""
        node = self.archs["kanban"].root.find("progressbar")
        if node is None:
            return None
        progress_bar = {
            "field": node.get("field"),
            "colors": json.loads(node.get("colors", "{}")),
            "help": node.get("help", ""),
        }
        kwargs = {"domain": self.domain, "group_by": grouping, "progress_bar": progress_bar}
        return self.call("read_progress_bar", kwargs)

    def measures(self, kind=None):
        """:return list: aggregates of a pivot or graph, those of its view first."""
        arch = self.archs.get(kind) or Arch("<pivot/>", self.model, self.models, self.names)
        shown = [node.get("name") for node in arch.field_nodes() if node.get("type") == "measure"]
        names = (
            shown
            or [
                name
                for name, values in self.fields.items()
                if values.get("aggregator") and values.get("store")
            ][:3]
        )
        return [*arch.aggregates(names), "__count"] if names else ["__count"]

    def panel_call(self, attributes):
        """The values of one section of the search panel."""
        kwargs = {
            "category_domain": [],
            "filter_domain": [],
            "search_domain": self.domain,
            "enable_counters": _is_true(attributes.get("enable_counters")),
            "expand": _is_true(attributes.get("expand")),
            "limit": _panel_limit(attributes.get("limit", "")),
        }
        name = attributes["name"]
        if attributes.get("select") == "multi":
            kwargs["comodel_domain"] = evaluate_or([], attributes.get("domain"), self.names)
            kwargs["group_by"] = attributes.get("groupby") or False
            kwargs["group_domain"] = []
            return self.call("search_panel_select_multi_range", kwargs, [name])
        kwargs["hierarchize"] = attributes.get("hierarchize") not in ("0", "False")
        return self.call("search_panel_select_range", kwargs, [name])


def _is_true(text):
    return text in ("1", "True", "true")


def _panel_limit(text):
    if text.isdigit():
        return int(text)
    return False if text else PANEL_LIMIT


def action_context(action, names):
    """:return dict: the context of an action, as far as a program can evaluate it."""
    context = evaluate_or({}, action["context"], names)
    return context if isinstance(context, dict) else {}


def get_views_call(action, names):
    """The call that opens an action."""
    context = action_context(action, names)
    view_refs = {key: value for key, value in context.items() if key.endswith("_view_ref")}
    search_view = action["search_view_id"]
    views = [[view_id or False, kind] for view_id, kind in action["views"]]
    views.append([search_view[0] if search_view else False, "search"])
    options = {
        "action_id": action["id"],
        "embedded_action_id": False,
        "embedded_parent_res_id": False,
        "load_filters": True,
        "toolbar": True,
    }
    kwargs = {"views": views, "options": options, "context": view_refs}
    return Call(action["res_model"], "get_views", [], kwargs)


def main_calls(action, names, limit):
    """What every user of the action causes: views, list, kanban and form."""
    views = yield get_views_call(action, names)
    if not views:
        return
    window = Window(action, views, names, limit)
    ids = []
    for kind in ("list", "kanban"):
        if kind in window.archs:
            answer = yield window.search_read(kind)
            ids = ids or [record["id"] for record in (answer or {}).get("records", [])]
    if "form" not in window.archs:
        return
    if not ids:
        kwargs = {"domain": [], "fields": ["id"], "limit": FORM_RECORDS}
        ids = [record["id"] for record in (yield window.call("search_read", kwargs)) or []]
    specification = window.archs["form"].specification()
    for record_id in ids[:FORM_RECORDS]:
        kwargs = {"specification": specification}
        yield window.call("web_read", kwargs, [[record_id]], bin_size=True)


def grouping_calls(action, names, limit):
    """What grouping, a pivot, a graph and the search panel cause."""
    views = yield get_views_call(action, names)
    if not views:
        return
    window = Window(action, views, names, limit)
    groupings = window.groupings()
    yield from _grouped_views(window, groupings)
    if groupings:
        kwargs = {
            "domain": window.domain,
            "groupby": groupings[:1],
            "aggregates": window.measures("graph"),
        }
        yield window.call("formatted_read_group", kwargs, fill_temporal=True)
        kwargs = {
            "domain": window.domain,
            "grouping_sets": [groupings[:size] for size in range(min(len(groupings), 2) + 1)],
            "aggregates": window.measures("pivot"),
        }
        yield window.call("formatted_read_grouping_sets", kwargs)
    for attributes in window.search.panel():
        yield window.panel_call(attributes)
    for domain in window.search.filter_domains()[:FILTERS]:
        yield window.call("search_count", {}, [domain])


def _grouped_views(window, groupings):
    for kind in ("list", "kanban"):
        arch = window.archs.get(kind)
        if arch is None:
            continue
        default = window.search.normalize(arch.root.get("default_group_by", ""))
        chosen = [grouping for grouping in (default, *groupings) if grouping]
        for grouping in dict.fromkeys(chosen):
            yield window.read_group(kind, grouping)
            progress_bar = window.progress_bar(grouping) if kind == "kanban" else None
            if progress_bar:
                yield progress_bar


def model_calls(model, limit):
    """What other code and other clients ask of a model, whatever action shows it."""
    fields = yield Call(model, "fields_get", [], {"attributes": FIELD_ATTRIBUTES})
    if not fields:
        return
    yield Call(model, "search_count", [[]])
    yield Call(model, "name_search", [], {"name": "", "domain": [], "limit": 8})
    yield Call(model, "name_search", [], {"name": "a", "operator": "ilike", "limit": 8})
    kwargs = {"name": "a", "specification": {"display_name": {}}, "domain": [], "limit": 8}
    yield Call(model, "web_name_search", [], kwargs)
    names = plain_fields(fields)
    kwargs = {"domain": [], "fields": names, "limit": limit, "order": "id desc"}
    records = yield Call(model, "search_read", [], kwargs)
    if records:
        yield Call(model, "read", [[record["id"] for record in records], names])
    groupings = groupable_fields(fields)
    if groupings:
        kwargs = {"domain": [], "fields": ["__count"], "groupby": [_with_month(fields, groupings)]}
        yield Call(model, "read_group", [], kwargs)


def _with_month(fields, groupings):
    name = groupings[0]
    return f"{name}:month" if fields[name]["type"] in DATES else name


def plain_fields(fields):
    """:return list: some stored fields of every kind, binary ones and archives aside."""
    names = [
        name
        for name, values in sorted(fields.items())
        if values.get("store") and values["type"] != "binary"
    ]
    relational = [name for name in names if fields[name]["type"] in (*X2MANY, "many2one")]
    others = [name for name in names if name not in relational]
    return others[:READ_FIELDS] + relational[: READ_FIELDS // 2]
