import { describe as suite, expect, it } from 'vitest';

import { ApiClient } from '../src/api/client';
import { ApiProblem, NoAnswer } from '../src/api/problem';
import { fetchRecent } from '../src/api/recent';
import { fallbackConfig, loadConfig, readConfig } from '../src/config';
import { describe } from '../src/console/describe';
import { product, productEvent, stockEvent, wire } from './fakes';

type Sent = [url: string, init: RequestInit | undefined];

function answering(response: Response | Error): { fetch: typeof fetch; sent: Sent[] } {
  const sent: Sent[] = [];
  return {
    sent,
    fetch: (input, init) => {
      sent.push([input as string, init]);
      return response instanceof Error ? Promise.reject(response) : Promise.resolve(response);
    },
  };
}

const json = (body: unknown, init: ResponseInit = {}): Response =>
  new Response(JSON.stringify(body), init);

const PLACE = { protocol: 'http:', hostname: 'shop.test' };

suite('the configuration', () => {
  it('takes the usual ports on the host that served the page', () => {
    expect(fallbackConfig(PLACE)).toEqual({
      apiUrl: 'http://shop.test:3000',
      streamUrl: 'http://shop.test:3001',
      analyticsUrl: 'http://shop.test:8080',
    });
  });

  it('takes what /config.json says, address by address', () => {
    const fallback = fallbackConfig(PLACE);
    const given = { apiUrl: 'http://api.test:1/', streamUrl: 7, analyticsUrl: 'not an address' };
    expect(readConfig(given, fallback)).toEqual({ ...fallback, apiUrl: 'http://api.test:1' });
    expect(readConfig(null, fallback)).toEqual(fallback);
  });

  it.each([
    ['is missing', new Response('', { status: 404 })],
    ['is no JSON', new Response('<html>')],
    ['cannot be reached', new TypeError('cut')],
  ])('falls back when /config.json %s', async (_, response) => {
    expect(await loadConfig(PLACE, answering(response).fetch)).toEqual(fallbackConfig(PLACE));
  });
});

suite('the API client', () => {
  it('asks for the seller’s products and keeps the stream position', async () => {
    const http = answering(
      json(
        { data: [product()], hasMore: false, nextCursor: null },
        { headers: { 'X-Stream-Position': 'pos' } },
      ),
    );
    const page = await new ApiClient('http://api', 's 1', http.fetch).listProducts('c', 50);
    expect(page).toMatchObject({ position: 'pos', data: [{ id: 'p1' }] });
    expect(http.sent[0]?.[0]).toBe('http://api/products?limit=50&cursor=c&sellerId=s+1');
    expect(http.sent[0]?.[1]?.headers).not.toHaveProperty('X-Seller-Id');
  });

  it('sends the ETag it was given with a change', async () => {
    const http = answering(json(product({ version: 2 })));
    await new ApiClient('http://api', null, http.fetch).patchProduct('p/1', { name: 'B' }, '"v1.0"');
    const [url, init] = http.sent[0] ?? [];
    expect(url).toBe('http://api/products/p%2F1');
    expect(init).toMatchObject({ method: 'PATCH', body: '{"name":"B"}' });
    expect(init?.headers).toMatchObject({ 'If-Match': '"v1.0"' });
    expect(init?.headers).not.toHaveProperty('X-Seller-Id');
  });

  it('adjusts stock under an idempotency key', async () => {
    const http = answering(json({ productId: 'p1', stock: 8 }, { status: 201 }));
    const change = { delta: -2, reason: 'damaged' };
    await new ApiClient('http://api', 's1', http.fetch).adjustStock('p1', change, 'key-1');
    const [url, init] = http.sent[0] ?? [];
    expect(url).toBe('http://api/products/p1/stock-adjustments');
    expect(init?.headers).toMatchObject({ 'Idempotency-Key': 'key-1', 'X-Seller-Id': 's1' });
  });

  it('turns a refusal into a problem', async () => {
    const refusal = json({ code: 'not_found', detail: 'Gone.' }, { status: 404 });
    const api = new ApiClient('http://api', null, answering(refusal).fetch);
    const error: unknown = await api.getProduct('p1').catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ApiProblem);
    expect(error).toMatchObject({ message: 'Gone.', problem: { status: 404, code: 'not_found' } });
  });

  it('tells a missing answer from a refusal', async () => {
    const api = new ApiClient('http://api', null, answering(new TypeError('cut')).fetch);
    await expect(api.getProduct('p1')).rejects.toBeInstanceOf(NoAnswer);
  });
});

suite('stored events', () => {
  it('are read newest first, and what is none is left out', async () => {
    const event = productEvent(product());
    const items = [{ data: JSON.parse(wire(event)) as unknown }, { data: 'odd' }, null];
    const http = answering(json({ data: items }));
    expect(await fetchRecent('http://analytics', 's1', http.fetch)).toEqual([event]);
    expect(http.sent[0]?.[0]).toBe('http://analytics/events/recent?limit=50&sellerId=s1');
  });

  it.each([
    ['is away', new TypeError('cut')],
    ['is unwell', new Response('', { status: 503 })],
    ['answers oddly', new Response('[]')],
  ])('are none when analytics %s', async (_, response) => {
    expect(await fetchRecent('http://analytics', null, answering(response).fetch)).toEqual([]);
  });
});

suite('an event in words', () => {
  it('names what happened to a product', () => {
    expect(describe(productEvent(product(), 'product.price_changed'))).toContain('Lamp now costs');
    expect(describe(productEvent(product(), 'product.deleted', 2))).toBe('Lamp was deleted');
  });

  it('names what happened to stock', () => {
    expect(describe(stockEvent('p1', 9, 1))).toBe('Lamp: −1 (damaged), now 9');
    expect(describe(stockEvent('p1', 0, 2, 'product.out_of_stock'))).toBe('Lamp is out of stock');
  });
});
