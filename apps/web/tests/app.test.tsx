import { fireEvent, render, screen } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import { App } from '../src/App';
import { FakeConnection, product } from './fakes';

const CONFIG = { apiUrl: 'http://api', streamUrl: 'http://stream', analyticsUrl: 'http://analytics' };

function answer(url: string): unknown {
  if (url.startsWith('http://api/products?')) {
    const sellerId = new URL(url).searchParams.get('sellerId') ?? 'seller1';
    return { data: [product({ sellerId })], hasMore: false, nextCursor: null };
  }
  return { data: [] };
}

let connections: FakeConnection[] = [];

beforeEach(() => {
  connections = [];
  window.history.replaceState(null, '', '/');
  vi.stubGlobal('fetch', (url: string, init: RequestInit) => {
    if (url.startsWith('http://stream/')) {
      const connection = new FakeConnection(url, init);
      connections.push(connection);
      return Promise.resolve(connection.response());
    }
    const headers = { 'X-Stream-Position': 'pos' };
    return Promise.resolve(new Response(JSON.stringify(answer(url)), { headers }));
  });
});

describe('the page', () => {
  it('reads the products and follows the stream from their position', async () => {
    render(<App config={CONFIG} />);
    expect(await screen.findByRole('rowheader', { name: /Lamp/ })).toBeTruthy();
    await vi.waitFor(() => {
      expect(connections.map(({ url, lastEventId }) => [url, lastEventId])).toEqual([
        ['http://stream/events/stream', 'pos'],
      ]);
    });
  });

  it('starts over for another seller and remembers it in the address', async () => {
    render(<App config={CONFIG} />);
    await screen.findByRole('rowheader', { name: /Lamp/ });
    await userEvent.type(screen.getByLabelText('Seller'), 'seller2{Enter}');
    await vi.waitFor(() => {
      expect(connections).toHaveLength(2);
    });
    expect(connections[0]?.closed).toBe(true);
    expect(connections[1]?.url).toContain('sellerId=seller2');
    expect(window.location.search).toBe('?seller=seller2');
  });

  it('opens a dialog again although the browser reports its closing late', async () => {
    render(<App config={CONFIG} />);
    const opener = screen.getByRole('button', { name: 'New product' });
    await userEvent.click(opener);
    const first = screen.getByRole<HTMLDialogElement>('dialog');
    first.close();
    await userEvent.click(opener);
    fireEvent(first, new Event('close'));
    const second = screen.getByRole<HTMLDialogElement>('dialog');
    expect(second).not.toBe(first);
    expect(second.open).toBe(true);
  });
});
