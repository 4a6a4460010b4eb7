import { _t } from "@web/core/l10n/translation";

const { DateTime } = luxon;

/**
 * What can be looked at. Figures are written every few seconds; where a column of a chart is an
 * hour or more, nobody sees the difference.
 */
export const PERIODS = [
    { id: "hour", label: _t("Last Hour"), refreshMs: 5000, format: DateTime.TIME_SIMPLE },
    { id: "day", label: _t("Last 24 Hours"), refreshMs: 5000, format: DateTime.TIME_SIMPLE },
    { id: "week", label: _t("Last 7 Days"), refreshMs: 10000, format: { weekday: "short", hour: "2-digit" } },
    { id: "month", label: _t("Last 30 Days"), refreshMs: 15000, format: { day: "numeric", month: "short" } },
];

export const DEFAULT_PERIOD = "day";

/**
 * @param {string} id
 * @returns {Object} the period of this name, or the default one
 */
export function periodOf(id) {
    return (
        PERIODS.find((period) => period.id === id) ||
        PERIODS.find((period) => period.id === DEFAULT_PERIOD)
    );
}

/**
 * @param {number} epochS seconds
 * @returns {DateTime} in the time zone of the user
 */
export function toLocal(epochS) {
    return DateTime.fromSeconds(epochS);
}

/**
 * What stands under a column of a chart.
 *
 * @param {string} id of the period
 * @param {number} epochS when the column begins, seconds
 */
export function columnLabel(id, epochS) {
    return toLocal(epochS).toLocaleString(periodOf(id).format);
}

/**
 * What a column of a chart is about, in full: from when until when.
 *
 * @param {string} id of the period
 * @param {number[]} starts beginnings of all columns, seconds
 * @param {number} index
 * @param {number} nowS the end of the last column, seconds
 */
export function columnTitle(id, starts, index, nowS) {
    const start = toLocal(starts[index]);
    if (id === "month") {
        return start.toLocaleString(DateTime.DATE_MED_WITH_WEEKDAY);
    }
    const end = toLocal(index + 1 < starts.length ? starts[index + 1] : Math.max(nowS, starts[index]));
    const day = id === "week" ? DateTime.DATETIME_MED_WITH_WEEKDAY : DateTime.TIME_SIMPLE;
    return `${start.toLocaleString(day)} – ${end.toLocaleString(DateTime.TIME_SIMPLE)}`;
}
