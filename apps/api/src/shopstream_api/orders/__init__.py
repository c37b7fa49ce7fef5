"""Orders: what buyers place and sellers fulfil."""
