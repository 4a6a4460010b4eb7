import { _t } from "@web/core/l10n/translation";
import { formatFloat, formatInteger } from "@web/views/fields/formatters";

const UNITS = [_t("B"), _t("kB"), _t("MB"), _t("GB"), _t("TB")];

/** A number with few digits: 1,234, 56.8k, 1.2M. Nothing known is a dash. */
export function formatCount(value) {
    if (value === null || value === undefined || value === false) {
        return "–";
    }
    if (Math.abs(value) < 10000) {
        return formatInteger(Math.round(value));
    }
    return formatFloat(value, { humanReadable: true, decimals: 1, minDigits: 1 });
}

function decimals(value, digits) {
    return formatFloat(value, { digits: [16, digits] });
}

/**
 * A share of a whole. It is 100 % only if it is all, and 0 % only if it is nothing.
 *
 * @param {number} part
 * @param {number} whole
 */
export function formatShare(part, whole) {
    if (!whole) {
        return "–";
    }
    const percent = (100 * part) / whole;
    if (part > 0 && part < whole) {
        return `${decimals(Math.min(Math.max(percent, 0.1), 99.9), 1)} %`;
    }
    return `${decimals(percent, 0)} %`;
}

/** Milliseconds of one call: 0.42 ms, 12.3 ms, 1.8 s. */
export function formatMs(value) {
    if (value === null || value === undefined || value === false) {
        return "–";
    }
    if (value >= 1000) {
        return _t("%s s", decimals(value / 1000, 1));
    }
    return _t("%s ms", decimals(value, value < 1 ? 2 : value < 100 ? 1 : 0));
}

/** A power of ten, in milliseconds: 0.1 ms, 10 ms, 1 s. */
export function formatPower(ms) {
    const inSeconds = ms >= 1000;
    const value = inSeconds ? ms / 1000 : ms;
    const text = decimals(value, Math.max(0, -Math.floor(Math.log10(value))));
    return inSeconds ? _t("%s s", text) : _t("%s ms", text);
}

/** A long time: 0.5 s, 40 s, 1 min 17 s, 12 min, 3 h 12 min, 456 h. */
export function formatSpan(ms) {
    const seconds = Math.floor((ms || 0) / 1000);
    if (seconds < 10 && ms % 1000) {
        return _t("%s s", decimals(ms / 1000, 1));
    }
    if (seconds < 60) {
        return _t("%s s", seconds);
    }
    const minutes = Math.floor(seconds / 60);
    if (minutes < 10 && seconds % 60) {
        return _t("%(minutes)s min %(seconds)s s", { minutes, seconds: seconds % 60 });
    }
    if (minutes < 60) {
        return _t("%s min", minutes);
    }
    const hours = Math.floor(minutes / 60);
    if (hours >= 100 || !(minutes % 60)) {
        return _t("%s h", formatInteger(hours));
    }
    return _t("%(hours)s h %(minutes)s min", { hours, minutes: minutes % 60 });
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const SPAN_STEPS = [
    ...[0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30].map((step) => step * SECOND),
    ...[1, 2, 5, 10, 15, 30].map((step) => step * MINUTE),
    ...[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].map((step) => step * HOUR),
];

/**
 * Where an axis of time spent is marked: at whole seconds, minutes and hours, which a scale of ten
 * in milliseconds would miss.
 *
 * @param {number} maxMs the end of the axis
 * @returns {number[]} milliseconds, at most six
 */
export function spanTicks(maxMs) {
    const step = SPAN_STEPS.find((ms) => maxMs / ms <= 5) || maxMs / 5;
    const count = Math.floor(maxMs / step + 1e-9) || 0;
    return [...Array(count + 1).keys()].map((index) => index * step);
}

/** Bytes, in steps of 1024: 512 B, 1.5 MB. */
export function formatBytes(value) {
    if (value === null || value === undefined || value === false) {
        return "–";
    }
    let unit = 0;
    while (value >= 1024 && unit < UNITS.length - 1) {
        value /= 1024;
        unit++;
    }
    return `${decimals(value, unit && value < 100 ? 1 : 0)} ${UNITS[unit]}`;
}

/** How long ago, for a person who glances at it. */
export function formatAgo(seconds) {
    if (seconds < 5) {
        return _t("just now");
    }
    return _t("%s ago", formatSpan(seconds * 1000));
}

/** A rate: 0.4/h, 12/h. */
export function formatPerHour(value) {
    return _t("%s/h", value < 10 ? decimals(value, 1) : formatCount(value));
}

/**
 * Parts of a whole, largest first; what is small is put together.
 *
 * @param {Object<string, number>} counts
 * @returns {{ name: string, count: number, percent: number }[]}
 */
export function sharesOf(counts) {
    const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
    return Object.entries(counts)
        .filter(([, count]) => count > 0)
        .sort((a, b) => b[1] - a[1])
        .map(([name, count]) => ({ name, count, percent: (100 * count) / total }));
}
