import { useState } from 'react';

import type { ApiClient } from '../api/client';
import type { StockChange } from '../api/types';
import type { Row } from '../console/catalog';
import { Intent } from '../console/idempotency';
import type { Outcome } from '../console/productForm';
import { Dialog } from './Dialog';
import { Field } from './Field';
import { FormFrame } from './FormFrame';
import { useSubmit } from './useSubmit';

const FIELDS = ['delta', 'reason'] as const;
type StockField = (typeof FIELDS)[number];

interface Change {
  readonly delta: number;
  readonly reason: string;
}

const SIGNED = /^[+-]?\d{1,10}$/;

/** Exported for its tests: the form's texts as a stock adjustment. */
export function toChange(delta: string, reason: string): Outcome<Change, StockField> {
  const errors: Partial<Record<StockField, string>> = {};
  // Phones and word processors write the minus sign in several ways.
  const number = delta.trim().replace(/^[−–]/, '-');
  if (!SIGNED.test(number) || Number(number) === 0) {
    errors.delta = 'Enter how many units to add, or −n to take away.';
  }
  if (reason.trim() === '') errors.reason = 'Say why; it is kept with the movement.';
  if (Object.keys(errors).length > 0) return { ok: false, errors };
  return { ok: true, value: { delta: Number(number), reason } };
}

interface AdjustStockProps {
  readonly api: Pick<ApiClient, 'adjustStock'>;
  readonly row: Row;
  readonly onSaved: (change: StockChange) => void;
  readonly onClose: () => void;
}

export function AdjustStock({ api, row, onSaved, onClose }: AdjustStockProps) {
  const [delta, setDelta] = useState('');
  const [reason, setReason] = useState('');
  const [intent] = useState(() => new Intent());
  const submission = useSubmit<StockField>(FIELDS);
  const parsed = toChange(delta, 'not needed yet');
  const after = parsed.ok ? row.stock + parsed.value.delta : -1;
  const save = (): void => {
    submission.submit(toChange(delta, reason), async (change) => {
      const body = { id: row.id, ...change };
      onSaved(await intent.send(body, (key) => api.adjustStock(row.id, change, key)));
    });
  };
  return (
    <Dialog title="Adjust stock" onClose={onClose}>
      <p className="lead">
        <strong>{row.name}</strong> has {row.stock.toLocaleString()} in stock
        {after >= 0 && (
          <>
            , then <strong>{after.toLocaleString()}</strong>
          </>
        )}
        .
      </p>
      <FormFrame {...submission} submitLabel="Adjust stock" onClose={onClose} onSubmit={save}>
        <Field label="Change" error={submission.errors.delta} hint="12 adds, −2 takes away">
          {(control) => (
            <input
              {...control}
              name="delta"
              value={delta}
              autoComplete="off"
              required
              onChange={(event) => {
                setDelta(event.target.value);
              }}
            />
          )}
        </Field>
        <Field label="Reason" error={submission.errors.reason} hint="Such as damaged, or delivery">
          {(control) => (
            <input
              {...control}
              name="reason"
              value={reason}
              maxLength={200}
              required
              onChange={(event) => {
                setReason(event.target.value);
              }}
            />
          )}
        </Field>
      </FormFrame>
    </Dialog>
  );
}
