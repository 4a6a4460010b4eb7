"""The reads that are measured, written as the web client writes them.

The one idea: specifications come from the views of the database itself, so that "the product
list" has the columns that Odoo's own product list has there.
"""

from dataclasses import dataclass, field

from .crawl_calls import COUNT_LIMIT
from .viewspec import Arch

READ_FIELDS = [
    "name", "default_code", "barcode", "list_price", "standard_price", "categ_id", "uom_id",
    "type", "active", "weight",
]  # fmt: skip
SEARCHED = "desk"
# Cheapest of what the web client really calls: no SQL of its own once the user's groups are in
# Odoo's ormcache, and no read method, hence never cached by the addon.
FLOOR = "emptiest RPC"


@dataclass(frozen=True)
class Scenario:
    """One call, with everything but its connection."""

    name: str
    model: str
    method: str
    args: list = field(default_factory=list)
    kwargs: dict = field(default_factory=dict)


class Screens:
    """The views of a model as the client loads them.

    :param Rpc rpc: a session on plain Odoo
    """

    def __init__(self, rpc, model):
        self.model = model
        self.names = {"uid": rpc.uid, **rpc.context}
        views = [[False, kind] for kind in ("list", "kanban", "form", "search")]
        options = {"action_id": False, "load_filters": True, "toolbar": True}
        self.get_views = {"views": views, "options": options}
        self.views = rpc.call(model, "get_views", [], self.get_views)

    def arch(self, kind):
        return Arch(self.views["views"][kind]["arch"], self.model, self.views["models"], self.names)

    def search_read(self, kind, domain=()):
        """Arguments of the ``web_search_read`` that fills the first page."""
        arch = self.arch(kind)
        return {
            "domain": list(domain),
            "specification": arch.specification(),
            "offset": 0,
            "order": arch.order(),
            "limit": arch.limit(80),
            "count_limit": COUNT_LIMIT,
            "context": {"bin_size": True},
        }


def floor_call(rpc):
    """:return tuple: model, method and arguments of the emptiest RPC."""
    return "res.users", "has_group", [[rpc.uid], "base.group_user"]


def build(rpc):
    """:return list: the scenarios.

    :param Rpc rpc: a session on plain Odoo, on a database with the generated records
    """
    products = Screens(rpc, "product.template")
    return [
        Scenario(FLOOR, *floor_call(rpc)),
        *_product_screens(rpc, products),
        *_other_screens(rpc),
        *_searches(),
        Scenario(
            "products grouped by category",
            "product.template",
            "web_read_group",
            kwargs=_by_category(products.arch("list")),
        ),
        Scenario(
            "sales report by month",
            "sale.report",
            "formatted_read_group",
            kwargs={
                "domain": [],
                "groupby": ["date:month"],
                "aggregates": ["price_total:sum", "product_uom_qty:sum", "__count"],
            },
        ),
        Scenario("get_views", "product.template", "get_views", kwargs=products.get_views),
    ]


def _product_screens(rpc, screens):
    model = screens.model
    # What the search view of products makes of a typed word.
    searched = ("default_code", "product_variant_ids.default_code", "name", "barcode")
    domain = ["|"] * (len(searched) - 1) + [[name, "ilike", SEARCHED] for name in searched]
    pages = {
        "product list": screens.search_read("list"),
        "product kanban": screens.search_read("kanban"),
        "product search by ilike": screens.search_read("list", domain),
    }
    ids = rpc.call(model, "search", [[["default_code", "=like", "BENCH-%"]]], {"limit": 1})
    form = {
        "specification": screens.arch("form").specification(),
        "context": {"bin_size": True},
    }
    return [Scenario(name, model, "web_search_read", [], page) for name, page in pages.items()] + [
        Scenario("product form", model, "web_read", [ids], form)
    ]


def _other_screens(rpc):
    return [
        Scenario(name, model, "web_search_read", [], Screens(rpc, model).search_read("list"))
        for name, model in (("partner list", "res.partner"), ("sale order list", "sale.order"))
    ]


def _searches():
    model = "product.template"
    return [
        *(
            Scenario(
                f"search_read of {count:,} products",
                model,
                "search_read",
                kwargs={"domain": [], "fields": READ_FIELDS, "limit": count},
            )
            for count in (100, 1000)
        ),
        *(
            Scenario(
                f"{what} name_search",
                searched,
                "name_search",
                kwargs={"name": text, "domain": [], "operator": "ilike", "limit": 8},
            )
            for what, searched, text in (
                ("product", "product.product", SEARCHED),
                ("partner", "res.partner", "contact 12"),
            )
        ),
        Scenario("search_count", model, "search_count", [[["list_price", ">", 100]]]),
    ]


def _by_category(arch):
    return {
        "domain": [],
        "groupby": ["categ_id"],
        "aggregates": arch.aggregates(),
        "limit": 80,
        "offset": 0,
        "order": "",
        "auto_unfold": False,
        "opening_info": [],
        "unfold_read_specification": arch.specification(),
        "unfold_read_default_limit": 80,
        "groupby_read_specification": {},
        "context": {"read_group_expand": True},
    }
