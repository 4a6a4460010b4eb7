"""Flaws to plant, to see that the leak hunt finds them; runs inside its workers.

The one idea: a hunt that finds nothing proves nothing unless it finds what is there.  Each plant
takes one thing out of the cache that keeps people apart.
"""

from importlib import import_module

SECURITY = (
    "res_users", "res_groups", "res_groups_users_rel", "res_groups_implied_rel", "ir_rule",
    "ir_model_access", "rule_group_rel", "res_company_users_rel", "res_company",
)  # fmt: skip


def _service(name):
    return import_module(f"odoo.addons.tiered_cache.services.{name}")


def _without_uid():
    keys = _service("keys")
    original = keys._canonical
    keys._canonical = lambda call: original(call._replace(uid=0))


def _without_companies():
    keys = _service("keys")
    original = keys._canonical

    def canonical(call):
        context = {k: v for k, v in call.context.items() if k != "allowed_company_ids"}
        return original(call._replace(context=context, rule_context=()))

    keys._canonical = canonical


def _without_language():
    keys = _service("keys")
    original = keys._canonical

    def canonical(call):
        context = {k: v for k, v in call.context.items() if k != "lang"}
        return original(call._replace(context=context))

    keys._canonical = canonical


def _without_security():
    """Results no longer depend on users, groups, rights and rules."""
    engine, versions = _service("engine"), _service("versions")
    original = engine.always_relations
    engine.always_relations = lambda registry: (
        original(registry) - set(SECURITY) - set(versions.SIGNAL_RELATIONS)
    )
    engine.Engine.signals_fit = lambda self, versions: True


def _without_rule_data():
    """Results no longer depend on what the remembered domains of record rules were made of."""
    _service("rules").RuleBook.check = lambda self, *args: None


def _without_versions():
    """An entry is served however old it is."""
    _service("reading")._judge = lambda engine, entry, versions, weak: ("", "")


PLANTS = {
    "uid": _without_uid,
    "companies": _without_companies,
    "language": _without_language,
    "security": _without_security,
    "rule-data": _without_rule_data,
    "versions": _without_versions,
}


def plant(name):
    """Make the cache of this process wrong; before any engine is made."""
    PLANTS[name]()
