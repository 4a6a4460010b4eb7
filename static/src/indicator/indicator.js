import { Component, useState } from "@odoo/owl";
import { Dropdown } from "@web/core/dropdown/dropdown";
import { DropdownItem } from "@web/core/dropdown/dropdown_item";
import { _t } from "@web/core/l10n/translation";
import { useService } from "@web/core/utils/hooks";
import { formatAge, reasonLabel } from "./indicator_header";

/** Where the last view came from, and the last answers that the cache had a part in. */
export class CacheIndicator extends Component {
    static template = "tiered_cache.Indicator";
    static components = { Dropdown, DropdownItem };
    static props = {};

    setup() {
        this.state = useState(useService("tiered_cache_indicator"));
        this.action = useService("action");
    }

    get missLabel() {
        return _t("miss");
    }

    get label() {
        const last = this.state.last;
        if (!last) {
            return "–";
        }
        return last.tier || _t("computed");
    }

    get title() {
        const last = this.state.last;
        if (!last) {
            return _t("Tiered Cache: no view has been loaded yet");
        }
        return last.tier
            ? _t("Last view: from %(tier)s, %(age)s old, %(saved)s ms saved", {
                  tier: last.tier,
                  age: formatAge(last.age),
                  saved: last.saved,
              })
            : _t("Last view: computed, %s", reasonLabel(last.reason));
    }

    explain(answer) {
        return answer.tier
            ? _t("%(age)s old, saved %(saved)s ms", {
                  age: formatAge(answer.age),
                  saved: answer.saved,
              })
            : reasonLabel(answer.reason);
    }

    openFigures() {
        this.action.doAction("tiered_cache.cache_metric_action", { clearBreadcrumbs: true });
    }
}
