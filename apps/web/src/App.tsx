import { useEffect, useMemo, useState, useSyncExternalStore } from 'react';

import { ApiClient } from './api/client';
import { fetchRecent } from './api/recent';
import type { Product } from './api/types';
import { AdjustStock } from './components/AdjustStock';
import { EventPanel } from './components/EventPanel';
import { Header } from './components/Header';
import { Notices } from './components/Notices';
import { CreateProduct, EditProduct } from './components/ProductDialogs';
import { ProductPanel } from './components/ProductPanel';
import type { Config } from './config';
import { rowsOf, type Row } from './console/catalog';
import { readSeller, writeSeller } from './console/seller';
import { ConsoleStore } from './console/store';
import { StreamClient } from './stream/client';

type Open =
  | { readonly kind: 'create' }
  | { readonly kind: 'edit'; readonly id: string }
  | { readonly kind: 'stock'; readonly id: string }
  | null;

export function App({ config }: { readonly config: Config }) {
  const [seller, setSeller] = useState(() => readSeller(window.location.search));
  const [otherSellers, setOtherSellers] = useState<readonly string[]>([]);
  const [open, setOpen] = useState<Open>(null);

  const api = useMemo(() => new ApiClient(config.apiUrl, seller), [config, seller]);
  const store = useMemo(
    () =>
      new ConsoleStore({
        api,
        connect: (startAt, handlers) =>
          new StreamClient({ url: config.streamUrl, sellerId: seller, startAt }, handlers),
        recent: () => fetchRecent(config.analyticsUrl, seller),
      }),
    [api, config, seller],
  );
  useEffect(() => {
    void store.start();
    return () => {
      store.stop();
    };
  }, [store]);
  const state = useSyncExternalStore(store.subscribe, store.getState);

  const rows = useMemo(() => rowsOf(state.catalog), [state.catalog]);
  const sellers = useMemo(
    () => [...new Set([...otherSellers, ...rows.map((row) => row.sellerId)])].sort(),
    [otherSellers, rows],
  );

  const close = (): void => {
    setOpen(null);
  };
  const changeSeller = (next: string | null): void => {
    setOtherSellers(sellers);
    setSeller(next);
    writeSeller(next);
    close();
  };
  const saved = (product: Product): void => {
    store.saved(product);
    close();
  };
  const chosen: Row | undefined =
    open === null || open.kind === 'create' ? undefined : rows.find((row) => row.id === open.id);

  return (
    <>
      <Header phase={state.phase} seller={seller} sellers={sellers} onSeller={changeSeller} />
      <main className="layout">
        <Notices
          loadError={state.loadError}
          gap={state.gap}
          onDismissGap={() => {
            store.dismissGap();
          }}
        />
        <ProductPanel
          rows={rows}
          loading={state.loading}
          truncated={state.truncated}
          showSeller={seller === null}
          onCreate={() => {
            setOpen({ kind: 'create' });
          }}
          onEdit={(id) => {
            setOpen({ kind: 'edit', id });
          }}
          onStock={(id) => {
            setOpen({ kind: 'stock', id });
          }}
        />
        <EventPanel log={state.log} received={state.received} phase={state.phase} />
      </main>
      {open?.kind === 'create' && (
        <CreateProduct api={api} seller={seller} onSaved={saved} onClose={close} />
      )}
      {open?.kind === 'edit' && chosen && (
        <EditProduct
          key={chosen.id}
          api={api}
          id={chosen.id}
          newestVersion={chosen.version}
          onSaved={saved}
          onClose={close}
        />
      )}
      {open?.kind === 'stock' && chosen && (
        <AdjustStock
          key={chosen.id}
          api={api}
          row={chosen}
          onSaved={(change) => {
            store.stockChanged(change);
            close();
          }}
          onClose={close}
        />
      )}
    </>
  );
}
