import { useId, useMemo, useState } from 'react';

import type { Row } from '../console/catalog';
import { MAX_ROWS } from '../console/store';
import type { ConsoleState } from '../console/store';
import { ProductTable } from './ProductTable';

interface ProductPanelProps {
  readonly rows: readonly Row[];
  readonly loading: ConsoleState['loading'];
  readonly truncated: boolean;
  readonly showSeller: boolean;
  readonly onCreate: () => void;
  readonly onEdit: (id: string) => void;
  readonly onStock: (id: string) => void;
}

export function ProductPanel(props: ProductPanelProps) {
  const { rows, loading, truncated, showSeller, onCreate, onEdit, onStock } = props;
  const headingId = useId();
  const [search, setSearch] = useState('');
  const [shortOnly, setShortOnly] = useState(false);

  const out = rows.filter((row) => row.warning === 'out').length;
  const short = rows.filter((row) => row.warning !== null).length;
  const shown = useMemo(() => filterRows(rows, search, shortOnly), [rows, search, shortOnly]);

  return (
    <section className="panel" aria-labelledby={headingId} aria-busy={loading !== 'done'}>
      <div className="panel-head">
        <h2 id={headingId}>
          Products <span className="count">{rows.length}</span>
        </h2>
        <LowStockBadge
          short={short}
          out={out}
          pressed={shortOnly}
          onToggle={() => {
            setShortOnly(!shortOnly);
          }}
        />
        <button type="button" className="primary push" onClick={onCreate}>
          New product
        </button>
      </div>
      <div className="toolbar">
        <label className="visually-hidden" htmlFor={`${headingId}-search`}>
          Search products
        </label>
        <input
          id={`${headingId}-search`}
          type="search"
          placeholder="Search name, SKU, category or seller"
          value={search}
          onChange={(event) => {
            setSearch(event.target.value);
          }}
        />
      </div>
      {shown.length > 0 ? (
        <ProductTable rows={shown} showSeller={showSeller} onEdit={onEdit} onStock={onStock} />
      ) : (
        <p className="empty">{emptyText(rows.length, loading)}</p>
      )}
      {truncated && (
        <p className="footnote">
          The newest {MAX_ROWS.toLocaleString()} products are shown. Choose a seller to see fewer.
        </p>
      )}
    </section>
  );
}

interface BadgeProps {
  readonly short: number;
  readonly out: number;
  readonly pressed: boolean;
  readonly onToggle: () => void;
}

function LowStockBadge({ short, out, pressed, onToggle }: BadgeProps) {
  const text = short === 0 ? 'No low stock' : `${short} low on stock`;
  const tone = out > 0 ? 'bad' : short > 0 ? 'warn' : 'good';
  return (
    <>
      <button
        type="button"
        className="badge"
        data-tone={tone}
        data-testid="low-stock-badge"
        aria-pressed={pressed}
        disabled={short === 0 && !pressed}
        title={pressed ? 'Show all products' : 'Show only these'}
        onClick={onToggle}
      >
        {text}
        {out > 0 && <span className="badge-part">{out} of them out</span>}
      </button>
      <span className="visually-hidden" role="status">
        {text}
        {out > 0 && `, ${out} of them out`}
      </span>
    </>
  );
}

function filterRows(rows: readonly Row[], search: string, shortOnly: boolean): readonly Row[] {
  const needle = search.trim().toLocaleLowerCase();
  return rows.filter((row) => {
    if (shortOnly && row.warning === null) return false;
    if (needle === '') return true;
    const hay = [row.name, row.sku, row.category, row.sellerId, ...row.tags];
    return hay.some((text) => text?.toLocaleLowerCase().includes(needle));
  });
}

function emptyText(total: number, loading: ConsoleState['loading']): string {
  if (loading === 'first') return 'Reading products…';
  return total === 0
    ? 'No products yet. Create the first one; it appears here and in the event list.'
    : 'No product matches.';
}
