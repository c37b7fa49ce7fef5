"""The analytics benchmark: what a core stores, how soon and how exactly, beside its floors."""
