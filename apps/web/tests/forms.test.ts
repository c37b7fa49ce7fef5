import { describe, expect, it } from 'vitest';

import { ApiProblem, NoAnswer, readProblem } from '../src/api/problem';
import { toChange } from '../src/components/AdjustStock';
import { Intent } from '../src/console/idempotency';
import {
  emptyValues,
  patchBetween,
  placeErrors,
  PRODUCT_FIELDS,
  toDraft,
  valuesOf,
  type ProductValues,
} from '../src/console/productForm';
import { product } from './fakes';

function draftOf(values: ProductValues) {
  const outcome = toDraft(values);
  if (!outcome.ok) throw new Error(JSON.stringify(outcome.errors));
  return outcome.value;
}

describe('the product form', () => {
  it('writes the price with exactly the digits that were typed', () => {
    const values = { ...emptyValues('s'), name: 'A' };
    for (const [typed, sent] of [
      ['99.99', '99.99'],
      ['99.990', '99.99'],
      ['0.07', '0.07'],
      ['9999999999.99', '9999999999.99'],
    ] as const) {
      expect(JSON.stringify(draftOf({ ...values, price: typed }).price)).toBe(sent);
    }
  });

  it.each(['', 'ten', '1,50', '-1', '1e2', '12345678901234.99'])(
    'does not send %j as a price',
    (price) => {
      const outcome = toDraft({ ...emptyValues('s'), name: 'A', price });
      expect(outcome).toMatchObject({ ok: false, errors: { price: expect.any(String) as string } });
    },
  );

  it('asks for name, price, stock and seller all at once', () => {
    const outcome = toDraft({ ...emptyValues(''), stock: '1.5' });
    expect(outcome.ok || Object.keys(outcome.errors).sort()).toEqual([
      'name',
      'price',
      'sellerId',
      'stock',
    ]);
  });

  it('keeps text as typed and leaves empty optional fields null', () => {
    const draft = draftOf({
      ...emptyValues('s'),
      name: ' Lamp ',
      price: '1',
      currency: 'eur',
      tags: ' a, b ,,',
    });
    expect(draft).toMatchObject({
      name: ' Lamp ',
      currency: 'EUR',
      tags: ['a', 'b'],
      sku: null,
      category: null,
      description: null,
    });
  });

  it('patches only what differs', () => {
    const base = product({ sku: 'A-1', description: 'old', tags: ['x'] });
    const values = valuesOf(base);
    expect(patchBetween(base, draftOf(values))).toBeNull();
    expect(
      patchBetween(base, draftOf({ ...values, price: '5', description: '', tags: 'x, y' })),
    ).toEqual({ price: 5, description: null, tags: ['x', 'y'] });
  });

  it('does not take a tag with a comma in it for a change', () => {
    const base = product({ tags: ['red, blue', 'x'] });
    expect(patchBetween(base, draftOf(valuesOf(base)))).toBeNull();
  });

  it('puts the errors of a problem at the fields that their pointers name', () => {
    const problem = readProblem(
      422,
      {
        detail: 'Not accepted.',
        code: 'validation_failed',
        errors: [
          { pointer: '/price', code: 'x', detail: 'must be less precise' },
          { pointer: '/tags/0', code: 'x', detail: 'Too long.' },
          { pointer: '/tags/1', code: 'x', detail: 'Too long as well.' },
          { pointer: '', code: 'x', detail: 'Odd body.' },
        ],
      },
      null,
    );
    expect(placeErrors(problem, PRODUCT_FIELDS)).toEqual({
      fields: { price: 'Must be less precise.', tags: 'Too long. Too long as well.' },
      rest: ['Odd body.'],
    });
  });

  it('shows the detail of a problem without errors at the head', () => {
    const problem = readProblem(409, { detail: 'Only 3 left.' }, null);
    expect(placeErrors(problem, PRODUCT_FIELDS)).toEqual({ fields: {}, rest: ['Only 3 left.'] });
  });

  it('makes a readable problem of a body that is none', () => {
    expect(readProblem(502, undefined, 'r-1')).toMatchObject({
      detail: 'The API answered 502.',
      requestId: 'r-1',
      errors: [],
    });
  });
});

describe('the stock form', () => {
  it.each([
    ['12', 12],
    ['+3', 3],
    ['-2', -2],
    ['−2', -2],
  ])('reads %s', (typed, delta) => {
    expect(toChange(typed, 'count')).toEqual({ ok: true, value: { delta, reason: 'count' } });
  });

  it.each(['', '0', '1.5', '--1'])('refuses %j', (typed) => {
    expect(toChange(typed, 'count').ok).toBe(false);
  });

  it('asks for a reason', () => {
    expect(toChange('1', ' ')).toMatchObject({ errors: { reason: expect.any(String) as string } });
  });
});

describe('an intent', () => {
  async function keysOf(failure: Error, bodies: readonly [unknown, unknown]): Promise<string[]> {
    const intent = new Intent();
    const keys: string[] = [];
    const send = async (body: unknown, error: Error | null): Promise<void> => {
      await intent.send(body, (key) => {
        keys.push(key);
        return error === null ? Promise.resolve() : Promise.reject(error);
      });
    };
    await expect(send(bodies[0], failure)).rejects.toBe(failure);
    await send(bodies[1], null);
    return keys;
  }
  const problem = (status: number, code: string) =>
    new ApiProblem(readProblem(status, { code }, null));

  it.each<[string, Error]>([
    ['no answer', new NoAnswer('cut')],
    ['a failing server', problem(503, 'unavailable')],
    ['a first attempt still under way', problem(409, 'idempotency_key_in_flight')],
  ])('keeps its key after %s', async (_, failure) => {
    const [first, second] = await keysOf(failure, [{ a: 1 }, { a: 1 }]);
    expect(second).toBe(first);
  });

  it('takes a new key after a refusal, which the API would replay', async () => {
    const refusal = problem(409, 'insufficient_stock');
    const [first, second] = await keysOf(refusal, [{ a: 1 }, { a: 1 }]);
    expect(second).not.toBe(first);
  });

  it('takes a new key for another body', async () => {
    const [first, second] = await keysOf(new NoAnswer('cut'), [{ a: 1 }, { a: 2 }]);
    expect(second).not.toBe(first);
  });
});
