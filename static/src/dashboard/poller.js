import { browser } from "@web/core/browser/browser";
import { onMounted, onWillUnmount } from "@odoo/owl";

const LONGEST_MS = 60000;

/**
 * Does something again and again while the page is visible, and nothing while it is not.
 *
 * The next time is counted from the end of the last one, so a slow server is never asked twice at
 * once. After a failure it waits longer each time.
 */
export class Poller {
    /**
     * @param {() => Promise<any>} work
     * @param {() => number} pause milliseconds between two times
     * @param {Document} [page]
     */
    constructor(work, pause, page = document) {
        this.work = work;
        this.pause = pause;
        this.page = page;
        this.failures = 0;
        this.isRunning = false;
        this.working = 0;
        this.doneAt = 0;
        this.onVisibilityChange = () => this.plan();
    }

    start() {
        this.isRunning = true;
        this.doneAt = Date.now();
        this.page.addEventListener("visibilitychange", this.onVisibilityChange);
        this.plan();
    }

    stop() {
        this.isRunning = false;
        this.page.removeEventListener("visibilitychange", this.onVisibilityChange);
        browser.clearTimeout(this.timeout);
    }

    /** Milliseconds until the next time; longer after failures. */
    get waitMs() {
        const pauseMs = Math.min(this.pause() * 2 ** this.failures, LONGEST_MS);
        return Math.max(0, this.doneAt + pauseMs - Date.now());
    }

    plan() {
        browser.clearTimeout(this.timeout);
        if (this.isRunning && !this.working && this.page.visibilityState !== "hidden") {
            this.timeout = browser.setTimeout(() => this.run(), this.waitMs);
        }
    }

    /** Does it now. */
    async run() {
        browser.clearTimeout(this.timeout);
        this.working++;
        try {
            await this.work();
            this.failures = 0;
        } catch {
            this.failures++;
        } finally {
            this.working--;
            this.doneAt = Date.now();
            this.plan();
        }
    }
}

/** A {@link Poller} that lives as long as the component. */
export function usePoller(work, pause) {
    const poller = new Poller(work, pause);
    onMounted(() => poller.start());
    onWillUnmount(() => poller.stop());
    return poller;
}
