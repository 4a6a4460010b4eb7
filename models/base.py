"""The hooks on every model: reads go through the cache, writes mark their transaction.

The one idea: ``_inherit = 'base'`` is the bottom of the class hierarchy.  A model's own
override of a read method, which may check access or add a filter, runs on every call, hit
or not; what it finally hands to ``super()`` is what is cached.

What may go wrong: an override that answers without ``super()`` is never cached this way;
:mod:`..services.overrides` lists those of Odoo itself that are wrapped on the outside.
"""

from __future__ import annotations

from odoo import api, models

from ..services import overrides
from ..services.reading import note_code, note_groups, note_order
from ..services.writing import note_changes, note_draft
from .read_through import read_through


class Base(models.AbstractModel):
    _inherit = 'base'

    # -- reads -------------------------------------------------------------------------

    @api.model
    @api.readonly
    def search_read(
        self, domain=None, fields=None, offset=0, limit=None, order=None, **read_kwargs
    ):
        return read_through(
            self,
            'search_read',
            super().search_read,
            domain,
            fields,
            offset,
            limit,
            order,
            **read_kwargs,
        )

    @api.model
    @api.readonly
    def web_search_read(
        self, domain, specification, offset=0, limit=None, order=None, count_limit=None
    ):
        return read_through(
            self,
            'web_search_read',
            super().web_search_read,
            domain,
            specification,
            offset,
            limit,
            order,
            count_limit,
        )

    @api.readonly
    def read(self, fields=None, load='_classic_read'):
        return read_through(self, 'read', super().read, fields, load)

    @api.readonly
    def web_read(self, specification):
        return read_through(self, 'web_read', super().web_read, specification)

    @api.model
    @api.readonly
    def search_count(self, domain, limit=None):
        return read_through(self, 'search_count', super().search_count, domain, limit)

    @api.model
    @api.readonly
    def name_search(self, name='', domain=None, operator='ilike', limit=100):
        return read_through(self, 'name_search', super().name_search, name, domain, operator, limit)

    @api.model
    @api.readonly
    def web_name_search(self, name, specification, domain=None, operator='ilike', limit=100):
        return read_through(
            self,
            'web_name_search',
            super().web_name_search,
            name,
            specification,
            domain,
            operator,
            limit,
        )

    @api.model
    @api.readonly
    def read_group(self, domain, fields, groupby, offset=0, limit=None, orderby=False, lazy=True):
        return read_through(
            self,
            'read_group',
            super().read_group,
            domain,
            fields,
            groupby,
            offset,
            limit,
            orderby,
            lazy,
        )

    @api.model
    @api.readonly
    def formatted_read_group(
        self, domain, groupby=(), aggregates=(), having=(), offset=0, limit=None, order=None
    ):
        return read_through(
            self,
            'formatted_read_group',
            super().formatted_read_group,
            domain,
            groupby,
            aggregates,
            having,
            offset,
            limit,
            order,
        )

    @api.model
    @api.readonly
    def formatted_read_grouping_sets(self, domain, grouping_sets, aggregates=(), *, order=None):
        return read_through(
            self,
            'formatted_read_grouping_sets',
            super().formatted_read_grouping_sets,
            domain,
            grouping_sets,
            aggregates,
            order=order,
        )

    @api.model
    @api.readonly
    def web_read_group(
        self, domain, groupby, aggregates=(), limit=None, offset=0, order=None, **options
    ):
        return read_through(
            self,
            'web_read_group',
            super().web_read_group,
            domain,
            groupby,
            aggregates,
            limit,
            offset,
            order,
            **options,
        )

    @api.model
    @api.readonly
    def read_progress_bar(self, domain, group_by, progress_bar):
        return read_through(
            self, 'read_progress_bar', super().read_progress_bar, domain, group_by, progress_bar
        )

    @api.model
    def search_panel_select_range(self, field_name, **kwargs):
        return read_through(
            self,
            'search_panel_select_range',
            super().search_panel_select_range,
            field_name,
            **kwargs,
        )

    @api.model
    def search_panel_select_multi_range(self, field_name, **kwargs):
        return read_through(
            self,
            'search_panel_select_multi_range',
            super().search_panel_select_multi_range,
            field_name,
            **kwargs,
        )

    @api.model
    @api.readonly
    def get_views(self, views, options=None):
        return read_through(self, 'get_views', super().get_views, views, options)

    @api.model
    def fields_get(self, allfields=None, attributes=None):
        return read_through(self, 'fields_get', super().fields_get, allfields, attributes)

    def _compute_field_value(self, field):
        note_code(self, field)
        return super()._compute_field_value(field)

    @api.model
    def _order_to_sql(self, order, query, alias=None, reverse=False):
        note_order(self, order)
        return super()._order_to_sql(order, query, alias, reverse)

    @api.model
    def _read_group(
        self, domain, groupby=(), aggregates=(), having=(), offset=0, limit=None, order=None
    ):
        note_groups(self, groupby)
        return super()._read_group(domain, groupby, aggregates, having, offset, limit, order)

    @api.model
    def _read_grouping_sets(self, domain, grouping_sets, aggregates=(), order=None):
        note_groups(self, grouping_sets)
        return super()._read_grouping_sets(domain, grouping_sets, aggregates, order)

    # -- writes ------------------------------------------------------------------------

    @api.model_create_multi
    def create(self, vals_list):
        note_changes(self)
        records = super().create(vals_list)
        note_changes(records)
        return records

    def write(self, vals):
        watch = note_changes(self, vals)
        result = super().write(vals)
        if watch is not None:
            watch.wrote(self, vals)
        return result

    def unlink(self):
        watch = note_changes(self, removed=True)
        if watch is None or not self:
            return super().unlink()
        gone = watch.deleting(self)
        result = super().unlink()
        watch.deleted(self, gone)
        return result

    # what recomputation at flush uses, and modules that go below write() and create()

    def _write_multi(self, vals_list):
        watch = note_changes(self)
        if watch is not None:
            watch.writing(self, vals_list)
        return super()._write_multi(vals_list)

    @api.model
    def _create(self, data_list):
        watch = note_changes(self)
        try:
            return super()._create(data_list)
        finally:
            if watch is not None:
                watch.created(self, data_list)

    @api.model
    @api.private
    def new(self, values=None, origin=None, ref=None):
        note_draft(self)
        return super().new(values, origin, ref)

    # -- overrides that never reach this class -----------------------------------------

    def _register_hook(self):
        super()._register_hook()
        for method in overrides.methods_of(self._name):
            overrides.wrap(type(self), method, read_through)
