"""Benchmarks and the crawl: programs beside the addon, never imported by it.

They talk to real Odoo processes over loopback, started through ``scripts/odoo``,
and need nothing but the standard library in the process that measures.
"""
