import type { GapReason } from '../stream/port';

const GAP_TEXT: Readonly<Record<GapReason, string>> = {
  malformed_id: 'The place to go on from could not be read.',
  unknown_epoch: 'The event log was started anew.',
  evicted: 'The events missed were too old to be sent again.',
  future: 'The event log is shorter than it was.',
  lagged: 'This page was too slow and some events were left out.',
  not_resumed: 'The connection came back without the events in between.',
};

interface NoticesProps {
  readonly loadError: string | null;
  readonly gap: GapReason | null;
  readonly refused: string | null;
  readonly onDismissGap: () => void;
}

export function Notices({ loadError, gap, refused, onDismissGap }: NoticesProps) {
  return (
    <div className="notices" aria-live="polite">
      {loadError !== null && (
        <p className="notice" data-tone="bad">
          The products could not be read: {loadError} Trying again.
        </p>
      )}
      {refused !== null && (
        <p className="notice" data-tone="bad">
          The live stream is refused ({refused}). Trying again.
        </p>
      )}
      {gap !== null && (
        <p className="notice" data-tone="warn">
          <span>
            {GAP_TEXT[gap]} The products were read again and are up to date; the list of events may
            have a hole.
          </span>
          <button type="button" className="quiet" onClick={onDismissGap}>
            Dismiss
          </button>
        </p>
      )}
    </div>
  );
}
