import { cookie } from "@web/core/browser/cookie";
import { registry } from "@web/core/registry";
import { formatInteger } from "@web/views/fields/formatters";
import { GraphRenderer } from "@web/views/graph/graph_renderer";
import { graphView } from "@web/views/graph/graph_view";

// From the nearest tier to none, as on the dashboard: bright and dark mode.
const COLORS = {
    l1: ["#43C5B1", "#43C5B1"],
    l2: ["#4EA7F2", "#4EA7F2"],
    l3: ["#8481DD", "#8481DD"],
    computed: ["#C9CCD6", "#5C6275"],
};

/** A graph of figures: a tier has the same color everywhere, calls are whole numbers, no sum line. */
export class CacheGraphRenderer extends GraphRenderer {
    formatValue(value, allIntegers = true, formatType = "") {
        if (!formatType && Number.isInteger(value) && Math.abs(value) < 1e6) {
            return formatInteger(value);
        }
        return super.formatValue(value, allIntegers, formatType);
    }

    getBarChartData() {
        this.model.lineOverlayDataset = null;
        const data = super.getBarChartData();
        const tiers = new Map(
            this.model.metaData.fields.outcome.selection.map(([tier, label]) => [label, tier])
        );
        const dark = cookie.get("color_scheme") === "dark" ? 1 : 0;
        for (const dataset of data.datasets) {
            const color = COLORS[tiers.get(dataset.label)];
            if (color) {
                dataset.backgroundColor = color[dark];
            }
        }
        return data;
    }
}

registry.category("views").add("tiered_cache_graph", { ...graphView, Renderer: CacheGraphRenderer });
