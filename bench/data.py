"""Generated products and partners; runs inside ``odoo shell``.

The one idea: a fixed seed, so that two builds of the benchmark database hold the same data.
What may go wrong: creating is slow where a module adds work per record; batches keep the
memory flat, and each is committed.
"""

import base64
import io
import random

from PIL import Image

SEED = 19
BATCH = 1000
PRODUCTS = 10_000
PARTNERS = 10_000
COMPANIES = 2_000  # of the partners; the others are contacts of these
WITH_IMAGE = 200
WITH_VARIANTS = 300
CATEGORIES = 50
QUIET = {
    "tracking_disable": True,
    "mail_create_nolog": True,
    "mail_create_nosubscribe": True,
    "mail_notrack": True,
}
NOUNS = ("Desk", "Chair", "Lamp", "Cabinet", "Drawer", "Screen", "Table", "Shelf", "Bin", "Sofa")
ADJECTIVES = ("Large", "Small", "Corner", "Acoustic", "Office", "Customizable", "Oak", "Steel")
CITIES = ("Brussels", "Lyon", "Hamburg", "Porto", "Turin", "Leeds", "Denver", "Osaka")


def generate(env):
    """Create and commit the generated records.

    :param env: an environment of the superuser
    """
    env = env(context={**env.context, **QUIET})
    chance = random.Random(SEED)
    _create(env, "product.template", _products(env, chance))
    _create(env, "res.partner", _companies(env, chance))
    _create(env, "res.partner", _contacts(env, chance))


def _create(env, model, values_list):
    for start in range(0, len(values_list), BATCH):
        env[model].create(values_list[start : start + BATCH])
        env.cr.commit()
        env.invalidate_all()


def _products(env, chance):
    categories = env["product.category"].create(
        [{"name": f"Bench category {number:02}"} for number in range(CATEGORIES)]
    )
    attribute = env["product.attribute"].create(
        {
            "name": "Bench size",
            "value_ids": [(0, 0, {"name": name}) for name in ("Small", "Medium", "Large")],
        }
    )
    line = {"attribute_id": attribute.id, "value_ids": [(6, 0, attribute.value_ids.ids)]}
    tags = env["product.tag"].create([{"name": f"Bench tag {number}"} for number in range(10)])
    images = [_image(chance) for _ in range(20)]
    products = [_product(chance, number, categories.ids, tags.ids) for number in range(PRODUCTS)]
    for number in chance.sample(range(PRODUCTS), WITH_VARIANTS):
        products[number]["attribute_line_ids"] = [(0, 0, line)]
        products[number].pop("barcode", None)
    for number in chance.sample(range(PRODUCTS), WITH_IMAGE):
        products[number]["image_1920"] = chance.choice(images)
    return products


def _product(chance, number, category_ids, tag_ids):
    price = round(chance.uniform(1, 2000), 2)
    name = f"{chance.choice(ADJECTIVES)} {chance.choice(NOUNS)} {number:05}"
    return {
        "name": name,
        "default_code": f"BENCH-{number:05}",
        "barcode": f"29{number:010}" if chance.random() < 0.5 else False,
        "list_price": price,
        "standard_price": round(price * chance.uniform(0.4, 0.8), 2),
        "categ_id": chance.choice(category_ids),
        "product_tag_ids": [(6, 0, chance.sample(tag_ids, chance.randrange(3)))],
        "is_storable": chance.random() < 0.5,
        "purchase_ok": chance.random() < 0.7,
        "weight": round(chance.uniform(0.1, 50), 2),
        "description_sale": f"{name}, made for measuring.",
    }


def _companies(env, chance):
    countries = env["res.country"].search([("code", "in", ("BE", "FR", "DE", "US"))]).ids
    return [
        {
            "name": f"Bench Company {number:04}",
            "is_company": True,
            "email": f"info@company{number:04}.example.com",
            "phone": f"+32 2 290 {number:04}",
            "street": f"Rue de la Mesure {chance.randrange(1, 300)}",
            "city": chance.choice(CITIES),
            "zip": f"{chance.randrange(1000, 9999)}",
            "country_id": chance.choice(countries),
        }
        for number in range(COMPANIES)
    ]


def _contacts(env, chance):
    companies = env["res.partner"].search([("name", "=like", "Bench Company %")]).ids
    return [
        {
            "name": f"Bench Contact {number:04}",
            "parent_id": chance.choice(companies),
            "email": f"contact{number:04}@example.com",
            "function": chance.choice(("Buyer", "Sales", "Accountant")),
            "city": chance.choice(CITIES),
        }
        for number in range(PARTNERS - COMPANIES)
    ]


def _image(chance):
    color = tuple(chance.randrange(256) for _ in range(3))
    buffer = io.BytesIO()
    Image.new("RGB", (256, 256), color).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue())
