import { beforeEach, describe, expect, test } from "@odoo/hoot";
import { queryAllTexts } from "@odoo/hoot-dom";
import { animationFrame } from "@odoo/hoot-mock";
import {
    contains,
    makeMockEnv,
    mountWithCleanup,
    patchTranslations,
    patchWithCleanup,
    serverState,
} from "@web/../tests/web_test_helpers";
import { rpc, rpcBus } from "@web/core/network/rpc";
import { session } from "@web/session";
import { CacheIndicator } from "@tiered_cache/indicator/indicator";
import {
    formatAge,
    isOfView,
    parseHeader,
    reasonLabel,
} from "@tiered_cache/indicator/indicator_header";

/** An answer of the server, as `rpc` announces it. */
async function answer(header, params = {}, others = {}) {
    const xhr = {
        getResponseHeader: (name) => (name === "X-Odoo-Cache" ? header : null),
        responseURL: "http://localhost/web/action/load",
    };
    rpcBus.trigger("RPC:RESPONSE", { data: { params }, settings: { xhr }, result: {}, ...others });
    await animationFrame();
}

const LIST = { model: "res.partner", method: "web_search_read" };

describe("header", () => {
    test("a hit", () => {
        expect(parseHeader("L2; age=12; saved=48ms; reads=3; hits=1")).toEqual({
            tier: "L2",
            reason: "",
            age: 12,
            saved: 48,
            reads: 3,
            hits: 1,
        });
    });

    test("a miss", () => {
        const { tier, reason, hits } = parseHeader("miss; reason=stale");
        expect([tier, reason, hits]).toEqual(["", "stale", 0]);
    });

    test("a view is what shows records, not what describes them", () => {
        expect(isOfView("web_search_read")).toBe(true);
        expect(isOfView("get_views")).toBe(false);
    });

    test("words", () => {
        patchTranslations();
        expect(formatAge(45)).toBe("45 s");
        expect(formatAge(180)).toBe("3 min");
        expect(formatAge(7200)).toBe("2 h");
        expect(reasonLabel("stale")).toBe("data changed");
        expect(reasonLabel("something new")).toBe("something new");
    });
});

describe("indicator", () => {
    beforeEach(async () => {
        patchTranslations();
        serverState.debug = "1";
        patchWithCleanup(session, { tiered_cache: { indicator: true } });
        patchWithCleanup(rpc, { _rpc: rpc._rpc });
        await makeMockEnv();
        await mountWithCleanup(CacheIndicator);
    });

    test("nothing yet", async () => {
        expect(".o_tiered_cache_indicator button").toHaveText("–");
        await contains(".o_tiered_cache_indicator button").click();
        expect(".o_tiered_cache_answers").toHaveText(/Open a list or a form/);
    });

    test("the last view, from a tier and then computed", async () => {
        await answer("L1; age=12; saved=48ms", LIST);
        expect(".o_tiered_cache_indicator button").toHaveText("L1");
        expect(".o_tiered_cache_indicator .fa-bolt").toHaveClass("o_tiered_cache_hit");
        await answer("miss; reason=stale", LIST);
        expect(".o_tiered_cache_indicator button").toHaveText("computed");
        expect(".o_tiered_cache_indicator .fa-bolt").not.toHaveClass("o_tiered_cache_hit");
    });

    test("what is no view is listed, but is not the last view", async () => {
        await answer("L1; age=1; saved=2ms", LIST);
        await answer("miss; reason=cold", { model: "res.partner", method: "get_views" });
        await answer("miss; reason=uncacheable");
        expect(".o_tiered_cache_indicator button").toHaveText("L1");
        await contains(".o_tiered_cache_indicator button").click();
        expect(queryAllTexts(".o_tiered_cache_answers tr")).toEqual([
            "miss /web/action/load cannot be cached",
            "miss res.partner.get_views never asked before",
            "L1 res.partner.web_search_read 1 s old, saved 2 ms",
        ]);
    });

    test("answers without the header and errors leave it alone", async () => {
        await answer("L2; age=1; saved=2ms", LIST);
        await answer(null, LIST);
        await answer("miss; reason=stale", LIST, { error: new Error("refused") });
        expect(".o_tiered_cache_indicator button").toHaveText("L2");
    });

    test("no more than twelve are remembered", async () => {
        for (let age = 0; age < 20; age++) {
            await answer(`L1; age=${age}; saved=2ms`, LIST);
        }
        await contains(".o_tiered_cache_indicator button").click();
        expect(".o_tiered_cache_answers tr").toHaveCount(12);
        expect(".o_tiered_cache_answers tr:first").toHaveText(/19 s old/);
    });
});
