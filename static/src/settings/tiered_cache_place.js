import { Component } from "@odoo/owl";
import { registry } from "@web/core/registry";
import { standardWidgetProps } from "@web/views/widgets/standard_widget_props";

/** Says which place outside of Settings sets an option, if one does. */
export class TieredCachePlace extends Component {
    static template = "tiered_cache.Place";
    static props = { ...standardWidgetProps, option: { type: String } };

    get place() {
        return (this.props.record.data.tiered_cache_places || {})[this.props.option];
    }
}

registry.category("view_widgets").add("tiered_cache_place", {
    component: TieredCachePlace,
    extractProps: ({ attrs }) => ({ option: attrs.option }),
    fieldDependencies: [{ name: "tiered_cache_places", type: "json" }],
});
