"""A short name for the code that is running.

The one idea: a cached shape is only as good as the code that made it.  The digest of every
Python file of the installed modules, and of the ORM, and of their translations into the
languages that are in use, is part of every key, so a server restarted with other code never
reads what the old code stored, with or without a module upgrade, and hosts that run the same
code share their entries.

What may go wrong: code outside the modules (a library) is not covered, nor is code changed
on disk under a running server; the first restart sees it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

import odoo.orm
import odoo.release
import odoo.tools
from odoo.modules.module import Manifest
from odoo.tools.translate import get_base_langs

_SKIPPED = frozenset(('tests', 'static', '__pycache__', 'upgrades', 'migrations'))


def running_code(db_name: str, modules: frozenset[str], languages: frozenset[str]) -> str:
    """:func:`code_fingerprint`, once per process, database and modules: 0.1 s for 90 modules.

    Workers have what their master has found out before it forked them, and that is the code which
    all of them run, whatever lies on disk by then.  A language that comes into use later counts
    from the next start on: else workers that begin before and after would share nothing.
    """
    key = (db_name, modules)
    if key not in _running:
        _running[key] = code_fingerprint(modules, languages)
    return _running[key]


_running: dict[tuple[str, frozenset[str]], str] = {}


def code_fingerprint(modules: Iterable[str], languages: Iterable[str] = ()) -> str:
    """Digest of the Python files of modules, of the ORM, and of this addon.

    :param modules: names of installed modules; where they lie on disk does not matter
    :param languages: codes of those in use: translations into them count as code, since
        ``_()`` keeps them in memory.  Of the others, which are many and large, the size counts
    :return: 16 hexadecimal digits
    """
    used = {f'{base}.po' for language in languages for base in get_base_langs(language)}
    folders = {name: _module_path(name) for name in modules}
    folders['odoo.orm'] = os.path.dirname(odoo.orm.__file__)
    folders['odoo.tools'] = os.path.dirname(odoo.tools.__file__)
    digest = hashlib.blake2b(odoo.release.version.encode(), digest_size=8)
    for name in sorted(folders):
        for path in sorted(_files(folders[name])):
            digest.update(f'{name}/{os.path.relpath(path, folders[name])}\0'.encode())
            digest.update(_content(path, used))
    return digest.hexdigest()


def _content(path: str, used: set[str]) -> bytes:
    try:
        if path.endswith('.po') and os.path.basename(path) not in used:
            return str(os.stat(path).st_size).encode()
        with open(path, 'rb') as file:
            return hashlib.blake2b(file.read(), digest_size=16).digest()
    except OSError:
        return b'unreadable'  # an editor's lock, a dangling link: Odoo does not load it either


def _module_path(name: str) -> str:
    manifest = Manifest.for_addon(name, display_warning=False)
    return manifest.path if manifest else ''


def _files(folder: str):
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        for name in files:
            if name.endswith(('.py', '.po')):
                yield os.path.join(parent, name)
