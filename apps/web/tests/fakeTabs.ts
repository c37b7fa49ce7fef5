/** A browser with several tabs: their locks, their channels, one clock, one server. */

import type { GapReason, StreamOptions, StreamPhase } from '../src/stream/port';
import type { DomainEvent } from '../src/stream/events';
import { SharedStream } from '../src/stream/shared';
import type { Channel, Locks, Message, SharedEnvironment } from '../src/stream/tabs';
import { FakeEnvironment, settled } from './fakes';

const STEP_MS = 250;

interface Held {
  readonly rob: (reason: DOMException) => void;
}

/** Web Locks, as far as they are used: one queue a name, theft included. */
export class FakeLocks implements Locks {
  /** Set to refuse every request, as a browser does on a page of no origin. */
  forbidden = false;
  readonly #held = new Map<string, Held>();
  readonly #waiting = new Map<string, (() => void)[]>();

  /** Requests in all queues. */
  get waiting(): number {
    return [...this.#waiting.values()].flat().length;
  }

  request(
    name: string,
    options: { readonly steal?: boolean; readonly signal?: AbortSignal },
    hold: () => Promise<void>,
  ): Promise<void> {
    if (this.forbidden) return Promise.reject(new DOMException('no', 'SecurityError'));
    return new Promise((resolve, reject) => {
      const grant = (): void => {
        const held = { rob: reject };
        this.#held.set(name, held);
        void Promise.resolve()
          .then(hold)
          .then(() => {
            resolve();
            if (this.#held.get(name) !== held) return;
            this.#held.delete(name);
            this.#waiting.get(name)?.shift()?.();
          });
      };
      if (options.steal === true) {
        this.#held.get(name)?.rob(new DOMException('stolen', 'AbortError'));
        grant();
      } else if (this.#held.has(name)) {
        const queue = this.#waiting.get(name) ?? [];
        this.#waiting.set(name, queue);
        queue.push(grant);
        options.signal?.addEventListener('abort', () => {
          if (!queue.includes(grant)) return;
          queue.splice(queue.indexOf(grant), 1);
          reject(new DOMException('given up', 'AbortError'));
        });
      } else {
        grant();
      }
    });
  }
}

/** Delivers to every other channel of the name, a turn later. */
class FakeChannel implements Channel {
  onmessage: ((event: MessageEvent<Message>) => void) | null = null;
  readonly #tab: Tab;
  readonly #all: Set<FakeChannel>;

  constructor(tab: Tab, all: Set<FakeChannel>) {
    this.#tab = tab;
    this.#all = all;
    all.add(this);
  }

  postMessage(message: Message): void {
    if (!this.#all.has(this)) throw new DOMException('closed', 'InvalidStateError');
    this.#tab.browser.posted.push(message);
    const data = structuredClone(message);
    for (const other of this.#all) {
      if (other === this) continue;
      queueMicrotask(() => {
        if (!this.#all.has(other) || other.#tab.deaf) return;
        other.onmessage?.(new MessageEvent('message', { data }));
      });
    }
  }

  close(): void {
    this.#all.delete(this);
  }
}

export class Browser {
  readonly environment = new FakeEnvironment();
  readonly locks = new FakeLocks();
  readonly posted: Message[] = [];
  readonly channels = new Map<string, Set<FakeChannel>>();
  #tabs = 0;

  /** A page that has listened, read its snapshot and begun; its owner's view. */
  async tab(
    startAt: string | null,
    options: Partial<StreamOptions> = {},
    missing: Partial<Pick<SharedEnvironment, 'locks' | 'openChannel'>> = {},
  ): Promise<Tab> {
    const tab = this.page(options, missing);
    const listening = tab.stream.listen();
    await settled();
    await this.environment.pass(500);
    await listening;
    tab.stream.open(startAt);
    await settled();
    return tab;
  }

  page(
    options: Partial<StreamOptions> = {},
    missing: Partial<Pick<SharedEnvironment, 'locks' | 'openChannel'>> = {},
  ): Tab {
    this.#tabs += 1;
    return new Tab(this, this.#tabs, options, missing);
  }

  /** Time as it passes: no two timers of different moments in one step. */
  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += STEP_MS) await this.environment.pass(STEP_MS);
  }

  /** What a tab that has gone had still said. */
  say(message: Message): Promise<void> {
    for (const channel of [...this.channels.values()].flatMap((all) => [...all])) {
      channel.onmessage?.(new MessageEvent('message', { data: message }));
    }
    return settled();
  }

  /** Connections that nobody gave up. */
  get open(): number {
    return this.environment.connections.filter(({ closed }) => !closed).length;
  }
}

export class Tab {
  readonly browser: Browser;
  readonly stream: SharedStream;
  readonly events: DomainEvent[] = [];
  readonly phases: StreamPhase[] = [];
  readonly gaps: GapReason[] = [];
  readonly refused: (string | null)[] = [];
  opened = 0;
  /** What is said on the channel does not reach it. */
  deaf = false;
  /** Its timers wait until it is thawed. */
  frozen = false;
  readonly #due: (() => void)[] = [];
  #thawed: Promise<void> = Promise.resolve();
  #wake = (): void => undefined;

  constructor(
    browser: Browser,
    number: number,
    options: Partial<StreamOptions>,
    missing: Partial<Pick<SharedEnvironment, 'locks' | 'openChannel'>>,
  ) {
    this.browser = browser;
    let leads = 0;
    this.stream = new SharedStream(
      { url: 'http://stream', sellerId: null, ...options },
      {
        onEvent: (event) => this.events.push(event),
        onPhase: (phase) => this.phases.push(phase),
        onOpen: () => {
          this.opened += 1;
        },
        onGap: (gap) => this.gaps.push(gap),
        onRefused: (reason) => this.refused.push(reason),
      },
      {
        fetch: browser.environment.fetch,
        setTimer: (run, ms) =>
          browser.environment.setTimer(() => {
            if (this.frozen) this.#due.push(run);
            else run();
          }, ms),
        clearTimer: browser.environment.clearTimer,
        random: () => Math.min(number / 10, 0.9),
        locks: {
          request: (lock, wish, hold) =>
            browser.locks.request(lock, wish, hold).catch(async (error: unknown) => {
              await this.#thawed;
              throw error;
            }),
        },
        openChannel: (channel) => {
          const all = browser.channels.get(channel) ?? new Set();
          browser.channels.set(channel, all);
          return new FakeChannel(this, all);
        },
        newName: () => {
          leads += 1;
          return `tab ${number}, ${leads}`;
        },
        ...missing,
      },
    );
  }

  freeze(): void {
    this.deaf = this.frozen = true;
    this.#thawed = new Promise((wake) => {
      this.#wake = wake;
    });
  }

  async thaw(): Promise<void> {
    this.deaf = this.frozen = false;
    this.#wake();
    for (const run of this.#due.splice(0)) run();
    await settled();
  }

  get ids(): string[] {
    return this.events.map(({ id }) => id);
  }
}
