"""The people and the records of the leak hunt; runs inside ``odoo shell``.

The one idea: many users who may see different parts of the same tables.  Groups, companies and
languages differ; two users of the same groups own different records, so that an answer which
forgets *who* asked differs too.  Owners and companies of the demo records are dealt out by SQL,
which needs no module's consent and touches every table that has such a column.

What may go wrong: a module that is not installed; its groups are left out.
"""

import itertools

from odoo.fields import Command
from odoo.tools import SQL

QUIET = {
    "no_reset_password": True,
    "tracking_disable": True,
    "mail_create_nolog": True,
    "mail_create_nosubscribe": True,
}
SELLER = "sales_team.group_sale_salesman"

# login without prefix: groups, companies (1 is the main company), language
PEOPLE = {
    "portal_one": (["base.group_portal"], [1], "en_US"),
    "portal_two": (["base.group_portal"], [1], "en_US"),
    "nobody": (["base.group_user"], [1, 2], "en_US"),
    "own_one": ([SELLER], [1, 2], "en_US"),
    "own_two": ([SELLER], [1, 2], "en_US"),
    "own_french": ([SELLER, "project.group_project_user"], [2], "fr_FR"),
    "all_documents": (["sales_team.group_sale_salesman_all_leads"], [1, 2, 3], "en_US"),
    "sales_manager": (["sales_team.group_sale_manager"], [1, 3], "fr_FR"),
    "accountant": (["account.group_account_manager"], [1, 2, 3], "en_US"),
    "invoicer": (["account.group_account_invoice"], [2], "en_US"),
    "project_user": (["project.group_project_user"], [1, 2], "en_US"),
    "project_manager": (["project.group_project_manager"], [1], "en_US"),
    "hr_user": (["hr.group_hr_user"], [1, 2, 3], "en_US"),
    "hr_manager": (["hr.group_hr_manager"], [1, 2], "en_US"),
    "stock_user": (["stock.group_stock_user"], [1, 2], "en_US"),
    "purchase_user": (["purchase.group_purchase_user"], [1, 3], "fr_FR"),
    "editor": (["website.group_website_designer"], [1], "en_US"),
    "administrator": (["base.group_system", "base.group_erp_manager"], [1, 2, 3], "en_US"),
}
TWINS = ("own_one", "own_two")

# Columns that say who a record belongs to; these tables stay as they are.
FIXED = (
    "res_%", "ir_%", "bus_%", "base_%", "mail_%", "website%", "account_account%", "account_tax%",
    "account_journal%", "account_fiscal%", "account_payment_term%", "account_chart%",
    "account_group%", "account_reconcile%", "account_report%", "stock_warehouse%",
    "stock_location%", "stock_route%", "stock_rule%", "stock_picking_type%", "product_pricelist%",
    "payment_%", "resource_%", "cache_%", "crm_team%", "digest_%", "account_cash%",
    "account_incoterms%", "onboarding%", "delivery_%", "calendar_%", "auth_%",
)  # fmt: skip
SECRET = "x_leaks_secret"
SECRET_MODELS = ("res.partner", "product.template")


def build(env, full=True):
    """Make the world and commit.

    :param bool full: deal out owners and companies, make fields with groups; else users only
    """
    env = env(context={**env.context, **QUIET})
    companies = _companies(env)
    env["res.lang"]._activate_lang("fr_FR")
    people = _people(env, companies)
    _translate(env)
    _secrets(env, full)
    env.cr.commit()
    env.invalidate_all()
    if full:
        _deal(env, companies, people)
    _deal_documents(env, people)
    _follow(env, people)
    env.cr.commit()
    env.registry.clear_all_caches()
    env.registry.signal_changes()


def seats(env):
    """:return list: login, id and contexts of everybody who reads"""
    users = env["res.users"].search([("login", "like", "leaks\\_%")], order="id")
    return [_seat(user, env) for user in users + env.ref("base.public_user")]


def diverge(env, mark):
    """Make another database of a copy: the same ids hold other values, other people may see
    them."""
    env.cr.execute("UPDATE res_partner SET name = name || %s, email = NULL", [f" ({mark})"])
    for table, column in (("crm_lead", "name"), ("project_task", "name"), ("hr_employee", "name")):
        if _has_column(env, table, column):
            env.cr.execute(
                SQL(
                    "UPDATE %s SET %s = %s || %s",
                    SQL.identifier(table),
                    SQL.identifier(column),
                    SQL.identifier(column),
                    f" ({mark})",
                )
            )
    for table in ("sale_order", "crm_lead"):
        if _has_column(env, table, "user_id"):
            first, second = (_user(env, login).id for login in TWINS)
            env.cr.execute(
                SQL(
                    "UPDATE %s SET user_id = CASE user_id WHEN %s THEN %s ELSE %s END"
                    " WHERE user_id IN (%s, %s)",
                    SQL.identifier(table), first, second, first, first, second,
                )
            )  # fmt: skip
    manager = _group(env, "sales_team.group_sale_manager")
    if manager:
        _user(env, "own_one").group_ids = [Command.link(manager.id)]
    env.cr.commit()
    env.registry.signal_changes()


def contexts_of(user, all_company_ids):
    """The contexts in which a user reads: each company, every order of several, two languages;
    and one that asks for a company which is not the user's, or None."""
    ids = user.company_ids.ids
    chosen = [[id_] for id_ in ids]
    for size in range(2, len(ids) + 1):
        chosen += [list(order) for order in itertools.permutations(ids, size)]
    base = {"lang": user.lang or "en_US", "tz": user.tz or "Europe/Brussels", "uid": user.id}
    other = "fr_FR" if base["lang"] == "en_US" else "en_US"
    usual = [
        *({**base, "allowed_company_ids": order} for order in chosen),
        {**base, "lang": other, "allowed_company_ids": chosen[0]},
    ]
    foreign = [id_ for id_ in all_company_ids if id_ not in ids]
    return usual, foreign and {**base, "allowed_company_ids": [ids[0], foreign[0]]}


def _seat(user, env):
    company_ids = env["res.company"].search([], order="id").ids
    contexts, foreign = contexts_of(user, company_ids)
    return {"login": user.login, "uid": user.id, "contexts": contexts, "foreign": foreign}


def _companies(env):
    main = env.ref("base.main_company")
    found = {1: main}
    for number, (name, country) in {2: ("Leaks Two", "fr"), 3: ("Leaks Three", "us")}.items():
        company = env["res.company"].create({"name": name})
        # not at creation: Odoo would install the country's accounting
        company.partner_id.country_id = env.ref(f"base.{country}")
        found[number] = company
    return found


def _people(env, companies):
    found = {}
    customers = env["res.partner"].create(
        [{"name": f"Leaks Customer {number}", "is_company": True} for number in (1, 2)]
    )
    for name, (groups, numbers, lang) in PEOPLE.items():
        known = [group.id for group in map(lambda g: _group(env, g), groups) if group]
        if not known:
            continue
        user = env["res.users"].create(
            {
                "name": f"Leaks {name}",
                "login": f"leaks_{name}",
                "email": f"{name}@leaks.example.com",
                "group_ids": [Command.set(known)],
                "company_ids": [Command.set([companies[number].id for number in numbers])],
                "company_id": companies[numbers[0]].id,
                "lang": lang,
                "tz": "Europe/Brussels",
            }
        )
        if name.startswith("portal"):
            user.partner_id.parent_id = customers[name.endswith("two")]
        found[name] = user
    return found


def _translate(env):
    products = env["product.template"].search([], limit=20) if "product.template" in env else ()
    for product in products:
        product.with_context(lang="fr_FR").name = f"FR {product.name}"


def _secrets(env, full):
    """Fields that only a group may read, which can be taken from and given to it."""
    group = _group(env, "sales_team.group_sale_manager") or env.ref("base.group_system")
    for model in SECRET_MODELS if full else ():
        if model in env and SECRET not in env[model]._fields:
            env["ir.model.fields"].create(
                {
                    "name": SECRET,
                    "model_id": env["ir.model"]._get_id(model),
                    "ttype": "char",
                    "field_description": "Secret",
                    "groups": [Command.set(group.ids)],
                }
            )
            table = SQL.identifier(env[model]._table)
            env.cr.execute(SQL("UPDATE %s SET %s = 'secret ' || id", table, SQL.identifier(SECRET)))


def _deal(env, companies, people):
    company_ids = [companies[number].id for number in sorted(companies)]
    owners = [user.id for name, user in people.items() if not name.startswith("portal")]
    for column, ids in (("company_id", company_ids), ("user_id", owners)):
        env.cr.execute(
            """
            SELECT c.table_name FROM information_schema.columns c
              JOIN information_schema.tables t USING (table_schema, table_name)
             WHERE c.column_name = %s AND t.table_type = 'BASE TABLE'
               AND c.table_schema = current_schema AND NOT c.table_name LIKE ANY (%s)
               AND EXISTS (SELECT FROM information_schema.columns i WHERE i.column_name = 'id'
                              AND i.table_schema = c.table_schema
                              AND i.table_name = c.table_name)
            """,
            [column, list(FIXED)],
        )
        for (table,) in sorted(env.cr.fetchall()):
            # main company and owners of nothing stay more frequent than they would by chance
            env.cr.execute(
                SQL(
                    "UPDATE %s SET %s = (%s::int[])[1 + mod(id, %s)]"
                    " WHERE mod(id, 3) > 0 AND %s IS NOT NULL",
                    SQL.identifier(table),
                    SQL.identifier(column),
                    ids,
                    len(ids),
                    SQL.identifier(column),
                )
            )
    if _has_column(env, "project_project", "privacy_visibility"):
        env.cr.execute(
            "UPDATE project_project SET privacy_visibility ="
            " (ARRAY['followers', 'employees', 'portal', 'invited_users'])[1 + mod(id, 3)]"
        )


def _deal_documents(env, people):
    """Half of the orders and leads belong to two who see their own documents only."""
    if not people.keys() >= set(TWINS):
        return
    first, second = (people[name].id for name in TWINS)
    for table in ("sale_order", "crm_lead"):
        if _has_column(env, table, "user_id"):
            env.cr.execute(
                SQL(
                    "UPDATE %s SET user_id = CASE mod(id, 4) WHEN 1 THEN %s ELSE %s END"
                    " WHERE mod(id, 2) = 1",
                    SQL.identifier(table),
                    first,
                    second,
                )
            )


def _follow(env, people):
    """Portal users follow some documents; one of them buys."""
    for name in ("portal_one", "portal_two"):
        partner = people[name].partner_id
        for model in ("project.project", "project.task", "sale.order", "account.move"):
            if model in env:
                records = env[model].sudo().search([], limit=6, order="id")
                records[name.endswith("two") :: 2].message_subscribe([partner.id])
        if "sale.order" in env:
            orders = env["sale.order"].search([], order="id")[name.endswith("two") :: 5]
            env.flush_all()
            env.cr.execute(
                "UPDATE sale_order SET partner_id = %s, partner_invoice_id = %s,"
                " partner_shipping_id = %s WHERE id = ANY (%s)",
                [partner.id, partner.id, partner.id, orders.ids],
            )
            env.invalidate_all()


def _group(env, xml_id):
    return env.ref(xml_id, raise_if_not_found=False)


def _user(env, name):
    return env["res.users"].search([("login", "=", f"leaks_{name}")])


def _has_column(env, table, column):
    env.cr.execute(
        "SELECT 1 FROM information_schema.columns WHERE table_name = %s AND column_name = %s"
        " AND table_schema = current_schema",
        [table, column],
    )
    return bool(env.cr.fetchone())
