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

/** A long time: 40 s, 1 min 17 s, 12 min, 3 h 12 min, 456 h. */
export function formatSpan(ms) {
    const seconds = Math.floor((ms || 0) / 1000);
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
    if (hours >= 100) {
        return _t("%s h", formatInteger(hours));
    }
    return _t("%(hours)s h %(minutes)s min", { hours, minutes: minutes % 60 });
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
