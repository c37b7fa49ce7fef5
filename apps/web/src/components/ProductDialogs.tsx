import { useEffect, useState } from 'react';

import type { ApiClient, Versioned } from '../api/client';
import type { Product } from '../api/types';
import { Intent } from '../console/idempotency';
import {
  emptyValues,
  patchBetween,
  PRODUCT_FIELDS,
  toDraft,
  valuesOf,
  type ProductField,
} from '../console/productForm';
import { Dialog } from './Dialog';
import { FormFrame } from './FormFrame';
import { ProductFields } from './ProductFields';
import { useSubmit } from './useSubmit';

interface CreateProductProps {
  readonly api: Pick<ApiClient, 'createProduct'>;
  readonly seller: string | null;
  readonly onSaved: (product: Product) => void;
  readonly onClose: () => void;
}

export function CreateProduct({ api, seller, onSaved, onClose }: CreateProductProps) {
  const [values, setValues] = useState(() => emptyValues(seller ?? ''));
  const [intent] = useState(() => new Intent());
  const submission = useSubmit<ProductField>(PRODUCT_FIELDS);
  return (
    <Dialog title="New product" onClose={onClose}>
      <FormFrame
        {...submission}
        submitLabel="Create product"
        onClose={onClose}
        onSubmit={() => {
          submission.submit(toDraft(values), async (draft) => {
            onSaved(await intent.send(draft, (key) => api.createProduct(draft, key)));
          });
        }}
      >
        <ProductFields
          creating
          values={values}
          errors={submission.errors}
          onChange={(field, value) => {
            setValues({ ...values, [field]: value });
          }}
        />
      </FormFrame>
    </Dialog>
  );
}

interface EditProductProps {
  readonly api: Pick<ApiClient, 'getProduct' | 'patchProduct'>;
  readonly id: string;
  /** The version the table shows now; it moves when somebody else saves. */
  readonly newestVersion: number;
  readonly onSaved: (product: Product) => void;
  readonly onClose: () => void;
}

type Base =
  | { readonly kind: 'reading' }
  | { readonly kind: 'failed'; readonly text: string }
  | { readonly kind: 'read'; readonly base: Versioned<Product> };

/** Edits what the API holds now, not what the table last showed, and never over a newer version. */
export function EditProduct({ api, id, newestVersion, onSaved, onClose }: EditProductProps) {
  const [base, setBase] = useState<Base>({ kind: 'reading' });
  const [round, setRound] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    const read = async (): Promise<void> => {
      try {
        const found = await api.getProduct(id, stop.signal);
        if (!stop.signal.aborted) setBase({ kind: 'read', base: found });
      } catch (error) {
        const text = error instanceof Error ? error.message : 'The product could not be read.';
        if (!stop.signal.aborted) setBase({ kind: 'failed', text });
      }
    };
    void read();
    return () => {
      stop.abort();
    };
  }, [api, id, round]);
  const readAgain = (): void => {
    setBase({ kind: 'reading' });
    setRound(round + 1);
  };

  return (
    <Dialog title="Edit product" onClose={onClose}>
      {base.kind === 'reading' && <p className="empty">Reading the product…</p>}
      {base.kind === 'failed' && (
        <p className="notice" data-tone="bad" role="alert">
          <span>{base.text}</span>
          <button type="button" onClick={readAgain}>
            Try again
          </button>
        </p>
      )}
      {base.kind === 'read' && (
        <EditForm
          key={round}
          api={api}
          base={base.base}
          newestVersion={newestVersion}
          onReadAgain={readAgain}
          onSaved={onSaved}
          onClose={onClose}
        />
      )}
    </Dialog>
  );
}

interface EditFormProps {
  readonly api: Pick<ApiClient, 'patchProduct'>;
  readonly base: Versioned<Product>;
  readonly newestVersion: number;
  readonly onReadAgain: () => void;
  readonly onSaved: (product: Product) => void;
  readonly onClose: () => void;
}

function EditForm({ api, base, newestVersion, onReadAgain, onSaved, onClose }: EditFormProps) {
  const product = base.value;
  const [values, setValues] = useState(() => valuesOf(product));
  const submission = useSubmit<ProductField>(PRODUCT_FIELDS);
  const stale = newestVersion > product.version || submission.code === 'version_mismatch';
  const save = (): void => {
    submission.submit(toDraft(values), async (draft) => {
      const patch = patchBetween(product, draft);
      if (patch === null) onClose();
      else onSaved(await api.patchProduct(product.id, patch, base.etag));
    });
  };
  return (
    <>
      {stale && !submission.busy && (
        <p className="notice" data-tone="warn" role="status">
          <span>
            This product was changed by somebody else while you were editing. The newest replaces
            what is typed here.
          </span>
          <button type="button" onClick={onReadAgain}>
            Load the newest
          </button>
        </p>
      )}
      <FormFrame
        {...submission}
        general={submission.code === 'version_mismatch' ? [] : submission.general}
        submitLabel="Save changes"
        onClose={onClose}
        onSubmit={save}
      >
        <ProductFields
          creating={false}
          values={values}
          errors={submission.errors}
          onChange={(field, value) => {
            setValues({ ...values, [field]: value });
          }}
        />
      </FormFrame>
    </>
  );
}
