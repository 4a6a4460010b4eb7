"""The two benchmark databases: equal but for the addon.

The one idea: ``PLAIN`` is built once (demo data, 10,000 products, 10,000 partners, no addon)
and kept; ``ADDON`` is its copy with the addon installed, made anew when the addon's files
have changed.  Reads are measured on ``ADDON`` with and without caching, writes on copies of
both.  What may go wrong: building needs some minutes and about 400 MB; a build that is
interrupted leaves ``…_making`` behind, which the next one replaces.
"""

import hashlib
import json

from .common import ROOT, ServerFailed, run_odoo

PLAIN = "tiered_cache_bench_plain"
ADDON = "tiered_cache_bench"
MAKING = "tiered_cache_bench_making"
MODULES = "sale_management,purchase,stock,website_sale"
TEMPLATE_PREFIX = "tiered_cache_template_"  # of what scripts/test prepares
DATA_VERSION = "data 1"  # to be raised when data.py changes what it generates
CODE = ("__init__.py", "__manifest__.py", "hooks.py")
CODE_FOLDERS = ("controllers", "data", "models", "security", "services", "views")
RESULT = "RESULT "


def in_odoo(module, function, *args, database=None):
    """Call ``bench.<module>.<function>`` inside ``odoo shell`` and return its JSON value.

    :param str database: given: the function's first argument is its environment
    :raise ServerFailed: the function raised; its traceback is in the message
    """
    first = "env, " if database else ""
    program = (
        f"import json, sys; sys.path.append({str(ROOT)!r})\n"
        f"from bench import {module}\n"
        f"print({RESULT!r} + json.dumps({module}.{function}({first}*{list(args)!r})))\n"
    )
    arguments = ["shell", "--no-http", "--log-level=error"]
    if database:
        arguments += ["-d", database]
    output = run_odoo(arguments, stdin=program)
    lines = [line for line in output.splitlines() if line.startswith(RESULT)]
    if not lines:
        raise ServerFailed(f"{module}.{function} gave no result:\n{output[-2000:]}")
    return json.loads(lines[-1].removeprefix(RESULT))


def install(database, modules, *options):
    """Install modules with ``scripts/odoo``."""
    run_odoo(
        ["-d", database, "-i", modules, "--stop-after-init", "--no-http", "--log-level=error"]
        + ["--max-cron-threads=0", *options]
    )


def prepare(fresh=False, template=None, say=print):
    """Make sure that both databases are there and current.

    :param bool fresh: build both anew
    :param str template: a database with Odoo's demo data; by default one that is found, else
        the modules are installed
    """
    known = in_odoo("dbadmin", "databases")
    if fresh or known.get(PLAIN) != DATA_VERSION:
        build_plain(known, template, say)
        known = {}
    code = f"{DATA_VERSION}, code {code_digest()}"
    if known.get(ADDON) != code:
        say(f"installing the addon in a copy: {ADDON}")
        in_odoo("dbadmin", "clone", PLAIN, ADDON, "unfinished")
        in_odoo("dbadmin", "renew_identity", database=ADDON)
        install(ADDON, "tiered_cache")
        in_odoo("dbadmin", "analyze", database=ADDON)
        in_odoo("dbadmin", "describe", ADDON, code)


def build_plain(known, template, say):
    """Demo data without the addon, and the generated records."""
    template = template or find_template(known)
    if template:
        say(f"cloning {template}")
        in_odoo("dbadmin", "clone", template, MAKING, "unfinished")
        if in_odoo("dbadmin", "is_installed", database=MAKING):
            raise ServerFailed(f"{template} has tiered_cache installed; choose another --template")
    else:
        say(f"installing {MODULES} with demo data (some minutes)")
        in_odoo("dbadmin", "drop", MAKING)
        install(MAKING, MODULES, "--with-demo")
    say("generating 10,000 products and 10,000 partners (some minutes)")
    in_odoo("data", "generate", database=MAKING)
    in_odoo("dbadmin", "analyze", database=MAKING)
    in_odoo("dbadmin", "drop", PLAIN)
    in_odoo("dbadmin", "rename", MAKING, PLAIN)
    in_odoo("dbadmin", "describe", PLAIN, DATA_VERSION)


def find_template(known):
    """:return str | None: a database that ``scripts/test`` prepared."""
    names = [name for name in known if name.startswith(TEMPLATE_PREFIX)]
    return next((name for name in names if not name.endswith("_making")), None)


def copy(source, target):
    """A database to be written to and dropped."""
    in_odoo("dbadmin", "clone", source, target, "temporary")
    in_odoo("dbadmin", "renew_identity", database=target)
    in_odoo("dbadmin", "analyze", database=target)


def drop(*names):
    """Drop databases, if they exist."""
    for name in names:
        in_odoo("dbadmin", "drop", name)


def code_digest():
    """:return str: changes with any file that an installed addon consists of."""
    files = [ROOT / name for name in CODE]
    for folder in CODE_FOLDERS:
        files += sorted((ROOT / folder).rglob("*.*"))
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        if path.suffix in (".py", ".xml", ".csv") and path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
