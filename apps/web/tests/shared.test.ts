import { describe, expect, it } from 'vitest';

import { SILENCE_JITTER_MS, SILENCE_MS, UNANSWERED_MS } from '../src/stream/shared';
import { Browser } from './fakeTabs';
import { product, productEvent, settled, wire } from './fakes';

let versions = 0;

/** An event that was not there before. */
function fresh() {
  versions += 1;
  return productEvent(product({ version: versions }));
}

async function threeTabs() {
  const browser = new Browser();
  const first = await browser.tab('p1');
  await browser.environment.newest.open(true);
  const second = await browser.tab('p2');
  const third = await browser.tab('p3');
  return { browser, environment: browser.environment, first, second, third };
}

/** The first tab ends while the late one still waits for its snapshot; the third stands at id-1. */
async function leadsBeforeItsSnapshot() {
  const browser = new Browser();
  const { environment } = browser;
  const first = await browser.tab('p1');
  await environment.newest.open(true);
  const late = browser.page();
  await late.stream.listen();
  const third = await browser.tab('p2');
  const seen = fresh();
  await environment.newest.emit('message', wire(seen), 'id-1');
  first.stream.close();
  await settled();
  return { environment, first, late, third, seen };
}

describe('tabs that share a stream', () => {
  it('test_e20: have one connection, and each event reaches every tab once', async () => {
    const { environment, first, second, third } = await threeTabs();
    const event = fresh();
    await environment.newest.emit('message', wire(event), 'a');
    await environment.newest.emit('message', wire(event), 'a');
    expect(environment.connections.map(({ lastEventId }) => lastEventId)).toEqual(['p1']);
    for (const tab of [first, second, third]) {
      expect(tab.ids).toEqual([event.id]);
      expect(tab.phases).toEqual(['live']);
      expect(tab.opened).toBe(1);
      expect(tab.gaps).toEqual([]);
    }
  });

  it('hear of gaps, refusals and lost connections alike', async () => {
    const { environment, second } = await threeTabs();
    await environment.newest.emit('stream.gap', { reason: 'evicted', from: null, to: null });
    await environment.newest.emit('stream.refused', { reason: 'replays', retryMs: 10 });
    await environment.newest.cut();
    expect(second.gaps).toEqual(['evicted']);
    expect(second.refused).toEqual(['replays']);
    expect(second.phases).toEqual(['live', 'reconnecting']);
  });

  it('go on at the last id when the leader is closed: nothing lost, nothing twice', async () => {
    const { browser, environment, first, second, third } = await threeTabs();
    const [before, between, after] = [fresh(), fresh(), fresh()];
    await environment.newest.emit('message', wire(before), 'id-1');
    first.stream.close();
    await settled();
    expect(environment.newest.lastEventId).toBe('id-1');
    expect(browser.open).toBe(1);
    await environment.newest.open(true);
    await environment.newest.emit('message', wire(between), 'id-2');
    second.stream.close();
    await settled();
    expect(environment.newest.lastEventId).toBe('id-2');
    await environment.newest.open(true);
    await environment.newest.emit('message', wire(after), 'id-3');
    expect(third.ids).toEqual([before.id, between.id, after.id]);
    expect(third.gaps).toEqual([]);
    expect(third.phases).toEqual(['live', 'reconnecting', 'live', 'reconnecting', 'live']);
    expect(third.opened).toBe(1);
    expect(first.phases.at(-1)).toBe('closed');
  });

  it('go on at the id of a beat, where no event came', async () => {
    const { environment, first } = await threeTabs();
    await environment.newest.send('id: only\n\n');
    await environment.newest.emit('stream.heartbeat', { time: 'x' });
    first.stream.close();
    await settled();
    expect(environment.newest.lastEventId).toBe('only');
  });

  it('begin at their own snapshot when the leader closes before it has a place', async () => {
    const browser = new Browser();
    const first = await browser.tab(null);
    await browser.tab('p2');
    first.stream.close();
    await settled();
    expect(browser.environment.newest.lastEventId).toBe('p2');
  });

  it('steal from a leader that is frozen, which follows when it wakes up', async () => {
    const { browser, environment, first, second } = await threeTabs();
    first.freeze();
    await browser.pass(SILENCE_MS - 1_000);
    expect(environment.connections).toHaveLength(1);
    await browser.pass(SILENCE_JITTER_MS);
    expect(environment.connections).toHaveLength(2);
    await first.thaw();
    await browser.pass(UNANSWERED_MS + SILENCE_JITTER_MS);
    expect(environment.connections).toHaveLength(2);
    expect(browser.open).toBe(1);
    expect(environment.newest.closed).toBe(false);
    expect(environment.connections[0]?.closed).toBe(true);
    expect(first.gaps).toEqual(['not_resumed']);
    await environment.newest.open(true);
    const event = fresh();
    await environment.newest.emit('message', wire(event), 'b');
    for (const tab of [first, second]) expect(tab.ids).toEqual([event.id]);
    expect(second.gaps).toEqual([]);
    expect(browser.locks.waiting).toBe(2);
  });

  it('do not heed a leader of the past', async () => {
    const { browser, environment, first, third } = await threeTabs();
    first.stream.close();
    await settled();
    await environment.newest.open(true);
    const late = { kind: 'phase', phase: 'closed', id: 'x', from: 'tab 1, 1', count: 99 } as const;
    await browser.say(late);
    expect(third.gaps).toEqual([]);
    expect(third.phases.at(-1)).toBe('live');
  });

  it('stop together when the server wants no other connection', async () => {
    const { browser, environment, third } = await threeTabs();
    environment.answers.push(new Response(null, { status: 204 }));
    await environment.newest.end();
    await browser.pass(SILENCE_MS + 4 * SILENCE_JITTER_MS);
    expect(third.phases.at(-1)).toBe('closed');
    expect(environment.connections).toHaveLength(2);
  });

  it('leave a leader alone whose timers are slow, as long as the server beats', async () => {
    const { browser, environment, first } = await threeTabs();
    first.frozen = true;
    for (let beat = 0; beat < 6; beat += 1) {
      await environment.newest.emit('stream.heartbeat', { time: 'x' });
      await browser.pass(15_000);
    }
    expect(environment.connections).toHaveLength(1);
    expect(browser.posted.filter(({ kind }) => kind === 'lead')).toHaveLength(1);
  });

  it('leave a leader alone that waits as long as the server asked', async () => {
    const { browser, environment } = await threeTabs();
    await environment.newest.emit('stream.refused', { reason: 'address', retryMs: 110_000 });
    await environment.newest.end();
    await browser.pass(109_000);
    expect(environment.connections).toHaveLength(1);
  });

  it('leave a leader alone whose server is away', async () => {
    const { browser, environment, second } = await threeTabs();
    for (let failure = 0; failure < 12; failure += 1) {
      environment.answers.push(new TypeError('refused'));
    }
    await environment.newest.cut();
    await browser.pass(150_000);
    expect(second.phases).toEqual(['live', 'reconnecting']);
    expect(new Set(environment.connections.map(({ lastEventId }) => lastEventId))).toEqual(
      new Set(['p1']),
    );
    expect(browser.posted.filter(({ kind }) => kind === 'lead')).toHaveLength(1);
  });

  it('do not wait long for a leader that does not even say hello', async () => {
    const browser = new Browser();
    const first = await browser.tab('p1');
    first.freeze();
    await browser.tab('p2');
    expect(browser.environment.connections).toHaveLength(1);
    await browser.pass(UNANSWERED_MS + SILENCE_JITTER_MS);
    expect(browser.environment.newest.lastEventId).toBe('p2');
  });

  it('lead nobody when they are closed while they steal', async () => {
    const browser = new Browser();
    const first = await browser.tab('p1');
    first.freeze();
    const second = await browser.tab('p2');
    const stealing = browser.environment.pass(UNANSWERED_MS + SILENCE_JITTER_MS);
    second.stream.close();
    await stealing;
    expect(browser.environment.connections).toHaveLength(1);
  });

  it('notice a message that they missed, and only then', async () => {
    const { environment, second, third } = await threeTabs();
    second.deaf = true;
    await environment.newest.emit('message', wire(fresh()), 'a');
    second.deaf = false;
    await environment.newest.emit('message', wire(fresh()), 'b');
    expect(second.gaps).toEqual(['not_resumed']);
    expect(third.gaps).toEqual([]);
    await environment.newest.emit('message', wire(fresh()), 'c');
    expect(second.gaps).toEqual(['not_resumed']);
  });

  it('notice that the next leader had heard more of the last one', async () => {
    const { environment, first, second, third } = await threeTabs();
    third.deaf = true;
    await environment.newest.emit('message', wire(fresh()), 'a');
    third.deaf = false;
    first.stream.close();
    await settled();
    expect(second.gaps).toEqual([]);
    expect(third.gaps).toEqual(['not_resumed']);
  });

  it('hear again, once, what the next leader had not heard', async () => {
    const { environment, first, second, third } = await threeTabs();
    const event = fresh();
    second.deaf = true;
    await environment.newest.emit('message', wire(event), 'a');
    second.deaf = false;
    first.stream.close();
    await settled();
    await environment.newest.open(true);
    await environment.newest.emit('message', wire(event), 'a');
    expect(third.ids).toEqual([event.id]);
    expect(second.ids).toEqual([event.id]);
    expect(third.gaps).toEqual([]);
  });

  it('hear a leader from before their snapshot is read', async () => {
    const browser = new Browser();
    await browser.tab('p1');
    await browser.environment.newest.open(true);
    const late = browser.page();
    await late.stream.listen();
    const event = fresh();
    await browser.environment.newest.emit('message', wire(event), 'a');
    late.stream.open('p2');
    expect(late.ids).toEqual([event.id]);
    expect(late.opened).toBe(1);
  });

  it('go on at the last id when they lead before their snapshot is read: no one loses', async () => {
    const { environment, first, late, third, seen } = await leadsBeforeItsSnapshot();
    expect(environment.newest.lastEventId).toBe('id-1');
    await environment.newest.open(true);
    const [between, after] = [fresh(), fresh()];
    await environment.newest.emit('message', wire(between), 'id-2');
    late.stream.open('id-2');
    await settled();
    expect(environment.connections).toHaveLength(2);
    expect(late.opened).toBe(1);
    await environment.newest.emit('message', wire(after), 'id-3');
    expect(third.ids).toEqual([seen.id, between.id, after.id]);
    expect([first, late, third].map(({ gaps }) => gaps)).toEqual([[], [], []]);
  });

  it.each(['p2', null])('begin at their snapshot %s when they lead before it, no id known', async (startAt) => {
    const browser = new Browser();
    const late = browser.page();
    await late.stream.listen();
    expect(browser.open).toBe(0);
    late.stream.open(startAt);
    expect(browser.environment.newest.lastEventId).toBe(startAt);
    expect(browser.open).toBe(1);
  });

  it('are told of a gap when a thief that heard nobody begins at its own snapshot', async () => {
    const browser = new Browser();
    const { environment } = browser;
    const first = await browser.tab('p1');
    await environment.newest.open(true);
    const third = await browser.tab('p2');
    await environment.newest.emit('message', wire(fresh()), 'id-1');
    first.freeze();
    const thief = await browser.tab('id-2');
    await browser.pass(UNANSWERED_MS + SILENCE_JITTER_MS);
    expect(environment.newest.lastEventId).toBe('id-2');
    expect(third.gaps).toEqual(['not_resumed']);
    expect(thief.gaps).toEqual([]);
  });

  it('are told of a gap when nobody had an id and another’s snapshot is where it begins', async () => {
    const browser = new Browser();
    const first = await browser.tab(null);
    const second = await browser.tab('p2');
    const third = await browser.tab('p3');
    first.stream.close();
    await settled();
    expect(browser.environment.newest.lastEventId).toBe('p2');
    expect([second.gaps, third.gaps]).toEqual([[], ['not_resumed']]);
  });

  it('are told of a gap when they waited at a snapshot and another tab’s is taken', async () => {
    const browser = new Browser();
    const first = await browser.tab('p1');
    first.freeze();
    const second = await browser.tab('p2');
    const third = await browser.tab('p3');
    await browser.pass(UNANSWERED_MS + SILENCE_JITTER_MS);
    expect(browser.environment.newest.lastEventId).toBe('p2');
    expect([second.gaps, third.gaps]).toEqual([[], ['not_resumed']]);
  });

  it('share only with those who ask for the same, however it is written', async () => {
    const browser = new Browser();
    await browser.tab(null, { query: { types: 'order.*', 'data.stock': ['ge.1', 'le.5'] } });
    await browser.tab(null, { query: { 'data.stock': ['ge.1', 'le.5'], types: 'order.*' } });
    expect(browser.open).toBe(1);
    await browser.tab(null, { query: { types: 'product.*' } });
    await browser.tab(null);
    expect(browser.open).toBe(3);
  });

  it('do not share with those who want another seller, or are somebody else', async () => {
    const browser = new Browser();
    await browser.tab(null);
    await browser.tab(null, { sellerId: 's1' });
    await browser.tab(null, { token: 'a', principal: 'anna' });
    await browser.tab(null, { token: 'b', principal: 'berta' });
    await browser.tab(null, { token: 'c', principal: 'berta' });
    expect(browser.open).toBe(4);
  });

  it('have each a connection of its own where one cannot know whose a token is', async () => {
    const browser = new Browser();
    await browser.tab(null, { token: 'a' });
    await browser.tab(null, { token: 'a' });
    expect(browser.open).toBe(2);
    expect(browser.posted).toEqual([]);
  });

  it.each([{ locks: null }, { openChannel: null }])(
    'have each a connection of its own in a browser without: %j',
    async (missing) => {
      const browser = new Browser();
      const first = await browser.tab('p1', {}, missing);
      await browser.environment.newest.open(true);
      await browser.tab('p2', {}, missing);
      expect(browser.environment.connections.map(({ lastEventId }) => lastEventId)).toEqual([
        'p1',
        'p2',
      ]);
      expect(first.phases).toEqual(['live']);
      expect(first.opened).toBe(1);
    },
  );

  it('have each a connection of its own where the browser forbids locks', async () => {
    const browser = new Browser();
    browser.locks.forbidden = true;
    await browser.tab('p1');
    await browser.tab('p2');
    expect(browser.open).toBe(2);
  });

  it('leave neither timer nor connection behind, whenever they are closed', async () => {
    const { browser, environment, first, second, third } = await threeTabs();
    const early = browser.page();
    const listening = early.stream.listen();
    for (const tab of [early, third, second, first]) tab.stream.close();
    await listening;
    await settled();
    early.stream.open('p9');
    expect(environment.pendingTimers).toBe(0);
    expect(browser.open).toBe(0);
    expect(environment.connections).toHaveLength(1);
  });
});
