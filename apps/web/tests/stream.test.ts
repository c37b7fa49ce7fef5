import { describe, expect, it } from 'vitest';

import { StreamClient, WATCHDOG_MS, backoffMs, type GapReason, type StreamPhase } from '../src/stream/client';
import { parseEvent, type DomainEvent } from '../src/stream/events';
import { RecentIds } from '../src/stream/recentIds';
import { FakeEnvironment, product, productEvent, wire } from './fakes';

function connected(startAt: string | null = null, sellerId: string | null = null) {
  const environment = new FakeEnvironment();
  const events: DomainEvent[] = [];
  const phases: StreamPhase[] = [];
  const gaps: GapReason[] = [];
  let opened = 0;
  const client = new StreamClient(
    { url: 'http://stream', sellerId, startAt },
    {
      onEvent: (event) => events.push(event),
      onPhase: (phase) => phases.push(phase),
      onOpen: () => {
        opened += 1;
      },
      onGap: (gap) => gaps.push(gap),
    },
    environment,
  );
  client.open();
  return { client, environment, events, phases, gaps, opened: () => opened };
}

describe('the stream client', () => {
  it('asks for the seller and for the position it was given', () => {
    const { environment } = connected('pos-1', 'seller 1');
    expect(environment.newest.url).toBe(
      'http://stream/events/stream?sellerId=seller+1&lastEventId=pos-1',
    );
  });

  it('is live once stream.open has come, not before', () => {
    const { environment, phases, opened } = connected();
    environment.newest.emit('open');
    expect(phases).toEqual([]);
    environment.newest.emit('stream.open', { resumed: false, replayFrom: null });
    expect(phases).toEqual(['live']);
    expect(opened()).toBe(1);
  });

  it('hands on each event once, however often it comes', () => {
    const { environment, events } = connected();
    const event = productEvent(product());
    environment.newest.emit('message', wire(event), 'a');
    environment.newest.emit('message', wire(event), 'a');
    expect(events.map(({ id }) => id)).toEqual([event.id]);
  });

  it('skips what is not an event and goes on', () => {
    const { environment, events } = connected();
    environment.newest.emit('message', '{"half":');
    environment.newest.emit('message', wire(productEvent(product())));
    expect(events).toHaveLength(1);
  });

  it('leaves a short cut to the browser, and says that it reconnects', () => {
    const { environment, phases } = connected();
    environment.newest.emit('stream.open', { resumed: false });
    environment.newest.fail(0);
    expect(phases).toEqual(['live', 'reconnecting']);
    expect(environment.sources).toHaveLength(1);
  });

  it('comes back from the last id when the browser has given up', () => {
    const { environment } = connected('start');
    environment.newest.emit('stream.open', { resumed: true });
    environment.newest.emit('message', wire(productEvent(product())), 'id-7');
    environment.newest.fail(2);
    environment.pass(backoffMs(0, 0.5));
    expect(environment.sources).toHaveLength(2);
    expect(environment.newest.url).toContain('lastEventId=id-7');
  });

  it('takes an id that came without an event from the next heartbeat', () => {
    const { client, environment } = connected();
    environment.newest.emit('stream.heartbeat', { time: 'x' }, 'id-only');
    expect(client.lastEventId).toBe('id-only');
  });

  it('opens anew when no heartbeat comes, and only then', () => {
    const { environment } = connected();
    environment.newest.emit('stream.open', { resumed: false });
    environment.pass(WATCHDOG_MS - 1);
    environment.newest.emit('stream.heartbeat', { time: 'x' }, 'id-1');
    environment.pass(WATCHDOG_MS - 1);
    expect(environment.sources).toHaveLength(1);
    environment.pass(1);
    environment.pass(0);
    expect(environment.sources).toHaveLength(2);
    expect(environment.sources[0]?.closed).toBe(true);
    expect(environment.newest.url).toContain('lastEventId=id-1');
  });

  it('watches a connection that never says anything', () => {
    const { environment } = connected();
    environment.pass(WATCHDOG_MS);
    environment.pass(0);
    expect(environment.sources).toHaveLength(2);
  });

  it('waits as long as a goodbye asks, within its own bound', () => {
    const { environment, phases } = connected();
    environment.newest.emit('stream.open', { resumed: false });
    environment.newest.emit('stream.goodbye', { retryMs: 1_234 }, 'bye');
    expect(environment.newest.closed).toBe(true);
    expect(phases.at(-1)).toBe('reconnecting');
    environment.pass(1_233);
    expect(environment.sources).toHaveLength(1);
    environment.pass(1);
    expect(environment.newest.url).toContain('lastEventId=bye');
    environment.newest.emit('stream.goodbye', { retryMs: 86_400_000 });
    environment.pass(30_000);
    expect(environment.sources).toHaveLength(3);
  });

  it('ignores what a replaced connection still delivers', () => {
    const { environment, events } = connected();
    const old = environment.newest;
    old.emit('stream.goodbye', { retryMs: 0 });
    old.emit('message', wire(productEvent(product())), 'late');
    expect(events).toEqual([]);
  });

  it.each(['malformed_id', 'unknown_epoch', 'evicted', 'future'])('reports a gap: %s', (reason) => {
    const { environment, gaps } = connected();
    environment.newest.emit('stream.gap', { reason, from: null, to: null });
    expect(gaps).toEqual([reason]);
  });

  it('treats dropped events and a lost place as gaps', () => {
    const { environment, gaps } = connected();
    environment.newest.emit('stream.open', { resumed: false });
    expect(gaps).toEqual([]);
    environment.newest.emit('stream.lagged', { dropped: 3 });
    environment.newest.fail(0);
    environment.newest.emit('stream.open', { resumed: false });
    expect(gaps).toEqual(['lagged', 'not_resumed']);
  });

  it('treats a position that was not honoured as a gap', () => {
    const { environment, gaps } = connected('pos');
    environment.newest.emit('stream.open', { resumed: false });
    expect(gaps).toEqual(['not_resumed']);
  });

  it('leaves nothing behind when it is closed', () => {
    const { client, environment, phases } = connected();
    environment.newest.emit('stream.goodbye', { retryMs: 5 });
    client.close();
    expect(environment.pendingTimers).toBe(0);
    client.open();
    environment.pass(60_000);
    expect(environment.sources).toHaveLength(1);
    expect(phases.at(-1)).toBe('closed');
  });
});

describe('backoff', () => {
  it('grows to a bound and is never nothing', () => {
    expect(backoffMs(0, 0)).toBe(250);
    expect(backoffMs(3, 1)).toBe(8_000);
    expect(backoffMs(50, 1)).toBe(30_000);
  });
});

describe('reading an event', () => {
  it('takes the attributes as CloudEvents names them', () => {
    const event = productEvent(product({ version: 3 }));
    expect(parseEvent(wire(event))).toEqual(event);
  });

  it('keeps a type it does not know, for the list', () => {
    const raw = wire(productEvent(product())).replace('product.updated', 'user.registered');
    expect(parseEvent(raw)).toMatchObject({ family: 'other', type: 'user.registered' });
  });

  it.each(['', 'null', '[]', '{}', '{"id":"1","type":"x","subject":"s","time":"t","data":{}}'])(
    'refuses %j',
    (text) => {
      expect(parseEvent(text)).toBeNull();
    },
  );
});

describe('recent ids', () => {
  it('forget the oldest beyond their bound', () => {
    const ids = new RecentIds(2);
    expect([ids.add('a'), ids.add('b'), ids.add('a'), ids.add('c'), ids.add('a')]).toEqual([
      true,
      true,
      false,
      true,
      true,
    ]);
  });
});
