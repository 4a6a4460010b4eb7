"""What the web client would ask for, derived from what ``get_views`` answered.

The one idea: follow ``getFieldsSpec`` and the arch parsers of Odoo's own client
(``addons/web/static/src/model/relational_model/utils.js``), so that a measured or
compared call is one that users really send.  It is an approximation: extra fields that
single widgets declare (``fieldDependencies``) and contexts that need a record's values
are left out, which makes a specification smaller than the client's, never wrong.
"""

import ast
from xml.etree import ElementTree

AGGREGATABLE = ("float", "integer", "monetary")
DATES = ("date", "datetime")
GROUPABLE = ("many2one", "selection", "boolean", "date", "datetime", "char", "many2many")
SUB_VIEWS = ("list", "kanban")
X2MANY = ("one2many", "many2many")
# Tags that hold the fields of another model, or that the client parses apart.
FOREIGN_TAGS = ("groupby", "searchpanel", "control", "header")


class NotEvaluable(ValueError):
    """The expression needs something that only a browser with a record has."""


class _Names(ast.NodeTransformer):
    """Puts known names in place of identifiers, so that a literal remains."""

    def __init__(self, names):
        self.names = names

    def visit_Name(self, node):
        if node.id not in self.names:
            raise NotEvaluable(node.id)
        return ast.parse(repr(self.names[node.id]), mode="eval").body


def evaluate(text, names):
    """Evaluate a domain or context as it stands in actions and views.

    :param text: a Python literal which may use ``names``, or an empty value
    :param dict names: JSON-like values by identifier, as ``{'uid': 2}``
    :return: the value, or None for an empty text
    :raise NotEvaluable: the text calls functions or uses an unknown name
    """
    if not isinstance(text, str):
        return text or None
    if not text.strip():
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return ast.literal_eval(_Names(names).visit(tree))
    except NotEvaluable:
        raise
    except (ValueError, SyntaxError, TypeError) as error:
        raise NotEvaluable(text) from error


def evaluate_or(default, text, names):
    """As :func:`evaluate`, with ``default`` for what is empty or not evaluable."""
    try:
        value = evaluate(text, names)
    except NotEvaluable:
        return default
    return default if value is None else value


class Arch:
    """One view of a ``get_views`` answer, with the fields of the models it uses.

    :param str arch: the XML of the view
    :param str model: the model that the view shows
    :param dict models: ``get_views()['models']``
    :param dict names: see :func:`evaluate`
    """

    def __init__(self, arch, model, models, names):
        self.root = ElementTree.fromstring(arch) if isinstance(arch, str) else arch
        self.model = model
        self.models = models
        self.names = names
        self.fields = models.get(model, {}).get("fields", {})

    def field_nodes(self):
        """The ``<field>`` nodes of this view itself, not those of its sub views."""
        return [node for node in self._walk(self.root) if node.get("name") in self.fields]

    def _walk(self, parent):
        for node in parent:
            if node.tag == "field":
                yield node
            elif node.tag not in FOREIGN_TAGS:
                yield from self._walk(node)

    def specification(self):
        """:return dict: the specification that the client passes to ``web_read``."""
        spec = {}
        for node in self.field_nodes():
            name = node.get("name")
            spec.setdefault(name, {}).update(self._field_spec(node, self.fields[name]))
        if self.root.tag == "kanban" and "kanban_image" in ElementTree.tostring(
            self.root, encoding="unicode"
        ):
            spec.setdefault("write_date", {})
        self._complete_properties(spec)
        return spec

    def _complete_properties(self, spec):
        for name in list(spec):
            definition = self.fields[name].get("definition_record")
            if self.fields[name]["type"] == "properties" and definition in spec:
                spec[definition].setdefault("fields", {})["display_name"] = {}

    def _field_spec(self, node, field):
        kind = field["type"]
        invisible = _is_true(node.get("invisible")) or _is_true(node.get("column_invisible"))
        if kind in ("many2one", "reference"):
            spec = {"fields": {} if invisible else {"display_name": {}}}
        elif kind == "many2one_reference" and not invisible:
            spec = {"fields": {"display_name": {}}}
        elif kind in X2MANY and not invisible:
            spec = self._x2many_spec(node, field)
        else:
            return {}
        context = evaluate_or({}, node.get("context") or field.get("context"), self.names)
        if context and not invisible:
            spec["context"] = context
        return spec

    def _x2many_spec(self, node, field):
        relation = field.get("relation")
        sub_view = _sub_view(node)
        if sub_view is None or relation not in self.models:
            return {"fields": _tag_fields(node, self.names)}
        arch = Arch(sub_view, relation, self.models, self.names)
        spec = {"fields": arch.specification(), "limit": arch.limit(40)}
        order = arch.order()
        if order:
            spec["order"] = order
        form = node.find("form")
        if form is not None:
            for name, value in Arch(form, relation, self.models, self.names).hidden().items():
                spec["fields"].setdefault(name, value)
        return spec

    def hidden(self):
        """The fields of an inline form, asked for as invisible ones: no sub records."""
        relational = ("many2one", "reference")
        return {
            node.get("name"): {"fields": {}}
            if self.fields[node.get("name")]["type"] in relational
            else {}
            for node in self.field_nodes()
        }

    def limit(self, default):
        """:return int: how many records the client loads at first."""
        text = self.root.get("limit", "")
        return int(text) if text.isdigit() else default

    def order(self):
        """:return str: the default order, written as the client sends it."""
        terms = [term.split() for term in (self.root.get("default_order") or "").split(",")]
        return ", ".join(
            f"{term[0]} {'DESC' if term[-1].lower() == 'desc' else 'ASC'}" for term in terms if term
        )

    def aggregates(self, names=None):
        """Aggregates of the shown numbers, as ``getAggregateSpecifications`` writes them."""
        names = dict.fromkeys(names or [node.get("name") for node in self.field_nodes()])
        fields = [(name, self.fields[name]) for name in names]
        numbers = [
            f"{name}:{field['aggregator']}"
            for name, field in fields
            if field.get("aggregator") and field["type"] in AGGREGATABLE
        ]
        currencies = [
            aggregate
            for name, field in fields
            if field.get("aggregator") and field.get("currency_field") in self.fields
            for aggregate in (
                f"{field['currency_field']}:array_agg_distinct",
                f"{name}:sum_currency",
            )
        ]
        return list(dict.fromkeys(numbers + currencies))


def _is_true(text):
    return text in ("True", "1")


def _sub_view(node):
    views = {child.tag: child for child in node if child.tag in SUB_VIEWS}
    mode = (node.get("mode") or "").split(",")
    wanted = mode[0] if len(mode) == 1 else ""
    return views.get(wanted, views.get("list", views.get("kanban")))


def _tag_fields(node, names):
    options = evaluate_or({}, node.get("options"), names)
    fields = {"display_name": {}}
    color = options.get("color_field") if isinstance(options, dict) else None
    if color:
        fields[color] = {}
    return fields


class SearchView:
    """Filters, groupings and panel of a search view.

    :param str arch: the XML of the search view
    :param dict fields: the fields of the model, from ``get_views``
    :param dict names: see :func:`evaluate`
    """

    def __init__(self, arch, fields, names):
        self.root = ElementTree.fromstring(arch or "<search/>")
        self.fields = fields
        self.names = names

    def groupings(self):
        """:return list: group-by specifications, as ``['categ_id', 'create_date:month']``."""
        found = []
        for node in self.root.iter("filter"):
            context = evaluate_or({}, node.get("context"), self.names)
            group_by = context.get("group_by") if isinstance(context, dict) else None
            if isinstance(group_by, str):
                found.append(self.normalize(group_by))
        return [spec for spec in dict.fromkeys(found) if spec]

    def normalize(self, group_by):
        """``date`` becomes ``date:month`` as in the client; None when it is no field."""
        name, _colon, interval = group_by.partition(":")
        field = self.fields.get(name.partition(".")[0])
        if not field:
            return None
        if field["type"] in DATES:
            return f"{name}:{interval or 'month'}"
        return name

    def default_domain(self, context):
        """The conjunction of the filters that ``search_default_…`` turns on."""
        domain = []
        for node in self.root.iter("filter"):
            if context.get(f"search_default_{node.get('name')}"):
                domain += evaluate_or([], node.get("domain"), self.names)
        return domain

    def filter_domains(self):
        """:return list: the domains of the filters that a program can evaluate."""
        domains = [
            evaluate_or([], node.get("domain"), self.names) for node in self.root.iter("filter")
        ]
        return [domain for domain in domains if domain]

    def panel(self):
        """:return list: one dict of attributes per shown field of the search panel."""
        panel = self.root.find("searchpanel")
        nodes = [] if panel is None else panel.findall("field")
        return [dict(node.attrib) for node in nodes if not _is_true(node.get("invisible"))]


def groupable_fields(fields):
    """:return list: stored fields that a user could group by, without intervals."""
    return [
        name
        for name, field in fields.items()
        if field.get("groupable", field.get("store")) and field["type"] in GROUPABLE
    ]
