"""The audit trail: who did what to which thing, as its seller reads it."""
