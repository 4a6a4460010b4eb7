import { Component, markRaw, onWillStart, useState } from "@odoo/owl";
import { browser } from "@web/core/browser/browser";
import { ConfirmationDialog } from "@web/core/confirmation_dialog/confirmation_dialog";
import { CheckboxItem } from "@web/core/dropdown/checkbox_item";
import { Dropdown } from "@web/core/dropdown/dropdown";
import { serializeDateTime } from "@web/core/l10n/dates";
import { _t } from "@web/core/l10n/translation";
import { registry } from "@web/core/registry";
import { useService } from "@web/core/utils/hooks";
import { useSetupAction } from "@web/search/action_hook";
import { Layout } from "@web/search/layout";
import { standardActionServiceProps } from "@web/webclient/actions/action_service";
import { CacheChart } from "./cache_chart";
import { latencyChart, missChart, outcomeColor, reasonColor, savingChart, tierChart } from "./charts";
import {
    formatAgo,
    formatBytes,
    formatCount,
    formatMs,
    formatPerHour,
    formatShare,
    formatSpan,
    sharesOf,
} from "./format";
import { DEFAULT_PERIOD, PERIODS, periodOf, toLocal } from "./periods";
import { usePoller } from "./poller";

const STORED_AS = "tiered_cache.dashboard.period";
const MANY = 10;

export class CacheDashboard extends Component {
    static template = "tiered_cache.Dashboard";
    static components = { CacheChart, CheckboxItem, Dropdown, Layout };
    static props = { ...standardActionServiceProps };
    static displayName = _t("Dashboard");

    setup() {
        this.orm = useService("orm");
        this.action = useService("action");
        this.dialog = useService("dialog");
        this.notification = useService("notification");
        this.ui = useState(useService("ui"));
        this.display = { controlPanel: {} };
        this.periods = PERIODS;
        this.charts = { tierChart, missChart, latencyChart, savingChart };
        this.format = {
            ago: formatAgo,
            bytes: formatBytes,
            count: formatCount,
            ms: formatMs,
            perHour: formatPerHour,
            share: formatShare,
            span: formatSpan,
        };
        this.state = useState({
            period: periodOf(
                this.props.state?.period || browser.localStorage.getItem(STORED_AS) || DEFAULT_PERIOD
            ).id,
            figures: null,
            isStale: false,
            opened: {},
            showsAll: Boolean(this.props.state?.showsAll),
        });
        useSetupAction({
            getLocalState: () => ({ period: this.state.period, showsAll: this.state.showsAll }),
        });
        this.poller = usePoller(
            () => this.load(),
            () => periodOf(this.state.period).refreshMs
        );
        // an error of the first time is shown as any other; later ones leave the last figures
        onWillStart(() => this.load());
    }

    /** Asks for the figures of the chosen period; the only call that is made again and again. */
    async load() {
        const period = this.state.period;
        try {
            const figures = await this.orm.silent.call("cache.dashboard", "get_figures", [period]);
            if (period === this.state.period) {
                // plain, not reactive: it is replaced as a whole
                this.state.figures = markRaw(figures);
                this.state.isStale = false;
            }
        } catch (error) {
            if (!this.state.figures) {
                throw error;
            }
            this.state.isStale = true;
            throw error;
        }
    }

    get figures() {
        return this.state.figures;
    }

    get period() {
        return periodOf(this.state.period);
    }

    async choose(period) {
        this.state.period = period;
        browser.localStorage.setItem(STORED_AS, period);
        await this.poller.run();
    }

    get updatedAt() {
        return toLocal(this.figures.now).toLocaleString(luxon.DateTime.TIME_WITH_SECONDS);
    }

    // -- tiles -------------------------------------------------------------------------

    get auditClass() {
        const { audited, differences } = this.figures;
        return differences ? "text-danger" : audited ? "text-success" : "text-muted";
    }

    get tiers() {
        const { tiers, labels } = this.figures;
        return ["l1", "l2", "l3"].map((id) => {
            const tier = tiers[id];
            const shares = [
                [tier.entries, tier.max_entries],
                [tier.bytes, tier.max_bytes],
            ].map(([used, max]) => (used && max ? Math.min(100, (100 * used) / max) : 0));
            return { id, label: labels.outcome[id], ...tier, percent: Math.max(...shares) };
        });
    }

    tierColor(id) {
        return outcomeColor(id);
    }

    /** What Redis does, as an icon, a colour and words. */
    get redis() {
        const { redis } = this.figures;
        const of =
            redis.processes > 1
                ? _t("%(down)s of %(all)s processes", { down: redis.down, all: redis.processes })
                : "";
        const join = (...parts) => parts.filter(Boolean).join(" · ");
        switch (redis.state) {
            case "off":
                return {
                    color: "text-muted",
                    icon: "fa-minus-circle",
                    text: _t("Not configured"),
                    detail: _t("Workers do not share what they keep in memory."),
                };
            case "unknown":
                return {
                    color: "text-muted",
                    icon: "fa-question-circle",
                    text: _t("Unknown"),
                    detail: _t("No process has reported yet."),
                };
            case "up":
                return {
                    color: "text-success",
                    icon: "fa-check-circle",
                    text: _t("Up"),
                    detail: join(redis.address, redis.version),
                };
            case "down":
            case "partly down":
                return {
                    color: "text-danger",
                    icon: "fa-times-circle",
                    text: _t("Down"),
                    detail: join(this.redisSince, redis.fault, of),
                };
            default:
                return {
                    color: "text-warning",
                    icon: "fa-exclamation-circle",
                    text: _t("Not usable"),
                    detail: join(
                        {
                            "not installed": _t("The Python package redis is missing."),
                            "bad address": _t("The URL in Settings cannot be used."),
                        }[redis.state] || redis.state,
                        of
                    ),
                };
        }
    }

    get redisSince() {
        const { redis, now } = this.figures;
        if (!redis.since) {
            return "";
        }
        const { TIME_WITH_SECONDS, DATETIME_SHORT } = luxon.DateTime;
        const format = now - redis.since < 86400 ? TIME_WITH_SECONDS : DATETIME_SHORT;
        return _t("Not asked since %s", toLocal(redis.since).toLocaleString(format));
    }

    get guards() {
        const { guards } = this.figures;
        return {
            color: guards.failed.length ? "text-danger" : "text-success",
            failed: guards.failed.map(({ relation, error }) => `${relation}: ${error}`).join("\n"),
            waiting: guards.waiting.join("\n"),
        };
    }

    // -- why it misses -----------------------------------------------------------------

    get methods() {
        const { methods } = this.figures;
        return this.state.showsAll ? methods : methods.slice(0, MANY);
    }

    get hidden() {
        return this.state.showsAll ? 0 : Math.max(0, this.figures.methods.length - MANY);
    }

    keyOf(method) {
        return `${method.model}.${method.method}`;
    }

    detailsOf(method) {
        return _t("Details of %s", this.keyOf(method));
    }

    toggle(method) {
        const key = this.keyOf(method);
        this.state.opened[key] = !this.state.opened[key];
    }

    reasonsOf(method) {
        const { labels } = this.figures;
        return sharesOf(method.reasons).map((share) => ({
            ...share,
            label: labels.reason[share.name] || share.name,
            color: reasonColor(share.name),
        }));
    }

    reasonTitle(method) {
        return this.reasonsOf(method)
            .map(({ label, count }) => `${label}: ${formatCount(count)}`)
            .join("\n");
    }

    openRule(method) {
        if (method.rule_id) {
            return this.action.doAction({
                type: "ir.actions.act_window",
                res_model: "cache.rule",
                res_id: method.rule_id,
                views: [[false, "form"]],
            });
        }
        return this.newRule(method);
    }

    newRule({ model_id, method }, values = {}) {
        const context = { default_model_id: model_id, default_methods: method, ...values };
        return this.action.doAction({
            type: "ir.actions.act_window",
            name: _t("New Rule"),
            res_model: "cache.rule",
            views: [[false, "form"]],
            context,
        });
    }

    openEntries(method) {
        return this.openOf("tiered_cache.cache_entry_action", _t("Entries of %s", this.keyOf(method)), [
            ["model", "=", method.model],
            ["method", "=", method.method],
        ]);
    }

    /** An action of its menu, of these records only: what is typed into a search finds parts of words. */
    async openOf(xmlId, name, domain) {
        const action = await this.action.loadAction(xmlId);
        return this.action.doAction({ ...action, name, display_name: name, domain });
    }

    openFigures({ model, method }) {
        return this.openMetrics(`${model}.${method}`, [
            ["model", "=", model],
            ["method", "=", method],
            ["outcome", "=", "computed"],
        ]);
    }

    /** Figures of the period that is shown, so that they add up to what was clicked. */
    openMetrics(name, domain) {
        const since = serializeDateTime(toLocal(this.figures.starts[0]));
        return this.action.doAction({
            type: "ir.actions.act_window",
            name,
            res_model: "cache.metric",
            views: [
                [false, "list"],
                [false, "graph"],
                [false, "pivot"],
            ],
            domain: [...domain, ["bucket", ">=", since]],
        });
    }

    /** One by one as long as the journal has them, then how many there were in each minute. */
    async openChanges(relation) {
        const name = _t("Changes of %s", relation);
        const domain = [
            ["kind", "=", "table"],
            ["relation", "=", relation],
        ];
        if (await this.orm.searchCount("cache.change", domain)) {
            return this.openOf("tiered_cache.cache_change_action", name, domain);
        }
        return this.openMetrics(name, [
            ["outcome", "=", "change"],
            ["relation", "=", relation],
        ]);
    }

    openDifferences() {
        return this.openMetrics(_t("Audited hits"), [["audited", ">", 0]]);
    }

    // -- advice ------------------------------------------------------------------------

    apply(advice) {
        if (advice.action.do === "rule_form") {
            return this.newRule(advice, {
                default_consistency: "eventual",
                default_note: advice.title,
            });
        }
        this.dialog.add(ConfirmationDialog, {
            title: advice.title,
            body: advice.confirm,
            confirmLabel: advice.button,
            confirm: async () => {
                const done = await this.orm.call("cache.dashboard", "apply_advice", [
                    advice.action,
                ]);
                this.notification.add(done, { type: "success" });
                await this.poller.run();
            },
            cancel: () => {},
        });
    }
}

registry.category("actions").add("tiered_cache.dashboard", CacheDashboard);
