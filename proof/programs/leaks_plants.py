"""Flaws to plant, to see that the leak hunt finds them; runs inside its workers.

The one idea: a hunt that finds nothing proves nothing unless it finds what is there.  Each plant
takes one thing out of the cache that keeps people apart, and can be put back.
"""

from importlib import import_module

SECURITY = (
    "res_users", "res_groups", "res_groups_users_rel", "res_groups_implied_rel", "ir_rule",
    "ir_model_access", "rule_group_rel", "res_company_users_rel", "res_company",
    "orm_signaling_registry", "orm_signaling_default", "orm_signaling_stable",
    "orm_signaling_groups", "orm_signaling_assets", "orm_signaling_templates",
    "orm_signaling_routing",
)  # fmt: skip
_originals = []


def plant(name):
    """Make the cache of this process wrong."""
    PLANTS[name]()


def unplant():
    """Put everything back."""
    while _originals:
        setattr(*_originals.pop())


def _service(name):
    return import_module(f"odoo.addons.tiered_cache.services.{name}")


def _replace(owner, name, value):
    _originals.append((owner, name, getattr(owner, name)))
    setattr(owner, name, value)


def _with_call(change):
    """Keys of calls that have been changed."""
    keys = _service("keys")
    original = keys._canonical
    _replace(keys, "_canonical", lambda call: original(change(call)))


def _without_uid():
    _with_call(lambda call: call._replace(uid=0))


def _without_companies():
    def change(call):
        context = {k: v for k, v in call.context.items() if k != "allowed_company_ids"}
        return call._replace(context=context, rule_context=())

    _with_call(change)


def _without_language():
    def change(call):
        context = {k: v for k, v in call.context.items() if k != "lang"}
        return call._replace(context=context)

    _with_call(change)


def _without_security():
    """Nobody minds that users, groups, rights, rules or their signals have changed."""
    reading, entries = _service("reading"), _service("entry")
    original = reading.judge

    def judge(engine, entry, versions, weak):
        kept = tuple(d for d in entry.dependencies if d[0] not in SECURITY)
        fields = {name: getattr(entry, name) for name in entry.__slots__}
        return original(engine, entries.Entry(**{**fields, "dependencies": kept}), versions, weak)

    _replace(reading, "judge", judge)


def _without_rule_data():
    """Results do not depend on what the remembered domains of record rules were made of."""
    _replace(_service("rules").RuleBook, "check", lambda self, *args: None)


def _without_versions():
    """An entry is served however old it is."""
    _replace(_service("reading"), "judge", lambda engine, entry, versions, weak: ("", ""))


PLANTS = {
    "uid": _without_uid,
    "companies": _without_companies,
    "language": _without_language,
    "security": _without_security,
    "rule-data": _without_rule_data,
    "versions": _without_versions,
}

HINTS = {"rule-data": ("partner_moved", "company_moved")}
"""Kinds of changes that show a flaw, where any other would hide it."""
MODELS = ("sale.order", "res.partner", "product.template", "crm.lead")
"""Where to look for planted flaws: rules of every kind, companies, translations."""
