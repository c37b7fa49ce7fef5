"""Stock: what can be sold, what is held, and the ledger of every change."""
