import { Component, onWillDestroy, onWillStart, onWillUpdateProps, useState } from "@odoo/owl";
import { browser } from "@web/core/browser/browser";
import { registry } from "@web/core/registry";
import { useService } from "@web/core/utils/hooks";
import { formatInteger } from "@web/views/fields/formatters";
import { standardWidgetProps } from "@web/views/widgets/standard_widget_props";

const EVERY_MS = 1000;
const FIELDS = ["status", "percent", "removed", "removed_l1", "removed_l2", "removed_l3", "progress"];

/** How far a removal has come: of the record itself, or of the log that a field names. */
export class TieredCacheProgress extends Component {
    static template = "tiered_cache.Progress";
    static props = { ...standardWidgetProps, field: { type: String, optional: true } };

    setup() {
        this.orm = useService("orm");
        this.state = useState({ log: null });
        onWillStart(() => this.load(this.props));
        onWillUpdateProps((next) => this.load(next));
        onWillDestroy(() => browser.clearTimeout(this.timer));
    }

    logId({ field, record }) {
        return field ? record.data[field]?.id : record.resId;
    }

    async load(props) {
        browser.clearTimeout(this.timer);
        const id = this.logId(props);
        if (!id) {
            this.state.log = null;
            return;
        }
        [this.state.log] = await this.orm.silent.read("cache.log", [id], FIELDS);
        if (this.state.log?.status === "running") {
            this.timer = browser.setTimeout(() => this.load(this.props), EVERY_MS);
        }
    }

    get tiers() {
        const { log } = this.state;
        return ["l1", "l2", "l3"].map((name) => ({
            name: name.toUpperCase(),
            removed: formatInteger(log.progress?.[name]?.removed ?? log[`removed_${name}`]),
        }));
    }

    get percent() {
        return Math.round(this.state.log.percent);
    }
}

registry.category("view_widgets").add("tiered_cache_progress", {
    component: TieredCacheProgress,
    extractProps: ({ attrs }) => ({ field: attrs.field }),
});
