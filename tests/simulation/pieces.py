"""The safety pieces of the relay's protocol, each of which can be left out."""

from enum import Enum


class Piece(Enum):
    """A piece; its value says what is done without it."""

    PROGRESS_RECORD = "nobody reads what was published before"
    FENCING = "each producer has a transactional id of its own"
    COMMIT_ONLY_AGAIN = "a commit that was not answered is taken for an abort, and sent again"
    ORDER_BY_SEQ = "rows are taken in the order of their event ids"
    ALL_UNDELETED_ROWS = "rows are taken from the last one on"
    OLDER_ROWS_FIRST = "a batch that was read ahead goes before older rows committed meanwhile"
    SETTLED_BEFORE_LISTED = "a batch is listed while the rows of the one before may still be there"
    WHOLE_TRANSACTIONS = "a batch ends where it is full"
    LSO_WAIT = "progress is read up to what is stable, whatever is open"
    OUTBOX_IDENTITY = "the progress of any outbox is taken for one's own"
    TRANSACTIONAL_ID = "nobody knows which transactional id was used before"
    NEW_PRODUCER = "a producer that asked twice for a commit begins another transaction"
