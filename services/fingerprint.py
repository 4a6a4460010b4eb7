"""A short name for the code that is running.

The one idea: a cached shape is only as good as the code that made it.  The digest of every
Python file of the installed modules, and of Odoo itself, is part of every key, so a server
restarted with other code never reads what the old code stored, with or without a module
upgrade, and hosts that run the same code share their entries.

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

_SKIPPED = frozenset(('tests', 'static', '__pycache__', 'i18n', 'upgrades', 'migrations'))


def code_fingerprint(modules: Iterable[str]) -> str:
    """Digest of the Python files of modules, of the ORM, and of this addon.

    :param modules: names of installed modules; where they lie on disk does not matter
    :return: 16 hexadecimal digits
    """
    folders = {name: _module_path(name) for name in modules}
    folders['odoo.orm'] = os.path.dirname(odoo.orm.__file__)
    folders['odoo.tools'] = os.path.dirname(odoo.tools.__file__)
    digest = hashlib.blake2b(odoo.release.version.encode(), digest_size=8)
    for name in sorted(folders):
        for path in sorted(_python_files(folders[name])):
            with open(path, 'rb') as file:
                content = hashlib.blake2b(file.read(), digest_size=16).digest()
            digest.update(f'{name}/{os.path.relpath(path, folders[name])}\0'.encode())
            digest.update(content)
    return digest.hexdigest()


def _module_path(name: str) -> str:
    manifest = Manifest.for_addon(name, display_warning=False)
    return manifest.path if manifest else ''


def _python_files(folder: str):
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        for name in files:
            if name.endswith('.py'):
                yield os.path.join(parent, name)
