import type { StreamPhase } from '../stream/port';
import { SellerPicker } from './SellerPicker';

const PHASE_TEXT: Readonly<Record<StreamPhase, string>> = {
  connecting: 'Connecting…',
  live: 'Live',
  reconnecting: 'Reconnecting…',
  closed: 'Stopped',
};

interface HeaderProps {
  readonly phase: StreamPhase;
  readonly seller: string | null;
  readonly sellers: readonly string[];
  readonly onSeller: (seller: string | null) => void;
}

export function Header({ phase, seller, sellers, onSeller }: HeaderProps) {
  return (
    <header className="top">
      <div className="brand">
        <img src="/favicon.svg" alt="" width="32" height="32" />
        <h1>Shopstream</h1>
      </div>
      <SellerPicker key={seller ?? ''} seller={seller} sellers={sellers} onChange={onSeller} />
      <p className="connection" data-phase={phase} role="status">
        <span className="dot" aria-hidden="true" />
        <span className="visually-hidden">Event stream: </span>
        {PHASE_TEXT[phase]}
      </p>
    </header>
  );
}
