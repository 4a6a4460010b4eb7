import { Component, onWillStart, onWillUnmount, useEffect, useRef, xml } from "@odoo/owl";
import { loadBundle } from "@web/core/assets";

/**
 * A chart that is made once. When its figures change, they are put into it: neither the canvas nor
 * what the reader points at or has hidden in the legend goes away.
 */
export class CacheChart extends Component {
    static template = xml`<canvas t-ref="canvas" role="img" t-att-aria-label="props.label"/>`;
    static props = {
        label: String,
        make: Function,
        figures: Object,
    };

    setup() {
        this.canvas = useRef("canvas");
        this.chart = null;
        this.description = this.props.make(() => this.props.figures);
        onWillStart(() => loadBundle("web.chartjs_lib"));
        useEffect(
            () => this.show(),
            () => [this.props.figures]
        );
        onWillUnmount(() => this.chart?.destroy());
    }

    show() {
        const data = this.description.data(this.props.figures);
        if (this.chart) {
            putInto(this.chart.data, data);
            this.chart.update("none");
        } else {
            const { type, options } = this.description;
            this.chart = new Chart(this.canvas.el, { type, options, data });
        }
    }
}

/**
 * Puts new figures into those of a chart; a set of figures with the same id stays the same object.
 *
 * @param {{ labels: string[], datasets: Object[] }} into
 * @param {{ labels: string[], datasets: Object[] }} data
 */
export function putInto(into, data) {
    into.labels = data.labels;
    into.datasets = data.datasets.map((fresh) => {
        const known = into.datasets.find((dataset) => dataset.id === fresh.id);
        return known ? Object.assign(known, fresh) : fresh;
    });
}
