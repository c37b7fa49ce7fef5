import { memo } from 'react';

import type { Row } from '../console/catalog';
import { money } from '../console/format';

interface ProductTableProps {
  readonly rows: readonly Row[];
  readonly showSeller: boolean;
  readonly onEdit: (id: string) => void;
  readonly onStock: (id: string) => void;
}

export function ProductTable({ rows, showSeller, onEdit, onStock }: ProductTableProps) {
  return (
    <table className="products">
      <caption className="visually-hidden">Products, newest first, kept up to date</caption>
      <thead>
        <tr>
          <th scope="col">Product</th>
          {showSeller && (
            <th scope="col" className="wide">
              Seller
            </th>
          )}
          <th scope="col" className="wide">
            Status
          </th>
          <th scope="col" className="number">
            Price
          </th>
          <th scope="col" className="number">
            Stock
          </th>
          <th scope="col">
            <span className="visually-hidden">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <ProductRow
            key={row.id}
            row={row}
            showSeller={showSeller}
            onEdit={onEdit}
            onStock={onStock}
          />
        ))}
      </tbody>
    </table>
  );
}

interface ProductRowProps {
  readonly row: Row;
  readonly showSeller: boolean;
  readonly onEdit: (id: string) => void;
  readonly onStock: (id: string) => void;
}

/** Rows are made anew with every batch of events; only those whose versions moved are drawn. */
const ProductRow = memo(
  function ProductRow({ row, showSeller, onEdit, onStock }: ProductRowProps) {
    const details = [row.sku, row.category].filter((text) => text !== null && text !== '');
    return (
      <tr data-product-id={row.id} data-status={row.status}>
        <th scope="row">
          <span className="name">{row.name}</span>
          {details.length > 0 && <span className="details">{details.join(' · ')}</span>}
          {showSeller && <span className="details narrow">{row.sellerId}</span>}
        </th>
        {showSeller && <td className="wide">{row.sellerId}</td>}
        <td className="wide">
          <span className="status" data-status={row.status}>
            {row.status}
          </span>
        </td>
        <td className="number" key={`p${row.version}`} data-live={row.liveProduct}>
          {money(row.price, row.currency)}
        </td>
        <td className="number" key={`s${row.inventoryVersion}`} data-live={row.liveStock}>
          {row.warning !== null && (
            <span className="chip" data-tone={row.warning === 'out' ? 'bad' : 'warn'}>
              {row.warning === 'out' ? 'Out' : 'Low'}
            </span>
          )}
          <span className="stock">{row.stock.toLocaleString()}</span>
        </td>
        <td className="actions">
          <button
            type="button"
            aria-label={`Adjust stock of ${row.name}`}
            onClick={() => {
              onStock(row.id);
            }}
          >
            Stock
          </button>
          <button
            type="button"
            aria-label={`Edit ${row.name}`}
            onClick={() => {
              onEdit(row.id);
            }}
          >
            Edit
          </button>
        </td>
      </tr>
    );
  },
  (before, after) =>
    before.row.version === after.row.version &&
    before.row.inventoryVersion === after.row.inventoryVersion &&
    before.row.warning === after.row.warning &&
    before.showSeller === after.showSeller,
);
