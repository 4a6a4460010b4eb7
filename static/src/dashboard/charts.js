import { cookie } from "@web/core/browser/cookie";
import { getCustomColor } from "@web/core/colors/colors";
import { _t } from "@web/core/l10n/translation";
import { formatCount, formatMs, formatPower, formatShare, formatSpan, spanTicks } from "./format";
import { columnLabel, columnTitle } from "./periods";

/** One colour for one thing, in all charts and in both colour schemes. */
const OUTCOME_COLORS = { l1: "#43C5B1", l2: "#4EA7F2", l3: "#8481DD" };
export const OUTCOMES = ["l1", "l2", "l3", "computed"];

/** Of Odoo's largest palette; those that are often neighbours differ most. */
const REASON_COLORS = {
    stale: "#3188E6",
    cold: "#00A78D",
    expired: "#CE4257",
    evicted: "#F48935",
    dirty: "#5752D1",
    cheap: "#FFBC2C",
    suspended: "#982738",
    large: "#A76DBC",
    uncacheable: "#EA6175",
    unserializable: "#BE5D10",
    unguarded: "#8481DD",
    orm_cache: "#A4A8B6",
    old_snapshot: "#6D2387",
    fault: "#C08A16",
    disabled: "#545B70",
};
const REASONS = Object.keys(REASON_COLORS);

function scheme() {
    return cookie.get("color_scheme");
}

export function outcomeColor(name) {
    return OUTCOME_COLORS[name] || getCustomColor(scheme(), "#C9CCD6", "#5C6275");
}

export function reasonColor(name) {
    return REASON_COLORS[name] || "#7E8290";
}

function textColor() {
    return getCustomColor(scheme(), "#495057", "#D1D5DB");
}

function gridColor() {
    return getCustomColor(scheme(), "rgba(0,0,0,.08)", "rgba(255,255,255,.12)");
}

function axis(options = {}) {
    return {
        border: { display: false },
        grid: { color: gridColor(), ...options.grid },
        ...options,
        ticks: { color: textColor(), ...options.ticks },
    };
}

/** Options that all charts share. Nothing moves: figures change every few seconds. */
function baseOptions({ legend = true, ...options }) {
    return {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        ...options,
        plugins: {
            legend: {
                display: legend,
                position: "bottom",
                labels: { color: textColor(), boxWidth: 10, boxHeight: 10, padding: 14 },
            },
            ...options.plugins,
        },
    };
}

function timeAxis() {
    return axis({
        stacked: true,
        grid: { display: false },
        ticks: { maxRotation: 0, autoSkip: true, autoSkipPadding: 12 },
    });
}

function columns(figures) {
    return figures.starts.map((start) => columnLabel(figures.period, start));
}

function title(getFigures) {
    return (items) => {
        const { period, starts, now } = getFigures();
        return items.length ? columnTitle(period, starts, items[0].dataIndex, now) : "";
    };
}

/** Which tier has answered, in shares of all calls. */
export function tierChart(getFigures) {
    return {
        type: "bar",
        options: baseOptions({
            scales: {
                x: timeAxis(),
                y: axis({
                    stacked: true,
                    min: 0,
                    max: 100,
                    ticks: { callback: (value) => `${value} %`, stepSize: 25 },
                }),
            },
            plugins: {
                tooltip: {
                    callbacks: {
                        title: title(getFigures),
                        label: ({ dataset, dataIndex }) => {
                            const { outcomes } = getFigures();
                            const calls = outcomes[dataset.id][dataIndex];
                            const all = OUTCOMES.reduce((n, o) => n + outcomes[o][dataIndex], 0);
                            return ` ${dataset.label}: ${formatShare(calls, all)} (${formatCount(
                                calls
                            )})`;
                        },
                    },
                },
            },
        }),
        data(figures) {
            const { outcomes, labels } = figures;
            const all = figures.starts.map((_, i) =>
                OUTCOMES.reduce((sum, name) => sum + outcomes[name][i], 0)
            );
            return {
                labels: columns(figures),
                datasets: OUTCOMES.map((name) => ({
                    id: name,
                    label: labels.outcome[name],
                    data: outcomes[name].map((calls, i) =>
                        all[i] ? (100 * calls) / all[i] : null
                    ),
                    backgroundColor: outcomeColor(name),
                    barPercentage: 0.95,
                    categoryPercentage: 0.95,
                })),
            };
        },
    };
}

/** How many calls were computed, and why. */
export function missChart(getFigures) {
    return {
        type: "bar",
        options: baseOptions({
            scales: {
                x: timeAxis(),
                y: axis({
                    stacked: true,
                    beginAtZero: true,
                    suggestedMax: 10,
                    ticks: { precision: 0, maxTicksLimit: 6, callback: (value) => formatCount(value) },
                }),
            },
            plugins: {
                tooltip: {
                    filter: (item) => item.raw > 0,
                    callbacks: {
                        title: title(getFigures),
                        label: ({ dataset, raw }) => ` ${dataset.label}: ${formatCount(raw)}`,
                    },
                },
            },
        }),
        data(figures) {
            const { reasons, labels } = figures;
            const names = REASONS.filter((name) => reasons[name]);
            return {
                labels: columns(figures),
                datasets: names.map((name) => ({
                    id: name,
                    label: labels.reason[name] || name,
                    data: reasons[name],
                    backgroundColor: reasonColor(name),
                    barPercentage: 0.95,
                    categoryPercentage: 0.95,
                })),
            };
        },
    };
}

/** How long calls took: half of them no longer than the first bar, 95 % than the second. */
export function latencyChart() {
    return {
        type: "bar",
        options: baseOptions({
            scales: {
                x: axis({ grid: { display: false } }),
                y: axis({
                    type: "logarithmic",
                    min: 0.1,
                    ticks: {
                        callback: (value) =>
                            Number.isInteger(Math.log10(value)) ? formatPower(value) : null,
                    },
                }),
            },
            plugins: {
                tooltip: {
                    callbacks: {
                        label: ({ dataset, raw }) => ` ${dataset.label}: ${formatMs(raw)}`,
                    },
                },
            },
        }),
        data({ latency, labels }) {
            const names = OUTCOMES.filter((name) => latency[name]);
            const strong = getCustomColor(scheme(), "#3188E6", "#4EA7F2");
            const faint = getCustomColor(scheme(), "#B8DBFA", "#2C5A85");
            return {
                labels: names.map((name) => labels.outcome[name]),
                datasets: [
                    {
                        id: "median",
                        label: _t("Median"),
                        data: names.map((name) => latency[name].median_ms),
                        backgroundColor: strong,
                        borderRadius: 3,
                        maxBarThickness: 36,
                    },
                    {
                        id: "p95",
                        label: _t("95 % take no longer"),
                        data: names.map((name) => latency[name].p95_ms),
                        backgroundColor: faint,
                        borderRadius: 3,
                        maxBarThickness: 36,
                    },
                ],
            };
        },
    };
}

/** The models for which the cache has saved most time. */
export function savingChart() {
    return {
        type: "bar",
        options: baseOptions({
            legend: false,
            indexAxis: "y",
            scales: {
                x: axis({
                    beginAtZero: true,
                    afterBuildTicks: (scale) => {
                        scale.ticks = spanTicks(scale.max).map((value) => ({ value }));
                    },
                    ticks: { maxRotation: 0, callback: (ms) => formatSpan(ms) },
                }),
                y: axis({ grid: { display: false }, ticks: { autoSkip: false } }),
            },
            plugins: {
                tooltip: { callbacks: { label: ({ raw }) => ` ${formatSpan(raw)}` } },
            },
        }),
        data({ saved_by_model: saved }) {
            return {
                labels: saved.map(([model]) => model),
                datasets: [
                    {
                        id: "saved",
                        label: _t("Time saved"),
                        data: saved.map(([, ms]) => ms),
                        backgroundColor: OUTCOME_COLORS.l1,
                        borderRadius: 3,
                        maxBarThickness: 22,
                    },
                ],
            };
        },
    };
}
