#!/usr/bin/env python3
"""Pictures of every screen of the addon, taken with headless Chromium.

The one idea: a screen is an address, something to wait for, and perhaps some JavaScript that opens
what is to be seen. The same table serves all sizes, colour schemes and languages.

What may go wrong: a screen does not come up within 40 seconds; then it is named, and the others are
taken. Odoo's community edition always answers that its colours are light. For dark pictures the
browser says ``color_scheme=dark``, as a dark theme does, and gets the bundles that Odoo builds for
one; their colours come from ``scripts/dark.scss``.
"""

import argparse
import base64
import datetime
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from browser import Browser, BrowserError
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.common import Rpc, RpcError  # noqa: E402

SIZES = {"light": (1280, 800), "dark": (1280, 800), "narrow": (390, 844)}
FLAT_COLORS = 180
DARK_URL = "/_custom/tiered_cache_dark.scss"
DARK_BUNDLES = ("web.assets_web_dark", "web.assets_backend_lazy_dark")
QUIET = """
    !document.querySelector('.o_blockUI, .o_loading_indicator, .o_view_sample_data') &&
    document.fonts.status === 'loaded' &&
    [...document.images].every((image) => image.complete)
"""
FREEZE = """
    document.head.insertAdjacentHTML('beforeend', `<style>
        *, *::before, *::after { transition: none !important; animation: none !important;
                                 caret-color: transparent !important; }
        .o_notification_manager { display: none !important; }
        .o_main_navbar mark { visibility: hidden !important; } /* the name of the database */
    </style>`);
    document.activeElement && document.activeElement.blur()
"""


@dataclass(frozen=True)
class Screen:
    """One picture.

    :param str name: of the file
    :param str path: after ``/odoo/``; ``{name}`` is the id that :func:`furnish` has found
    :param str ready: CSS selector to wait for
    :param str then: JavaScript that runs when it is there; a promise is waited for
    :param str and_ready: CSS selector to wait for after it
    :param bool shown: in dark and narrow too, without ``--all``
    :param bool wide: not in narrow: the view is not there, or is the one that a list becomes
    """

    name: str
    path: str
    ready: str
    then: str = ""
    and_ready: str = ""
    shown: bool = False
    wide: bool = False


def action(name, suffix=""):
    return f"action-tiered_cache.{name}{suffix}"


def click(selector, text=""):
    found = f"[...document.querySelectorAll({selector!r})]"
    return f"{found}.find((element) => element.textContent.includes({text!r})).click()"


def scroll(selector, top="0"):
    """Brings an element to the top of what scrolls around it."""
    return f"""(() => {{
        const element = document.querySelector({selector!r});
        let box = element.parentElement;
        while (box && !(box.scrollHeight > box.clientHeight + 5
                        && ['auto', 'scroll'].includes(getComputedStyle(box).overflowY)))
            box = box.parentElement;
        (box || document.scrollingElement).scrollTop +=
            element.getBoundingClientRect().top - (box ? box.getBoundingClientRect().top : 0) - 12;
    }})()"""


WIZARD = """odoo.__WOWL_DEBUG__.root.env.services.action.doAction(
    'tiered_cache.cache_operation_action',
    { additionalContext: { default_kind: 'pattern', default_pattern: 'v1:orm:sale.order:*' } })"""
AGAIN = """(async () => {
    for (let time = 0; time < 3; time++) {
        await odoo.__WOWL_DEBUG__.root.env.services.action.doAction('base.action_partner_form');
        await new Promise((resolve) => setTimeout(resolve, 1500));
    }
    document.querySelector('.o_tiered_cache_indicator button').click();
})()"""
PERIOD = "localStorage.setItem('tiered_cache.dashboard.period', 'hour')"
DASHBOARD = ".o_tiered_cache_card[name='tier_chart'] canvas"
LIST = ".o_list_view .o_data_row, .o_kanban_view .o_kanban_record"
FORM = ".o_form_view .o_form_sheet"
SETTINGS = ".o_setting_container .app_settings_block:not(.d-none) .o_setting_box"

SCREENS = (
    Screen("dashboard", "cache-dashboard", DASHBOARD, shown=True),
    Screen("dashboard-charts", "cache-dashboard", DASHBOARD, scroll("[name=latency_chart]")),
    Screen("dashboard-misses", "cache-dashboard", DASHBOARD,
           click("section[name=misses] tbody tr:nth-child(2) .o_tiered_cache_toggle button")
           + ";" + scroll("section[name=misses]"), shown=True),
    Screen("dashboard-processes", "cache-dashboard", DASHBOARD, scroll("section[name=workers]")),
    Screen("figures", action("cache_metric_action"), ".o_graph_canvas_container canvas"),
    Screen("figures-pivot", action("cache_metric_action"), ".o_graph_canvas_container canvas",
           click(".o_switch_view.o_pivot"), ".o_pivot table tbody tr", wide=True),
    Screen("figures-list", action("cache_metric_action"), ".o_graph_canvas_container canvas",
           click(".o_switch_view.o_list"), ".o_list_view tbody tr", wide=True),
    Screen("entries", action("cache_entry_action"), LIST, shown=True),
    Screen("entry", action("cache_entry_action", "/{entry}"), FORM),
    Screen("entry-depends", action("cache_entry_action", "/{entry}"), FORM,
           click(".o_notebook_headers li:nth-child(2) a"), ".o_notebook_content table"),
    Screen("tables", action("cache_relation_action"), LIST),
    Screen("changes", action("cache_change_action"), LIST),
    Screen("rules", action("cache_rule_action"), LIST),
    Screen("rules-kanban", action("cache_rule_action"), LIST, click(".o_switch_view.o_kanban"),
           ".o_kanban_record", wide=True),
    Screen("rule", action("cache_rule_action", "/{rule}"), FORM, shown=True),
    Screen("namespaces", action("cache_namespace_action"), LIST),
    Screen("namespace", action("cache_namespace_action", "/{namespace}"), FORM),
    Screen("events", action("cache_event_rule_action"), LIST),
    Screen("event", action("cache_event_rule_action", "/{event}"), FORM),
    Screen("remove", action("cache_entry_action"), LIST,
           WIZARD, ".modal .o_tiered_cache_preview"),
    Screen("schedule", action("cache_schedule_action"), LIST),
    Screen("schedule-form", action("cache_schedule_action", "/{schedule}"), FORM),
    Screen("warm-ups", action("cache_warmup_action"), LIST),
    Screen("warm-up", action("cache_warmup_action", "/{warmup}"), FORM),
    Screen("remotes", action("cache_remote_action"), LIST),
    Screen("remotes-list", action("cache_remote_action"), LIST, click(".o_switch_view.o_list"),
           ".o_list_view .o_data_row", wide=True),
    Screen("remote", action("cache_remote_action", "/{remote}"), FORM),
    Screen("remote-statistics", action("cache_remote_action", "/{remote}"), FORM,
           click(".o_notebook_headers a", "Statistics"), "[name=statistics_text]"),
    Screen("remote-followed", action("cache_remote_action", "/{remote}"), FORM,
           click(".o_notebook_headers a", "Followed"), "[name=followed_ids]"),
    Screen("remote-bad", action("cache_remote_action", "/{remote_bad}"), FORM),
    Screen("calls", action("cache_call_action"), LIST),
    Screen("call", action("cache_call_action", "/{call}"), FORM),
    Screen("log", action("cache_log_action"), LIST),
    Screen("log-form", action("cache_log_action", "/{log}"), FORM),
    Screen("settings", action("res_config_settings_action"), SETTINGS, shown=True),
    Screen("settings-redis", action("res_config_settings_action"), SETTINGS,
           scroll("#tiered_cache_redis")),
    Screen("settings-safety", action("res_config_settings_action"), SETTINGS,
           scroll("#tiered_cache_audit")),
    Screen("settings-advanced", action("res_config_settings_action"), SETTINGS,
           scroll("#tiered_cache_size")),
    Screen("settings-end", action("res_config_settings_action"), SETTINGS,
           scroll("#tiered_cache_compaction")),
    Screen("indicator", "action-base.action_partner_form?debug=1", LIST, AGAIN,
           ".o_tiered_cache_answers"),
)  # fmt: skip


class Server:
    """What is asked of Odoo by RPC: records for the screens, languages, dark assets.

    :param options: of the command line
    """

    def __init__(self, options):
        self.rpc = Rpc(options.port, options.database)
        self.rpc.login()
        self.database = options.database

    def first(self, model, domain, order="id desc"):
        """:return: the id of a record, or None."""
        found = self.rpc.call(model, "search", [domain], {"limit": 1, "order": order})
        return found[0] if found else None

    def ensure(self, model, domain, values):
        """:return int: the record that there is, or one that is made now."""
        record_id = self.first(model, domain)
        if not record_id:
            record_id = self.rpc.call(model, "create", [values])
        return record_id

    def api_key(self):
        """:return str: a key of the user for a day, made as a person makes one."""
        day = datetime.datetime.now() + datetime.timedelta(days=1)
        values = {"name": "Pictures", "duration": "-1", "expiration_date": str(day)[:19]}
        asked = self.rpc.call("res.users.apikeys.description", "create", [values])
        answer = self.rpc.call("res.users.apikeys.description", "make_key", [[asked]])
        if answer["res_model"] == "res.users.identitycheck":
            password = {"context": {**self.rpc.context, "password": "admin"}}
            answer = self.rpc.call(
                "res.users.identitycheck", "run_check", [[answer["res_id"]]], password
            )
        return answer["context"]["default_key"]

    def install_language(self, code):
        """:return str: the language that the user had."""
        if not self.first("res.lang", [["code", "=", code]]):
            domain = [["code", "=", code], ["active", "=", False]]
            values = {"lang_ids": [[6, 0, [self.first("res.lang", domain)]]]}
            wizard = self.rpc.call("base.language.install", "create", [values])
            self.rpc.call("base.language.install", "lang_install", [[wizard]])
        before = self.rpc.call("res.users", "read", [[self.rpc.uid], ["lang"]])[0]["lang"]
        self.speak(code)
        return before

    def speak(self, code):
        self.rpc.call("res.users", "write", [[self.rpc.uid], {"lang": code}])

    def dark_assets(self):
        """Have the bundles of a dark theme begin with the colours of ``scripts/dark.scss``."""
        text = (ROOT / "scripts" / "dark.scss").read_bytes()
        attachment = {
            "name": "tiered_cache_dark.scss",
            "url": DARK_URL,
            "type": "binary",
            "mimetype": "text/scss",
            "datas": base64.b64encode(text).decode(),
        }
        domain = [["url", "=", DARK_URL]]
        record_id = self.ensure("ir.attachment", domain, attachment)
        self.rpc.call("ir.attachment", "write", [[record_id], {"datas": attachment["datas"]}])
        for bundle in DARK_BUNDLES:
            # dark pictures ask for "any" version: it must be the one of these colours
            built = [["url", "=like", f"/web/assets/%/{bundle}.min.css"]]
            ids = self.rpc.call("ir.attachment", "search", [built])
            self.rpc.call("ir.attachment", "unlink", [ids])
            values = {
                "name": f"Dark pictures: {bundle}",
                "bundle": bundle,
                "directive": "prepend",
                "path": DARK_URL,
            }
            self.ensure("ir.asset", [["bundle", "=", bundle], ["path", "=", DARK_URL]], values)


def model_id(server, model):
    return server.first("ir.model", [["model", "=", model]])


def furnish(server):
    """Records, so that no screen is empty.

    :return dict: ids by the names that addresses of screens use
    """
    for model, methods, values in (
        ("res.country", False, {"consistency": "eventual", "max_staleness_s": 30, "use_l3": False,
                                "note": "Countries change once a year"}),
        ("stock.quant", False, {"enabled": False, "note": "Written by every picking"}),
        ("product.category", "name_search",
         {"consistency": "weak", "l1_ttl_s": 600, "use_l2": False, "use_l3": False,
          "note": "Suggestions only"}),
        ("sale.order", "web_search_read", {"l1_ttl_s": 1800, "note": "The list of the sales team"}),
    ):  # fmt: skip
        if model_id(server, model):
            values = {"model_id": model_id(server, model), "methods": methods, **values}
            server.ensure("cache.rule", [["model", "=", model]], values)
    names = {}
    names["rule"] = server.first("cache.rule", [["model", "=", "sale.order"]])
    names["namespace"] = server.ensure(
        "cache.namespace", [["name", "=", "supplier:detail"]],
        {"name": "supplier:detail", "consistency": "eventual", "max_staleness_s": 5,
         "fail_safe_s": 600, "note": "The supplier's service is slow on Mondays"},
    )  # fmt: skip
    tomorrow = datetime.date.today() + datetime.timedelta(days=1)
    for target, at, note in (
        ("v1:product:*", f"{tomorrow} 03:00:00", "After the nightly import of prices"),
        ("v1:supplier:*", "2026-01-05 04:00:00", "Terms of the new year"),
    ):
        names["schedule"] = server.ensure(
            "cache.schedule", [["target", "=", target]],
            {"kind": "pattern", "target": target, "at": at, "note": note},
        )  # fmt: skip
    names["warmup"] = server.ensure(
        "cache.warmup",
        [],
        {"every_minutes": 240, "budget_s": 60, "note": "Before the office opens"},
    )
    if not server.first("cache.warmup", [["started_at", "!=", False]]):
        server.rpc.call("cache.warmup", "action_start", [[names["warmup"]]])
    if not server.first("cache.log", [["action", "=", "remove"]]):
        server.rpc.call("cache.manager", "invalidate_model", ["res.partner"])
        server.rpc.call("cache.manager", "invalidate_pattern", ["v1:orm:res.currency:*"])
    names["remote"], names["remote_bad"] = furnish_remotes(server)
    names["log"] = server.first("cache.log", [["action", "=", "remove"]])
    names["event"] = server.first("cache.event.rule", [], "sequence")
    of_admin = [["uid", "=", server.rpc.uid], ["method", "=", "web_search_read"]]
    names["entry"] = server.first("cache.entry", of_admin, "created desc") or server.first(
        "cache.entry", []
    )
    names["call"] = server.first("cache.call", [["model", "=", "sale.order"]]) or server.first(
        "cache.call", []
    )
    return names


def furnish_remotes(server):
    """Three other Odoos: this server itself, which works, one that nobody listens at, and one that
    was not tested yet.

    :return tuple: ids of the first two
    """
    found = []
    for name, values in (
        ("headquarters", {"url": f"http://localhost:{server.rpc.port}",
                          "allowed_hosts": "127.0.0.1, ::1", "database": server.database}),
        ("warehouse", {"url": "http://localhost:9", "allowed_hosts": "127.0.0.1, ::1",
                       "connect_timeout_s": 1}),
        ("partner_shop", {"url": "https://shop.example.com", "login": "reader"}),
    ):  # fmt: skip
        known = server.first("cache.remote", [["name", "=", name]])
        values = {"name": name, "api_key": "not known" if known else server.api_key(), **values}
        found.append(known or server.ensure("cache.remote", [["name", "=", name]], values))
    for record_id in found[:2]:
        server.rpc.call("cache.remote", "action_test", [[record_id]])
    return found[0], found[1]


class Photographer:
    """A logged-in browser that takes the pictures.

    :param Browser browser: a tab
    :param options: of the command line
    """

    def __init__(self, browser, options, names):
        self.browser = browser
        self.options = options
        self.names = names
        self.base = f"http://localhost:{options.port}"

    def log_in(self):
        self.browser.resize(*SIZES["light"])
        self.browser.open(f"{self.base}/web/login")
        self.browser.wait("document.querySelector('form input[name=password]')")
        self.browser.run(
            "document.querySelector('input[name=login]').value = 'admin';"
            "document.querySelector('input[name=password]').value = 'admin';"
            "document.querySelector('form.oe_login_form').submit()"
        )
        self.browser.wait("document.querySelector('.o_main_navbar')")
        self.browser.run(PERIOD)

    def wear(self, look):
        """A size and a colour scheme."""
        self.browser.resize(*SIZES[look])
        dark = look == "dark"
        scheme = "dark" if dark else "light"
        self.browser.send("Network.setCookie", name="color_scheme", value=scheme, url=self.base)
        dark_bundle = f"{self.base}/web/assets/any/web.assets_web_dark.min.css"
        self.browser.redirect({"web.assets_web.min.css": dark_bundle} if dark else {})

    def take(self, screen):
        """:return bytes: the picture of a screen."""
        browser = self.browser
        browser.open("about:blank")
        browser.open(f"{self.base}/odoo/{screen.path.format(**self.names)}")
        browser.wait(f"document.querySelector({screen.ready!r}) && {QUIET}", screen.ready)
        pause(browser, 500)
        browser.run(FREEZE)
        if screen.then:
            browser.run(screen.then)
            if screen.and_ready:
                browser.wait(f"document.querySelector({screen.and_ready!r})", screen.and_ready)
        browser.wait(QUIET)
        pause(browser, 700)
        return browser.picture()


def pause(browser, milliseconds):
    """Charts and lazy parts draw themselves."""
    browser.run(f"new Promise((resolve) => setTimeout(resolve, {milliseconds}))")


def shrink(png):
    """:return bytes: the picture with a palette, a quarter of the size.

    Most colours of a screen are flat and stay as they are; the rest of the palette is for what is
    rare but large in hue, such as a small square in a legend.
    """
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    counted = sorted(picture.getcolors(picture.width * picture.height), reverse=True)
    colors = [color for _count, color in counted]
    palette = colors[:FLAT_COLORS]
    if len(colors) > len(palette):
        rare = picture.quantize(256 - len(palette), method=Image.Quantize.MAXCOVERAGE)
        parts = rare.getpalette()
        palette += zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    index = {color: nearest(color, palette) for color in colors}  # Pillow itself would round
    packed = io.BytesIO()
    parts = picture.tobytes()
    pixels = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    small = Image.frombytes("P", picture.size, bytes(index[color] for color in pixels))
    small.putpalette([part for color in palette for part in color])
    small.save(packed, "PNG", optimize=True)
    return packed.getvalue()


def nearest(color, palette):
    """:return int: where in the palette the colour is that differs least."""
    red, green, blue = color
    differences = [(red - r) ** 2 + (green - g) ** 2 + (blue - b) ** 2 for r, g, b in palette]
    return differences.index(min(differences))


def work(options, server):
    """:return list: names of the pictures that could not be taken."""
    names = furnish(server)
    server.dark_assets()
    failed, total = [], 0
    with Browser() as browser:
        photographer = Photographer(browser, options, names)
        photographer.log_in()
        for look in SIZES:
            photographer.wear(look)
            for screen in SCREENS:
                if options.only not in screen.name:
                    continue
                if look != "light" and not (screen.shown or options.all):
                    continue
                if look == "narrow" and screen.wide:
                    continue
                name = screen.name if look == "light" else f"{screen.name}-{look}"
                try:
                    data = shrink(photographer.take(screen))
                except BrowserError as error:
                    print(f"screenshots: {name}: {error}", file=sys.stderr)
                    failed.append(name)
                    continue
                (options.output / f"{name}.png").write_bytes(data)
                total += len(data)
                print(f"screenshots: {name}.png, {len(data) // 1000} kB", file=sys.stderr)
    print(f"screenshots: {total // 1000} kB in {options.output}", file=sys.stderr)
    return failed


def parse_arguments():
    """The command line, as ``scripts/screenshots`` hands it over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", required=True)
    parser.add_argument("--port", type=int, default=8069)
    parser.add_argument("--output", type=Path, default=ROOT / "static" / "description")
    parser.add_argument("--only", default="")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--lang", default="")
    return parser.parse_args()


def main():
    """:return int: exit code, 0 if every picture was taken."""
    options = parse_arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        server = Server(options)
        before = options.lang and server.install_language(options.lang)
        try:
            failed = work(options, server)
        finally:
            if before:
                server.speak(before)
    except (OSError, RpcError, BrowserError) as error:
        print(f"screenshots: {options.database}, port {options.port}: {error}", file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
