"""Records what an office asks of L1; runs inside ``odoo shell``.

The one idea: the recorder stands between the engine and its L1 and writes down every question and
every entry that was stored.  The workload is a simulated office over the benchmark database: two
users, screens and records chosen by popularity (Zipf), a few writes, which make what was read
from the same table stale, and if asked for an export of everything in the middle.
"""

import itertools
import random
import time

from odoo import api
from odoo.service.model import call_kw

from .scenarios import Screens
from .traces_file import Line, write

SEED = 19
ZIPF = 0.9
WORDS = ("desk", "chair", "lamp", "oak", "steel", "corner", "office", "shelf", "bench", "sofa")


class Recorder:
    """Takes the place of an L1 and passes everything on to it.

    :param tier: the L1 of an engine
    """

    def __init__(self, tier):
        self.log = []
        self.start = time.time()
        self._get, self._set = tier.get, tier.set
        tier.get, tier.set = self.get, self.set

    def get(self, key):
        found = self._get(key)
        self.log.append((time.time(), key, None))
        return found

    def set(self, entry):
        self.log.append((time.time(), entry.key, entry))
        return self._set(entry)

    def lines(self):
        """:return list: of :class:`.traces_file.Line`.

        A question that was answered is a use of what was stored last under the key; one that was
        not is followed by the entry, or by nothing where the answer was not worth keeping.
        """
        numbers, stored, following = {}, {}, {}
        for index in reversed(range(len(self.log))):
            _at, key, entry = self.log[index]
            self.log[index] += (following.get(key, False),)
            following[key] = entry is not None
        for at, key, entry, is_stored_next in self.log:
            number = numbers.setdefault(key, len(numbers))
            at_ms = round((at - self.start) * 1000)
            if entry is not None:
                state = stored.get(key, -1) + 1
                stored[key] = state
                ttl_s = round(entry.expires - entry.created)
                yield Line(at_ms, number, state, entry.size_bytes, round(entry.cost_ms, 2), ttl_s)
            elif key in stored and not is_stored_next:
                yield Line(at_ms, number, stored[key])


class Office:
    """Two users at their screens.

    :param env: the environment of ``odoo shell``, whose cursor stays unused
    """

    def __init__(self, env):
        env.cr.rollback()
        self.registry = env.registry
        self.chance = random.Random(SEED)
        self.context = {"lang": "en_US", "tz": "Europe/Brussels", "allowed_company_ids": [1]}
        with self.registry.cursor() as cr:
            environment = api.Environment(cr, api.SUPERUSER_ID, {})
            admin = environment.ref("base.user_admin")
            # with the same rights, so that both may open everything
            other = environment["res.users"].create(
                {"name": "Other", "login": "other", "group_ids": [(6, 0, admin.group_ids.ids)]}
            )
            self.users = [admin.id, other.id]
            self.uid = admin.id
            order = {"order": "id"}
            self.products = environment["product.template"].search([], **order).ids
            self.partners = environment["res.partner"].search([], **order).ids
            self.categories = environment["product.category"].search([], **order).ids
        self.screens = {
            model: Screens(self, model)
            for model in ("product.template", "res.partner", "sale.order", "purchase.order")
        }
        self.chance.shuffle(self.products)
        self.chance.shuffle(self.partners)
        self.weights = {}

    def call(self, model, method, args=(), kwargs=None):
        """One request of the web client, in a transaction of its own."""
        kwargs = {**(kwargs or {})}
        kwargs["context"] = {**self.context, **kwargs.get("context", {})}
        with self.registry.cursor() as cr:
            self.registry.check_signaling(cr)
            env = api.Environment(cr, self.uid, {})
            value = call_kw(env[model], method, list(args), kwargs)
            cr.commit()
            self.registry.signal_changes()
        return value

    def pick(self, items):
        """One of them, the first most often."""
        count = len(items)
        if count not in self.weights:
            each = (1 / rank**ZIPF for rank in range(1, count + 1))
            self.weights[count] = list(itertools.accumulate(each))
        return self.chance.choices(items, cum_weights=self.weights[count])[0]

    def read(self):
        """Somebody looks at something."""
        self.uid = self.pick(self.users)
        reads, weights = zip(*READS, strict=True)
        self.chance.choices(reads, weights)[0](self)

    def write(self):
        """Somebody changes something."""
        model, items, field = self.chance.choice(
            (
                ("product.template", self.products, "list_price"),
                ("res.partner", self.partners, "phone"),
                ("res.partner", self.partners, "phone"),
            )
        )
        value = self.chance.randrange(10**6)
        text = value / 100 if field == "list_price" else f"+32 {value}"
        self.uid = self.users[0]
        self.call(model, "write", [[self.pick(items)], {field: text}])

    def page(self, model, kind="list", domain=()):
        """A page of a list, the first most often."""
        arguments = self.screens[model].search_read(kind, domain)
        arguments["offset"] = 80 * self.pick(range(100))
        self.call(model, "web_search_read", [], arguments)

    def form(self, model, items):
        """A record."""
        specification = self.screens[model].arch("form").specification()
        arguments = {"specification": specification, "context": {"bin_size": True}}
        self.call(model, "web_read", [[self.pick(items)]], arguments)

    def search(self):
        """A word in the search box of products."""
        word = self.pick(WORDS)
        domain = ["|", ["name", "ilike", word], ["default_code", "ilike", word]]
        arguments = self.screens["product.template"].search_read("kanban", domain)
        self.call("product.template", "web_search_read", [], arguments)

    def type(self):
        """Letters typed into a many2one."""
        model = self.chance.choice(("product.product", "res.partner"))
        word = self.pick(WORDS)
        arguments = {"name": word[: self.chance.randrange(1, len(word) + 1)], "limit": 8}
        self.call(model, "name_search", [], arguments)

    def report(self):
        """Sums over one category, or over all."""
        domain = [["categ_id", "=", self.pick(self.categories)]]
        arguments = {
            "domain": domain if self.chance.random() < 0.7 else [],
            "groupby": [self.chance.choice(("categ_id", "type", "uom_id"))],
            "aggregates": ["list_price:avg", "__count"],
        }
        self.call("product.template", "formatted_read_group", [], arguments)

    def sales(self):
        """The sales report."""
        arguments = {
            "domain": [],
            "groupby": [self.pick(("date:month", "product_id", "partner_id", "date:day"))],
            "aggregates": ["price_total:sum", "product_uom_qty:sum", "__count"],
        }
        self.call("sale.report", "formatted_read_group", [], arguments)

    def price_list(self):
        """All products of a category, or five hundred of all, for a spreadsheet."""
        fields = ["name", "default_code", "list_price", "standard_price", "barcode", "weight"]
        domain = [["categ_id", "=", self.pick(self.categories)]]
        if self.chance.random() < 0.3:
            domain = [["id", ">", self.pick(range(0, 10_000, 500))]]
        arguments = {"domain": domain, "fields": fields, "limit": 500}
        self.call("product.template", "search_read", [], arguments)

    def export(self):
        """Everything once, page by page: what will never be read again fills L1."""
        arguments = self.screens["product.template"].search_read("list")
        for offset in range(0, 10_000, 80):
            # an export has an order of its own, so that its pages are nobody else's
            page = {**arguments, "offset": offset, "order": "write_date, id"}
            self.call("product.template", "web_search_read", [], page)


READS = (
    (lambda office: office.page("product.template"), 16),
    (lambda office: office.form("product.template", office.products), 22),
    (lambda office: office.page("res.partner"), 10),
    (lambda office: office.form("res.partner", office.partners), 14),
    (lambda office: office.page("sale.order"), 6),
    (lambda office: office.page("purchase.order"), 3),
    (Office.search, 8),
    (Office.type, 10),
    (Office.report, 5),
    (Office.sales, 3),
    (Office.price_list, 3),
)


def record(env, path, *, reads, reads_per_write, export):
    """Let the office work, and write the trace.

    :param str path: of the file
    :param int reads: how many
    :param int reads_per_write: the more, the longer an answer is valid
    :param bool export: of everything, half way
    """
    from odoo.addons.tiered_cache.services.engine import engine_for  # noqa: PLC0415

    office = Office(env)
    engine = engine_for(office.registry)
    for _warm in range(100):  # guards come with the first reads, and so do Odoo's own caches
        office.read()
        engine.flush()
    engine.hierarchy.each("clear")
    recorder = Recorder(engine.hierarchy.tiers["l1"])
    for number in range(reads):
        if number % reads_per_write == reads_per_write - 1:
            office.write()
        if export and number == reads // 2:
            office.export()
        office.read()
        engine.guards.work()
    write(path, recorder.lines())
