import { beforeEach, describe, expect, getFixture, mockDate, mockTimeZone, test } from "@odoo/hoot";
import { queryAllTexts, resize } from "@odoo/hoot-dom";
import { advanceTime, animationFrame } from "@odoo/hoot-mock";
import {
    contains,
    getService,
    makeMockEnv,
    makeMockServer,
    mountWithCleanup,
    onRpc,
    patchTranslations,
    patchWithCleanup,
    preloadBundle,
} from "@web/../tests/web_test_helpers";
import { localization } from "@web/core/l10n/localization";
import { ControllerNotFoundError } from "@web/webclient/actions/action_service";
import { WebClient } from "@web/webclient/webclient";
import { putInto } from "@tiered_cache/dashboard/cache_chart";
import {
    formatAgo,
    formatBytes,
    formatCount,
    formatMs,
    formatPerHour,
    formatPower,
    formatShare,
    formatSpan,
    sharesOf,
    spanTicks,
} from "@tiered_cache/dashboard/format";
import { columnLabel, columnTitle, PERIODS, periodOf } from "@tiered_cache/dashboard/periods";
import { leave } from "@tiered_cache/leave/leave";
import { Poller } from "@tiered_cache/dashboard/poller";

preloadBundle("web.chartjs_lib");

const HOUR_S = 3600;
const NOON_S = Date.UTC(2031, 2, 10, 12) / 1000;

describe("format", () => {
    beforeEach(async () => {
        patchTranslations();
        await makeMockEnv();
    });

    test("counts", () => {
        expect(formatCount(0)).toBe("0");
        expect(formatCount(9999)).toBe("9,999");
        expect(formatCount(56789)).toBe("56.8k");
        expect(formatCount(1234567)).toBe("1.2M");
        expect(formatCount(null)).toBe("–");
    });

    test("a share is whole only if it is all or nothing", () => {
        expect(formatShare(0, 0)).toBe("–");
        expect(formatShare(0, 10)).toBe("0 %");
        expect(formatShare(10, 10)).toBe("100 %");
        expect(formatShare(99999, 100000)).toBe("99.9 %");
        expect(formatShare(1, 100000)).toBe("0.1 %");
        expect(formatShare(2, 3)).toBe("66.7 %");
    });

    test("durations of calls", () => {
        expect(formatMs(0.4249)).toBe("0.42 ms");
        expect(formatMs(12.34)).toBe("12.3 ms");
        expect(formatMs(250.4)).toBe("250 ms");
        expect(formatMs(1840)).toBe("1.8 s");
        expect(formatMs(null)).toBe("–");
    });

    test("marks of a logarithmic axis", () => {
        const marks = [0.01, 0.1, 1, 100, 1000, 10000].map(formatPower);
        expect(marks).toEqual(["0.01 ms", "0.1 ms", "1 ms", "100 ms", "1 s", "10 s"]);
        patchWithCleanup(localization, { decimalPoint: "," });
        expect(formatPower(0.1)).toBe("0,1 ms");
    });

    test("long times are hours and minutes", () => {
        expect(formatSpan(0)).toBe("0 s");
        expect(formatSpan(500)).toBe("0.5 s");
        expect(formatSpan(1250)).toBe("1.3 s");
        expect(formatSpan(9000)).toBe("9 s");
        expect(formatSpan(12300)).toBe("12 s");
        expect(formatSpan(59999)).toBe("59 s");
        expect(formatSpan(60000)).toBe("1 min");
        expect(formatSpan(77900)).toBe("1 min 17 s");
        expect(formatSpan(617000)).toBe("10 min");
        expect(formatSpan(11520000)).toBe("3 h 12 min");
        expect(formatSpan(3600000 * 1234)).toBe("1,234 h");
    });

    test("an axis of time is marked at whole seconds, minutes, hours, no two alike", () => {
        expect(spanTicks(2000)).toEqual([0, 500, 1000, 1500, 2000]);
        expect(spanTicks(4000000).map(formatSpan)).toEqual(["0 s", "15 min", "30 min", "45 min", "1 h"]);
        for (let maxMs = 1000; maxMs < 1e11; maxMs *= 1.7) {
            const labels = spanTicks(maxMs).map(formatSpan);
            expect(new Set(labels).size).toBe(labels.length);
            expect(labels.length).toBeWithin(3, 6);
        }
        expect(spanTicks(0)).toEqual([0]);
    });

    test("bytes", () => {
        expect(formatBytes(0)).toBe("0 B");
        expect(formatBytes(1536)).toBe("1.5 kB");
        expect(formatBytes(64 * 2 ** 20)).toBe("64.0 MB");
        expect(formatBytes(undefined)).toBe("–");
    });

    test("ages and rates", () => {
        expect(formatAgo(2)).toBe("just now");
        expect(formatAgo(42)).toBe("42 s ago");
        expect(formatPerHour(0.44)).toBe("0.4/h");
        expect(formatPerHour(1234)).toBe("1,234/h");
    });

    test("shares come in order and leave out what is not there", () => {
        expect(sharesOf({ cold: 1, stale: 3, large: 0 })).toEqual([
            { name: "stale", count: 3, percent: 75 },
            { name: "cold", count: 1, percent: 25 },
        ]);
        expect(sharesOf({})).toEqual([]);
    });
});

describe("periods", () => {
    test("an unknown period is the default one", () => {
        expect(periodOf("century").id).toBe("day");
        expect(PERIODS.map((period) => periodOf(period.id).id)).toEqual([
            "hour", "day", "week", "month",
        ]); // prettier-ignore
    });

    test("columns are labelled in the time zone of the user", () => {
        mockTimeZone(+2);
        expect(columnLabel("day", NOON_S)).toMatch(/^(14|2):00/);
        expect(columnLabel("month", NOON_S)).toMatch(/10/);
    });

    test("a column says from when until when, the last one until now", () => {
        mockTimeZone(0);
        const starts = [NOON_S, NOON_S + HOUR_S];
        expect(columnTitle("day", starts, 0, NOON_S + 5000)).toMatch(/12:00.*–.*1:00/);
        expect(columnTitle("day", starts, 1, NOON_S + 5000)).toMatch(/1:00.*–.*1:23/);
    });
});

class FakePage extends EventTarget {
    visibilityState = "visible";

    set(state) {
        this.visibilityState = state;
        this.dispatchEvent(new Event("visibilitychange"));
    }
}

describe("refresh", () => {
    function startPoller(work) {
        const page = new FakePage();
        const poller = new Poller(work || (async () => expect.step("work")), () => 5000, page);
        poller.start();
        return { page, poller };
    }

    test("again and again while visible", async () => {
        const { poller } = startPoller();
        await advanceTime(4900);
        expect.verifySteps([]);
        await advanceTime(200);
        expect.verifySteps(["work"]);
        await advanceTime(5100);
        expect.verifySteps(["work"]);
        poller.stop();
        await advanceTime(60000);
        expect.verifySteps([]);
    });

    test("not while hidden, and at once afterwards", async () => {
        const { page, poller } = startPoller();
        page.set("hidden");
        await advanceTime(600000);
        expect.verifySteps([]);
        page.set("visible");
        await advanceTime(10);
        expect.verifySteps(["work"]);
        poller.stop();
    });

    test("a short look elsewhere asks no sooner", async () => {
        const { page, poller } = startPoller();
        await advanceTime(1000);
        page.set("hidden");
        page.set("visible");
        await advanceTime(1000);
        expect.verifySteps([]);
        await advanceTime(3100);
        expect.verifySteps(["work"]);
        poller.stop();
    });

    test("never twice at once", async () => {
        let release;
        const { page, poller } = startPoller(() => {
            expect.step("work");
            return new Promise((resolve) => (release = resolve));
        });
        await advanceTime(5100);
        page.set("hidden");
        page.set("visible");
        await advanceTime(60000);
        expect.verifySteps(["work"]);
        release();
        await animationFrame();
        await advanceTime(5100);
        expect.verifySteps(["work"]);
        poller.stop();
    });

    test("less often after failures", async () => {
        const { poller } = startPoller(async () => {
            expect.step("work");
            throw new Error("no answer");
        });
        await advanceTime(5100);
        expect.verifySteps(["work"]);
        await advanceTime(9000);
        expect.verifySteps([]);
        await advanceTime(1100);
        expect.verifySteps(["work"]);
        poller.stop();
    });
});

describe("charts", () => {
    test("new figures are put into the datasets that are there", () => {
        const l1 = { id: "l1", data: [1], hidden: true };
        const into = { labels: ["a"], datasets: [l1, { id: "gone", data: [2] }] };
        putInto(into, {
            labels: ["b"],
            datasets: [
                { id: "l1", data: [3] },
                { id: "new", data: [4] },
            ],
        });
        expect(into.labels).toEqual(["b"]);
        expect(into.datasets[0]).toBe(l1);
        expect(l1).toEqual({ id: "l1", data: [3], hidden: true });
        expect(into.datasets.map((dataset) => dataset.id)).toEqual(["l1", "new"]);
    });
});

describe("leave", () => {
    test("back to where one came from, or to the entries", async () => {
        const restore = () => expect.step("back");
        expect(await leave({ services: { action: { restore } } })).toBe(undefined);
        expect.verifySteps(["back"]);
        const nothing = () => {
            throw new ControllerNotFoundError("No controller to restore");
        };
        expect(await leave({ services: { action: { restore: nothing } } })).toBe(
            "tiered_cache.cache_entry_action"
        );
    });
});

const zeros = () => Array(24).fill(0);

function figuresOf(changes = {}) {
    const starts = [...Array(24).keys()].map((hour) => NOON_S + (hour - 23) * HOUR_S);
    return {
        period: "day",
        now: NOON_S + 1800,
        starts,
        is_admin: false,
        is_empty: false,
        is_enabled: true,
        calls: 200,
        hits: 150,
        recent: { minutes: 5, calls: 10, hits: 9 },
        outcomes: { l1: zeros(), l2: zeros(), l3: zeros(), computed: zeros() },
        reasons: {},
        audited: 0,
        differences: 0,
        methods: [
            {
                model: "res.partner",
                model_id: 7,
                title: "Contact",
                method: "read",
                calls: 100,
                hits: 50,
                reasons: { stale: 40, cold: 10 },
                rule_id: false,
            },
        ],
        labels: { outcome: {}, reason: { stale: "Data changed", cold: "Cold" }, kind: {} },
        ...changes,
    };
}

describe("dashboard", () => {
    async function openDashboard(answer) {
        mockDate("2031-03-10 12:30:00", 0);
        onRpc("cache.dashboard", "get_figures", ({ args }) => {
            expect.step(args[0]);
            return answer(args[0]);
        });
        await makeMockServer();
        await mountWithCleanup(WebClient);
        await getService("action").doAction("tiered_cache.dashboard");
    }

    test("one call for each refresh, and the canvas stays", async () => {
        let hits = 150;
        await openDashboard(() => figuresOf({ hits }));
        expect.verifySteps(["day"]);
        expect(".o_tiered_cache_tile[name='hit_rate'] .o_tiered_cache_value").toHaveText("75.0 %");
        const canvas = getFixture().querySelector("canvas");
        hits = 200;
        await advanceTime(5100);
        await animationFrame();
        expect.verifySteps(["day"]);
        expect(".o_tiered_cache_tile[name='hit_rate'] .o_tiered_cache_value").toHaveText("100 %");
        expect(getFixture().querySelector("canvas")).toBe(canvas);
    });

    test("another period is asked for and kept", async () => {
        await openDashboard((period) => figuresOf({ period }));
        await contains(".o_tiered_cache_period").click();
        await contains("[data-period='week']").click();
        await animationFrame();
        expect.verifySteps(["day", "week"]);
        expect(".o_tiered_cache_period").toHaveText("Last 7 Days");
        expect(localStorage.getItem("tiered_cache.dashboard.period")).toBe("week");
    });

    test("a server that does not answer leaves the last figures", async () => {
        let isDown = false;
        await openDashboard(() => {
            if (isDown) {
                throw new Error("down");
            }
            return figuresOf();
        });
        isDown = true;
        await advanceTime(5100);
        await animationFrame();
        expect(".o_tiered_cache_updated").toHaveText(/No answer since/);
        expect(".o_tiered_cache_tile[name='hit_rate'] .o_tiered_cache_value").toHaveText("75.0 %");
        isDown = false;
        await advanceTime(10100);
        await animationFrame();
        expect(".o_tiered_cache_updated").not.toHaveText(/No answer since/);
        expect.verifySteps(["day", "day", "day"]);
    });

    test("an audit is green, grey without hits, red with a difference", async () => {
        let audit = { audited: 0, differences: 0 };
        await openDashboard(() => figuresOf(audit));
        const value = ".o_tiered_cache_tile[name='audit'] .o_tiered_cache_value";
        expect(value).toHaveClass("text-muted");
        audit = { audited: 9, differences: 0 };
        await advanceTime(5100);
        await animationFrame();
        expect(value).toHaveClass("text-success");
        audit = { audited: 9, differences: 1 };
        await advanceTime(5100);
        await animationFrame();
        expect(value).toHaveClass("text-danger");
        expect.verifySteps(["day", "day", "day"]);
    });

    test("a Cache User is told what is left out", async () => {
        await openDashboard(() => figuresOf());
        expect.verifySteps(["day"]);
        expect("canvas").toHaveCount(2);
        expect(".o_tiered_cache_dashboard").toHaveText(/shown to Cache Administrators/);
        expect(queryAllTexts("section h3")).not.toInclude("Processes");
    });

    test("nothing measured yet", async () => {
        await openDashboard(() => figuresOf({ is_empty: true }));
        expect.verifySteps(["day"]);
        expect(".o_view_nocontent_smiling_face").toHaveText("Nothing measured yet");
    });

    test("links lead to what belongs to the row in this period, and to nothing else", async () => {
        const call = [
            ["model", "=", "res.partner"],
            ["method", "=", "read"],
        ];
        await openDashboard(() => figuresOf());
        expect.verifySteps(["day"]);
        patchWithCleanup(getService("action"), {
            loadAction: (id) => ({ res_model: id }),
            doAction: ({ res_model, domain }) => expect.step([res_model, domain]),
        });
        await contains("button[name='entries']").click();
        await animationFrame();
        await contains("button[name='figures']").click();
        expect.verifySteps([
            ["tiered_cache.cache_entry_action", call],
            [
                "cache.metric",
                [...call, ["outcome", "=", "computed"], ["bucket", ">=", "2031-03-09 13:00:00"]],
            ],
        ]);
    });

    test("changes are shown one by one, or how many when the journal has been summed up", async () => {
        let known = 3;
        onRpc("cache.change", "search_count", () => known);
        const [row] = figuresOf().methods;
        const relations = [{ relation: "res_partner", calls: 40, per_hour: 2, writers: [] }];
        await openDashboard(() => figuresOf({ methods: [{ ...row, relations }] }));
        expect.verifySteps(["day"]);
        patchWithCleanup(getService("action"), {
            loadAction: (id) => ({ res_model: id }),
            doAction: ({ res_model, domain }) => expect.step([res_model, ...domain]),
        });
        await contains(".o_tiered_cache_toggle button").click();
        for (known of [3, 0]) {
            await contains(".o_tiered_cache_details button:contains(res_partner)").click();
            await animationFrame();
        }
        const relation = ["relation", "=", "res_partner"];
        expect.verifySteps([
            ["tiered_cache.cache_change_action", ["kind", "=", "table"], relation],
            [
                "cache.metric",
                ["outcome", "=", "change"],
                relation,
                ["bucket", ">=", "2031-03-09 13:00:00"],
            ],
        ]);
    });

    test("details are as wide as the table when the window becomes narrow", async () => {
        await openDashboard(() => figuresOf());
        expect.verifySteps(["day"]);
        await contains(".o_tiered_cache_toggle button").click();
        expect(".o_tiered_cache_details td:last").toHaveAttribute("colspan", "5");
        await resize({ width: 400 });
        await advanceTime(500);
        await animationFrame();
        expect(".o_tiered_cache_details td:last").toHaveAttribute("colspan", "3");
        expect.verifySteps([]);
    });

    test("details of a row", async () => {
        await openDashboard(() => figuresOf());
        expect.verifySteps(["day"]);
        await contains(".o_tiered_cache_toggle button").click();
        expect(".o_tiered_cache_details").toHaveText(/Data changed\s*40\s*80 %/);
    });
});
